package portal

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
	"inkan/internal/webkit"
)

// Applications is the application site's part of the registration authority (発行申請).
type Applications interface {
	Draft(ctx context.Context, in ra.DraftInput) (ra.Draft, error)
	DraftOf(ctx context.Context, flow string) (ra.Draft, error)
	OpenDraft(ctx context.Context, token pki.Secret) (ra.Draft, error)
	Apply(ctx context.Context, token pki.Secret) (pki.Request, error)
	ProgressOf(ctx context.Context, requestID, code string) (ra.Progress, error)
	OpenStatus(ctx context.Context, token pki.Secret) (pki.Request, error)
	Withdraw(ctx context.Context, token pki.Secret, source netip.Addr) error
}

// The steps of an application's flow.
const (
	stepConfirm = "confirm" // the contents are shown, and asked
	stepEdit    = "edit"    // the form again
	stepSent    = "sent"    // the mail that confirms the address is on its way
)

func (p *Portal) mountApply(route func(string, webkit.Handler)) {
	route("GET /p/rcr", p.getApplication)
	route("POST /p/rcr", p.postApplication)
	p.mountFlow(route, p.applying())
	route("GET /p/rcr/c/{token}", p.getConfirmation)
	route("POST /p/rcr/c/{token}", p.postConfirmation)
	route("GET /p/status", p.getProgress)
	route("POST /p/status", p.postProgress)
	route("GET /p/status/l/{token...}", p.getStatus)
	route("POST /p/status/l/{token...}", p.postStatus)
}

// applyPages gives every page of an application with data to draw it with.
func applyPages() map[string]any {
	return map[string]any{
		"rcr": blankApplication(), "rcr-confirm": applyPage{}, "rcr-sent": applyPage{}, "rcr-link": linkPage{},
		"rcr-done": linkPage{Draft: ra.Draft{Request: &pki.Request{}}}, "status": progressPage{}, "status-link": statusPage{},
	}
}

func (p *Portal) applying() sequence {
	return sequence{kind: "apply", base: "/p/rcr", zone: zonePlain, show: p.showApplying, act: p.actApplying,
		typing: stepEdit, typed: typedApplication}
}

// typedFields are the fields of the form, in the order of the page.
var typedFields = []string{"holderKind", "holderCode", "department", "phone", "email", "emailConfirm", "maintenanceEmail", "terminalName", "paymentMethod"}

// applyForm is the page with the form; its fields keep what was typed.
type applyForm struct {
	three
	stepForm // of the form within a flow; zero on the first page, which has none yet
	Typed    map[string]string
	Wrong    map[string]*drawn // by field
	Faults   []string          // the fields of Wrong, in the order of the page
	// Seven: the code has seven digits, and the prefecture makes ten of them. Suggested
	// are those ten, for the person to say yes to.
	Seven      bool
	Suggested  string
	Prefecture string
}

func blankApplication() applyForm {
	return applyForm{Typed: map[string]string{"paymentMethod": "1"}, Wrong: map[string]*drawn{}}
}

// typedApplication reads a form as people type it: full-width letters where ASCII is
// meant, letters in pieces, blanks at the ends.
func typedApplication(r *http.Request, flow store.Flow) map[string]string {
	typed := map[string]string{"round": flow.Facts["round"], "prefecture": r.PostForm.Get("prefecture")}
	for _, name := range typedFields {
		typed[name] = strings.TrimSpace(norm.NFC.String(r.PostForm.Get(name)))
	}
	for _, name := range []string{"email", "emailConfirm", "maintenanceEmail", "phone"} {
		typed[name] = width.Fold.String(typed[name])
	}
	typed["phone"] = strings.NewReplacer("ー", "-", "−", "-", "‐", "-", "―", "-", " ", "-", "　", "-").Replace(typed["phone"])
	typed["holderCode"] = pki.NarrowDigits(typed["holderCode"])
	return typed
}

// checkApplication says what is wrong with what was typed. accepted is the person's yes
// to the ten digits that were suggested.
func checkApplication(typed map[string]string, accepted bool) applyForm {
	form := blankApplication()
	form.Typed, form.Prefecture = typed, typed["prefecture"]
	form.complete(accepted)
	form.check()
	return form
}

