package portal

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"strconv"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/webkit"
)

// Renewals is the renewal site's part of the registration authority (電子証明書の更新).
type Renewals interface {
	Present(ctx context.Context, leaf *x509.Certificate) (ra.Presented, error)
	Others(ctx context.Context, a pki.Authority) ([]pki.Certificate, error)
	Renew(ctx context.Context, in ra.RenewInput) (pki.Request, error)
	Renewal(ctx context.Context, leaf *x509.Certificate, id string) (ra.Renewed, error)
	RenewalList(ctx context.Context, leaf *x509.Certificate, page int) (list []ra.Renewed, more bool, err error)
	// Standing says why the certificate opens no page of renewals now.
	Standing(ctx context.Context, leaf *x509.Certificate) error
	PrepareRenewal(ctx context.Context, leaf *x509.Certificate, in ra.PickupInput) (pki.Secret, error)
}

func (p *Portal) mountRenewal(route func(string, webkit.Handler)) {
	route("GET /p/ru", p.getRenew)
	route("POST /p/ru", p.postRenew)
	route("GET /p/ru/apply", p.getApply)
	route("POST /p/ru/apply", p.postApply)
	route("GET /p/ru/list", p.getRenewals)
	route("GET /p/ru/r/{request}", p.getRenewal)
	route("POST /p/ru/r/{request}", p.postRenewal)
	p.mountTickets(route, renewalTickets)
}

// renewHome is who the visitor is, and the page that asks before a renewal.
type renewHome struct {
	ra.Presented
	DaysLeft int
	Opens    bool // renewal is possible now
	From     any  // the day from which it is
	NewEnd   any  // about when a renewed certificate would end
	Others   []pki.Certificate
	Form     string
}

func (p *Portal) home(r *http.Request) (renewHome, error) {
	v, err := p.office.Present(r.Context(), webkit.Leaf(r))
	if err != nil {
		return renewHome{}, err
	}
	err = v.MayLook()
	if err != nil {
		return renewHome{}, err
	}
	c, now := v.Authority.Certificate, p.Now()
	opens := pki.RenewalOpens(c.NotAfter)
	h := renewHome{Presented: v, DaysLeft: pki.DaysLeft(now, c.NotAfter), From: opens, NewEnd: pki.AddMonths(now, pki.ValidityMonths)}
	h.Opens = v.Verdict == ra.Verdict(pki.Valid) && !now.Before(opens)
	if v.Usable() {
		h.Others, err = p.office.Others(r.Context(), v.Authority)
	}
	return h, err
}

func (p *Portal) getRenew(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	h, err := p.home(r)
	if err != nil {
		return err
	}
	return p.show(w, r, "ru", "ru.title", "RU-1", h)
}

// postRenew leads on; it changes nothing.
func (p *Portal) postRenew(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	if r.PostForm.Get("action") == "list" {
		return seeOther(w, "/p/ru/list")
	}
	return seeOther(w, "/p/ru/apply")
}

