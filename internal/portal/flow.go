package portal

import (
	"net/http"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/webkit"
)

// sequence is one sequence of pages on flows: the one dispatcher of each. Its row says
// which page is shown and what a button does; steps never call steps.
type sequence struct {
	kind string
	base string // "/p/rcr": a flow is at base/f/{flow}
	zone string
	// show draws the page of the flow's step, with formOf(r, zone, step) in its form.
	show func(w http.ResponseWriter, r *http.Request, flow store.Flow) error
	// act does what was pressed on the page of the flow's step and moves the flow on. It may
	// be called twice for one press and has the same effect. The form is parsed. What is
	// wrong with what was typed it draws itself, and says that it wrote the answer.
	act func(w http.ResponseWriter, r *http.Request, flow store.Flow) (wrote bool, err error)
	// typing is the step on which people type, and typed gives the flow's facts with what
	// they did: so that a form that is sent after its session's end is not lost.
	typing string
	typed  func(r *http.Request, flow store.Flow) map[string]string
}

// stepForm is what the form of a flow's page carries.
type stepForm struct{ Step, Form string }

func formOf(r *http.Request, zone, step string) stepForm {
	return stepForm{Step: step, Form: webkit.FormSeal(r, zone, step)}
}

const resume = "resume" // the step of the form on the page of a session's end

func (p *Portal) mountFlow(route func(string, webkit.Handler), s sequence) {
	route("GET "+s.base+"/f/{flow}", func(w http.ResponseWriter, r *http.Request) error {
		flow, err := p.Flows.Read(r.Context(), r.PathValue("flow"), s.kind, webkit.Owner(r, s.zone))
		if err != nil {
			return p.paused(w, r, s, err)
		}
		return s.show(w, r, flow)
	})
	route("POST "+s.base+"/f/{flow}", func(w http.ResponseWriter, r *http.Request) error { return p.step(w, r, s) })
}

// begin stores a flow of whoever asks and leads to its page.
func (p *Portal) begin(w http.ResponseWriter, r *http.Request, s sequence, subject, step string, facts map[string]string) error {
	flow, err := p.Flows.Begin(r.Context(), s.kind, webkit.Owner(r, s.zone), subject, step, facts)
	if err != nil {
		return err
	}
	return seeOther(w, s.base+"/f/"+flow.ID)
}

func (p *Portal) step(w http.ResponseWriter, r *http.Request, s sequence) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	drawnFor := r.PostForm.Get("step")
	err = webkit.CheckForm(r, s.zone, drawnFor)
	if err != nil {
		return err
	}
	flow, err := p.Flows.Read(r.Context(), r.PathValue("flow"), s.kind, webkit.Owner(r, s.zone))
	switch {
	case drawnFor == resume && pki.CodeOf(err) == "flow.ended":
		err = p.Flows.Resume(r.Context(), flow)
		if err != nil {
			return err
		}
	case pki.CodeOf(err) == "flow.ended" && flow.Step == s.typing && drawnFor == s.typing:
		kept := p.Flows.Keep(r.Context(), flow, s.typed(r, flow))
		if kept != nil {
			return kept
		}
		return p.paused(w, r, s, err)
	case err != nil:
		return p.paused(w, r, s, err)
	case drawnFor == flow.Step:
		wrote, err := s.act(w, r, flow)
		if err != nil || wrote {
			return err
		}
	} // else it was pressed on an older page, or twice: the page of the flow says what is true now
	return seeOther(w, r.URL.Path)
}

// paused is the page of a session's end (セッションタイムアウト): one press leads back to the
// same step. Any other error it passes on.
func (p *Portal) paused(w http.ResponseWriter, r *http.Request, s sequence, err error) error {
	if pki.CodeOf(err) != "flow.ended" {
		return err
	}
	f := p.report.Note(r, err)
	page, form := p.failureOn(r, f), formOf(r, s.zone, resume)
	page.Again, page.Resume = "", &form // what leads to the first page would begin anew
	return p.sendFailure(w, f, page)
}