// complete makes ten digits of seven, where kind and prefecture say how.
func (f *applyForm) complete(accepted bool) {
	kind := pki.HolderKind(f.Typed["holderKind"])
	_, err := pki.ParseHolder(kind, f.Typed["holderCode"])
	info, _ := kind.Info()
	if pki.CodeOf(err) != "holder.code_short" || info.Table == 0 {
		return
	}
	f.Seven = true
	number, err := strconv.Atoi(f.Prefecture)
	if err != nil {
		return
	}
	h, err := pki.Complete(kind, number, f.Typed["holderCode"])
	switch {
	case err != nil:
		f.wrong("holderCode", err)
	case accepted:
		f.Typed["holderCode"], f.Seven = h.Code, false
	default:
		f.Suggested = h.Code
	}
}

func (f *applyForm) wrong(field string, err error) {
	_, known := f.Wrong[field]
	if !known {
		f.Wrong[field] = &drawn{Code: pki.CodeOf(err), Args: i18n.ArgsOf(err)}
	}
}

func (f *applyForm) check() {
	typed := f.Typed
	if typed["holderKind"] == "" {
		f.wrong("holderKind", pki.E(pki.Invalid, "holder.kind_missing"))
	}
	if typed["holderCode"] == "" {
		f.wrong("holderCode", pki.E(pki.Invalid, "holder.code_missing"))
	}
	switch typed["emailConfirm"] {
	case "":
		f.wrong("emailConfirm", pki.E(pki.Invalid, "email.again"))
	case typed["email"]:
	default:
		f.wrong("emailConfirm", pki.E(pki.Invalid, "email.differs"))
	}
	for _, fault := range f.application().FormFaults() {
		if fault.Field == "holderCode" && f.Wrong["holderKind"] != nil {
			continue // what a code should be depends on the kind
		}
		f.wrong(fault.Field, fault.Err)
	}
	for _, name := range typedFields {
		if f.Wrong[name] != nil {
			f.Faults = append(f.Faults, name)
		}
	}
}

func (f *applyForm) application() pki.Application { return applicationOf(f.Typed) }

// applicationOf reads the facts of a flow, or what was just typed.
func applicationOf(typed map[string]string) pki.Application {
	payment, _ := strconv.Atoi(typed["paymentMethod"]) // 0 is refused
	holder := pki.Holder{Kind: pki.HolderKind(typed["holderKind"]), Code: typed["holderCode"]}
	parsed, err := pki.ParseHolder(holder.Kind, holder.Code)
	if err == nil {
		holder = parsed // an insurer's six digits are eight
	}
	return pki.Application{Holder: holder, TerminalName: typed["terminalName"], Email: typed["email"], MaintenanceEmail: typed["maintenanceEmail"],
		Department: typed["department"], Phone: typed["phone"], PaymentMethod: payment}
}

// input is one field of text as the template draws it.
type input struct {
	Name, Value, Type, Class, Mode, Auto string
	Must                                 bool
	Wrong                                *drawn
}

var inputs = map[string]input{
	"holderCode":       {Type: "text", Class: "w10", Mode: "numeric", Auto: "off", Must: true},
	"department":       {Type: "text", Auto: "off", Must: true},
	"phone":            {Type: "tel", Class: "w15", Mode: "tel", Auto: "tel", Must: true},
	"email":            {Type: "email", Mode: "email", Auto: "email", Must: true},
	"emailConfirm":     {Type: "email", Mode: "email", Auto: "off", Must: true},
	"maintenanceEmail": {Type: "email", Mode: "email", Auto: "off"},
	"terminalName":     {Type: "text", Auto: "off", Must: true},
}

// Input gives a field to the template.
func (f applyForm) Input(name string) input {
	in := inputs[name]
	in.Name, in.Value, in.Wrong = name, f.Typed[name], f.Wrong[name]
	return in
}

// Kinds are the choices of 種別.
func (f applyForm) Kinds() []pki.KindInfo { return pki.Kinds() }

