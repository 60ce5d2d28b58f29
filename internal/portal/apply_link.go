package portal

import (
	"net/http"
	"net/netip"
	"time"

	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/webkit"
)

// applyBudgets bound what one source may cause on the pages that ask nobody who he is.
type applyBudgets struct {
	send sourceBudget // mails
	look sourceBudget // looks at states and links, and new flows
}

func newApplyBudgets(nets []netip.Prefix, now func() time.Time) applyBudgets {
	return applyBudgets{send: newSourceBudget(20, 30*time.Second, nets, now), look: newSourceBudget(60, time.Second, nets, now)}
}

// sourceBudget is a budget per source; networks in which many institutions share one
// address have ten times as much.
type sourceBudget struct {
	own, shared *webkit.Budget[netip.Addr]
	nets        []netip.Prefix
}

func newSourceBudget(tries int, every time.Duration, nets []netip.Prefix, now func() time.Time) sourceBudget {
	return sourceBudget{nets: nets, own: webkit.NewBudget[netip.Addr](tries, every, maxSources, now),
		shared: webkit.NewBudget[netip.Addr](10*tries, every/10, maxSources, now)}
}

func (b sourceBudget) take(r *http.Request) error {
	source, shared := webkit.SourceNetwork(webkit.Source(r), b.nets)
	budget := b.own
	if shared {
		budget = b.shared
	}
	until, ok := budget.Take(source)
	if !ok {
		return pki.E(pki.Limited, "apply.slow").With("Until", until)
	}
	return nil
}

// linkPage is the page of the link in the mail that confirms the address: the contents
// with a button, or the receipt.
type linkPage struct {
	ra.Draft
	Form string
}

func (p *Portal) getConfirmation(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	err := p.budgets.look.take(r)
	if err != nil {
		return err
	}
	draft, err := p.office.OpenDraft(r.Context(), pki.Secret(r.PathValue("token")))
	if err != nil {
		return err
	}
	if draft.Request != nil {
		return p.show(w, r, "rcr-done", "rcr.done.title", "RCR-5", linkPage{Draft: draft})
	}
	return p.show(w, r, "rcr-link", "rcr.link.title", "RCR-4", linkPage{Draft: draft, Form: webkit.FormSeal(r, zonePlain, "apply")})
}

// postConfirmation makes the request, once, and leads to its receipt.
func (p *Portal) postConfirmation(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	err = p.budgets.look.take(r)
	if err != nil {
		return err
	}
	err = webkit.CheckForm(r, zonePlain, "apply")
	if err != nil {
		return err
	}
	_, err = p.office.Apply(r.Context(), pki.Secret(r.PathValue("token")))
	if err != nil {
		return err
	}
	return seeOther(w, r.URL.Path)
}

// progressPage is /p/status. It repeats nothing that was typed, so that two answers
// differ in their word alone (threat AP3).
type progressPage struct{ Progress ra.Progress }

func (p *Portal) getProgress(w http.ResponseWriter, r *http.Request) error {
	return p.show(w, r, "status", "status.title", "ST-1", progressPage{})
}

func (p *Portal) postProgress(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	err = p.budgets.look.take(r)
	if err != nil {
		return err
	}
	progress, err := p.office.ProgressOf(r.Context(), r.PostForm.Get("receiptNumber"), r.PostForm.Get("holderCode"))
	if err != nil {
		return err
	}
	return p.show(w, r, "status", "status.title", "ST-1", progressPage{progress})
}

// statusPage shows a request to who has its mailed link.
type statusPage struct {
	Request      pki.Request
	Withdrawable bool
	Form         string
}

func (p *Portal) getStatus(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	err := p.budgets.look.take(r)
	if err != nil {
		return err
	}
	request, err := p.office.OpenStatus(r.Context(), pki.Secret(r.PathValue("token")))
	if err != nil {
		return err
	}
	page := statusPage{Request: request, Withdrawable: ra.Withdrawable(request), Form: webkit.FormSeal(r, zonePlain, "withdraw")}
	return p.show(w, r, "status-link", "status.link.title", "ST-2", page)
}

// postStatus withdraws a request (取下げ).
func (p *Portal) postStatus(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	err = p.budgets.look.take(r)
	if err != nil {
		return err
	}
	token := pki.Secret(r.PathValue("token"))
	_, err = p.office.OpenStatus(r.Context(), token)
	if err == nil {
		err = webkit.CheckForm(r, zonePlain, "withdraw")
		if err != nil {
			return err
		}
	}
	err = p.office.Withdraw(r.Context(), token, webkit.Source(r)) // who has no link is refused there, on the record
	if err != nil {
		return err
	}
	return seeOther(w, r.URL.Path)
}