func seeOther(w http.ResponseWriter, path string) error {
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func renewalPath(request string) string { return "/p/ru/r/" + url.PathEscape(request) }

// getApply asks once more: what is gained and what remaining time is lost.
func (p *Portal) getApply(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	h, err := p.home(r)
	if err != nil {
		return err
	}
	switch {
	case h.Open != "":
		return seeOther(w, renewalPath(h.Open))
	case h.Verdict != ra.Verdict(pki.Valid):
		return h.MayAct()
	case !h.Opens:
		return pki.E(pki.NotYet, "renewal.early").With("Opens", h.From).With("To", h.Authority.Certificate.NotAfter)
	}
	h.Form = webkit.FormSeal(r, zoneAuth, "apply")
	return p.show(w, r, "ru-apply", "ru.apply.title", "RU-2", h)
}

// postApply asks for the renewal of exactly the certificate that the page showed.
func (p *Portal) postApply(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	if r.PostForm.Get("action") == "back" {
		return seeOther(w, "/p/ru")
	}
	err = webkit.CheckForm(r, zoneAuth, "apply")
	if err != nil {
		return err
	}
	request, err := p.office.Renew(r.Context(), ra.RenewInput{Leaf: webkit.Leaf(r), Source: webkit.Source(r), Language: webkit.Lang(r)})
	if err != nil {
		return err
	}
	return seeOther(w, renewalPath(request.ID))
}

// renewPage is the page of one renewal: its numbers, how far it is, and 鍵の取得.
type renewPage struct {
	three
	ra.Renewed
	Form     string
	PINWrong bool
	OldWin   bool
	Waiting  bool // the page renews itself
	Stuck    bool // an operator has to look at it
	Ended    bool // cancelled
	Subject  []subjectLine
}

type subjectLine struct{ Name, Value string }

func (p *Portal) getRenewal(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	page, err := p.renewal(r)
	if err != nil {
		return err
	}
	return p.show(w, r, "ru-request", "ru.done.title", "RU-3", page)
}

func (p *Portal) renewal(r *http.Request) (renewPage, error) {
	one, err := p.office.Renewal(r.Context(), webkit.Leaf(r), r.PathValue("request"))
	if err != nil {
		return renewPage{}, err
	}
	page := renewPage{Renewed: one, Form: webkit.FormSeal(r, zoneAuth, "key"), OldWin: oldWindows(r.UserAgent())}
	switch state := one.Request.State; {
	case state == pki.Cancelled || state == pki.Rejected:
		page.Ended = true
	case state == pki.Failed && one.Request.Failure != pki.StaleIntent:
		page.Stuck = true
	default:
		page.Waiting = state != pki.Issued
	}
	page.Subject, err = subjectOf(one.Old.DER)
	return page, err
}

// subjectOf reads the names in a certificate for people; they are never authority.
func subjectOf(der []byte) ([]subjectLine, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return subjectLines(c), nil
}

func subjectLines(c *x509.Certificate) []subjectLine {
	lines := []subjectLine{{"Common Name", c.Subject.CommonName}}
	for _, unit := range c.Subject.OrganizationalUnit {
		lines = append(lines, subjectLine{"Organizational Unit", unit})
	}
	for _, o := range c.Subject.Organization {
		lines = append(lines, subjectLine{"Organization", o})
	}
	for _, country := range c.Subject.Country {
		lines = append(lines, subjectLine{"Country", country})
	}
	return lines
}

// postRenewal is 鍵の取得: it prepares the file and leads to its page.
func (p *Portal) postRenewal(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	err = webkit.CheckForm(r, zoneAuth, "key")
	if err != nil {
		return err
	}
	id := r.PathValue("request")
	if r.PostForm.Get("requestId") != id {
		return pki.E(pki.Conflict, "form.stale")
	}
	in := ra.PickupInput{RequestID: id, PIN: pki.Secret(r.PostForm.Get("password")), PINConfirm: pki.Secret(r.PostForm.Get("passwordConfirm")),
		Legacy: oldWindows(r.UserAgent()), CookieHash: renewalTickets.owner(r), Source: webkit.Source(r)}
	switch r.PostForm.Get("format") {
	case "aes":
		in.Legacy = false
	case "legacy":
		in.Legacy = true
	}
	ticket, err := p.office.PrepareRenewal(r.Context(), webkit.Leaf(r), in)
	code := pki.CodeOf(err)
	if code == "renewal.pin_form" || code == "pickup.pin_differs" {
		return p.retypePIN(w, r, err)
	}
	if err != nil {
		return err
	}
	return seeOther(w, "/p/ru/t/"+url.PathEscape(ticket.Reveal()))
}

// retypePIN draws the page again with what was wrong.
func (p *Portal) retypePIN(w http.ResponseWriter, r *http.Request, wrong error) error {
	page, err := p.renewal(r)
	if err != nil {
		return err
	}
	f := p.report.Note(r, wrong)
	page.three, page.PINWrong = p.three(f), true
	title := i18n.Text(f.Lang, "error."+page.Failure.Code+".title", page.Failure.Args)
	return p.send(w, r, f.Status, "ru-request", p.page(title, screenOf(f.Code), true, page))
}

// renewList is 更新済証明書の取得.
type renewList struct {
	List           []ra.Renewed
	Page           int
	Previous, Next int // 0: there is none
}

func (p *Portal) getRenewals(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	list, more, err := p.office.RenewalList(r.Context(), webkit.Leaf(r), page)
	if err != nil {
		return err
	}
	data := renewList{List: list, Page: page, Previous: page - 1}
	if more {
		data.Next = page + 1
	}
	return p.show(w, r, "ru-list", "ru.list.title", "RU-4", data)
}