// Prefectures are the choices of a prefecture, by number.
func (f applyForm) Prefectures() []string { return prefectureNumbers }

var prefectureNumbers = func() []string {
	var out []string
	for n := range pki.Prefectures() {
		out = append(out, strconv.Itoa(n+1))
	}
	return out
}()

func (p *Portal) getApplication(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	return p.show(w, r, "rcr", "rcr.title", "RCR-1", blankApplication())
}

// postApplication begins a flow with what was typed, right or wrong: from then on it is
// kept (ADR 145). Nothing is applied for yet.
func (p *Portal) postApplication(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	webkit.Browser(w, r)
	err = p.budgets.look.take(r)
	if err != nil {
		return err
	}
	step, typed := stepAfter(r, store.Flow{})
	return p.begin(w, r, p.applying(), "", step, typed)
}

// stepAfter is where the form leads, with what was typed: on, or to itself with what is
// wrong.
func stepAfter(r *http.Request, flow store.Flow) (string, map[string]string) {
	form := checkApplication(typedApplication(r, flow), r.PostForm.Get("action") == "useCode")
	if len(form.Faults) > 0 {
		return stepEdit, form.Typed
	}
	return stepConfirm, form.Typed
}

// retype draws the form again with what was wrong.
func (p *Portal) retype(w http.ResponseWriter, r *http.Request, form applyForm) error {
	f := p.report.Note(r, pki.E(pki.Invalid, "apply.fields").With("N", len(form.Faults)))
	form.three = p.three(f)
	title := i18n.Text(f.Lang, "error."+form.Failure.Code+".title", form.Failure.Args)
	return p.send(w, r, f.Status, "rcr", p.page(title, screenOf(f.Code), true, form))
}

// applyPage is a page of an application that was typed.
type applyPage struct {
	ra.Draft
	stepForm
	Later bool // its mail leaves another day
}

func (p *Portal) showApplying(w http.ResponseWriter, r *http.Request, flow store.Flow) error {
	webkit.Browser(w, r)
	sealed := formOf(r, zonePlain, flow.Step)
	switch flow.Step {
	case stepConfirm:
		page := applyPage{Draft: ra.Draft{Application: applicationOf(flow.Facts)}, stepForm: sealed}
		return p.show(w, r, "rcr-confirm", "rcr.confirm.title", "RCR-2", page)
	case stepSent:
		draft, err := p.office.DraftOf(r.Context(), flow.ID)
		if err != nil {
			return err
		}
		return p.show(w, r, "rcr-sent", "rcr.sent.title", "RCR-3", applyPage{Draft: draft, stepForm: sealed, Later: draft.MailAt.After(p.Now())})
	}
	form := checkApplication(flow.Facts, false)
	form.stepForm = sealed
	if len(form.Faults) > 0 {
		return p.retype(w, r, form)
	}
	return p.show(w, r, "rcr", "rcr.title", "RCR-1", form)
}

func (p *Portal) actApplying(w http.ResponseWriter, r *http.Request, flow store.Flow) (bool, error) {
	back := r.PostForm.Get("action") == "back"
	switch {
	case flow.Step == stepEdit:
		step, typed := stepAfter(r, flow)
		return false, p.Flows.Move(r.Context(), flow, "", step, typed)
	case back:
		if flow.Step == stepSent { // what is sent next takes the place of what was sent
			flow.Facts["round"] = strconv.Itoa(round(flow) + 1)
		}
		return false, p.Flows.Move(r.Context(), flow, "", stepEdit, flow.Facts)
	case flow.Step == stepConfirm:
		err := p.budgets.send.take(r)
		if err != nil {
			return false, err
		}
		_, err = p.office.Draft(r.Context(), ra.DraftInput{Flow: flow.ID, Round: round(flow), Application: applicationOf(flow.Facts), Language: webkit.Lang(r)})
		if err != nil {
			return false, err
		}
		return false, p.Flows.Move(r.Context(), flow, "", stepSent, flow.Facts)
	}
	return false, nil
}

// round is how often the flow's application was sent already.
func round(flow store.Flow) int {
	n, _ := strconv.Atoi(flow.Facts["round"]) // "" is the first
	return n
}
