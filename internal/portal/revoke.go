package portal

import (
	"context"
	"math/big"
	"net/http"
	"strings"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
	"inkan/internal/webkit"
)

// Revocations is the revocation site's part of the registration authority (失効申請).
type Revocations interface {
	ProveLetter(ctx context.Context, in ra.PickupInput) (requestID string, err error)
	RevocationSubject(ctx context.Context, w ra.RevocationWay) (ra.RevocationSubject, error)
	AskRevocation(ctx context.Context, in ra.RevocationInput) (pki.Revocation, error)
	RevocationOfFlow(ctx context.Context, flow string) (pki.Revocation, pki.Certificate, error)
}

// Status is what this node answers relying systems, as a holder who waits is told.
type Status interface {
	Status(issuer string, number *big.Int) (store.StatusRow, bool) // the responder's
	CRL(issuer string) (store.CRL, time.Time)
}

// revoking is the revocation site in one zone: /p/rx is in both. Without a certificate
// the letter's IDs choose what is revoked, in the other zone the presented certificate
// does; after that the pages are the same.
type revoking struct {
	*Portal
	zone  string
	other []string // hosts of the other zone
}

// The steps of a flow of the revocation site.
const (
	rxContact = "contact"
	rxConfirm = "confirm"
	rxDone    = "done"
)

func (p *Portal) mountRevocation(route func(string, webkit.Handler), zone string) {
	s := revoking{p, zone, p.AuthHosts}
	first, post := s.getIDs, s.postIDs
	if zone == zoneAuth {
		s.other = p.Hosts
		first, post = s.getMine, s.postMine
	}
	route("GET /p/rx", first)
	route("POST /p/rx", post)
	p.mountFlow(route, s.sequence())
}

func (s revoking) sequence() sequence {
	return sequence{kind: "rx", base: "/p/rx", zone: s.zone, show: s.showStep, act: s.act, typing: rxContact, typed: typedContact}
}

// way is on what the flow's holder asks. In the zone of certificates that is the one of
// the connection, to which the flow belongs.
func (s revoking) way(r *http.Request, flow store.Flow) ra.RevocationWay {
	if s.zone == zoneAuth {
		return ra.RevocationWay{Leaf: webkit.Leaf(r)}
	}
	return ra.RevocationWay{RequestID: flow.Subject}
}

// rxFirst is the page on which a certificate is chosen.
type rxFirst struct {
	three
	typedIDs
	Mine          *ra.RevocationSubject // the presented one
	ByCertificate bool
	Other         string // address of the other way
}

func (s revoking) first() rxFirst {
	f := rxFirst{ByCertificate: s.zone == zoneAuth}
	if len(s.other) > 0 {
		f.Other = "https://" + s.other[0] + "/p/rx"
	}
	return f
}

func (s revoking) getIDs(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	return s.show(w, r, "rx", "rx.title", "RX-1", s.first())
}

// postIDs checks the letter's IDs, within budgets of its own: whatever happens at the
// download site, a revocation can be asked for (threat RV2).
func (s revoking) postIDs(w http.ResponseWriter, r *http.Request) error {
	floor := s.Timer(max(s.Floor, 0)) // starts before anything depends on what was typed
	err := parseForm(r)
	if err != nil {
		return err
	}
	err = begun(w, r)
	if err != nil {
		return err
	}
	page := s.first()
	page.typedIDs = readIDs(r)
	id, err := s.prove(r, page)
	wait(r.Context(), floor)
	switch pki.CodeOf(err) {
	case "revocation.wrong_ids", "revocation.ids_form", "revocation.slow", "revocation.busy":
		return s.typeAgain(w, r, page, err)
	}
	if err != nil {
		return err
	}
	return s.begin(w, r, s.sequence(), id, rxContact, nil)
}

// begun refuses a form that was sent without the cookie of its page: a flow belongs to a
// browser.
func begun(w http.ResponseWriter, r *http.Request) error {
	_, known := webkit.KnownBrowser(r)
	if known {
		return nil
	}
	webkit.Browser(w, r)
	return pki.E(pki.Conflict, "form.stale")
}

func (s revoking) prove(r *http.Request, page rxFirst) (string, error) {
	if page.RequestWrong != "" || page.ReferenceWrong != "" {
		return "", pki.E(pki.Invalid, "revocation.ids_form")
	}
	in := ra.PickupInput{RequestID: page.RequestID, ReferenceID: pki.Secret(page.ReferenceID), Source: webkit.Source(r)}
	id, _ := pki.ParseRequestID(in.RequestID)
	leave, err := s.revocationGuard.enter(in.Source, id)
	if err != nil {
		return "", pki.E(pki.Limited, "revocation.slow").With("Until", i18n.ArgsOf(err)["Until"])
	}
	id, err = s.office.ProveLetter(r.Context(), in)
	leave(pki.CodeOf(err) == "revocation.wrong_ids")
	return id, err
}

// typeAgain draws the first page with what was typed and what was wrong.
func (s revoking) typeAgain(w http.ResponseWriter, r *http.Request, page rxFirst, err error) error {
	f := s.report.Note(r, err)
	page.three = s.three(f)
	title := i18n.Text(f.Lang, "error."+f.Code+".title", page.Failure.Args)
	body, err := s.pages.Render(f.Lang, "rx", s.page(title, screenOf(f.Code), true, page))
	if err != nil {
		return err
	}
	webkit.WriteHTML(w, f.Status, pad(body))
	return nil
}

// getMine shows the presented certificate, and what to do where there is none that could
// be revoked: the other way.
func (s revoking) getMine(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	page := s.first()
	mine, err := s.mine(r)
	if err != nil && pki.ClassOf(err) != pki.Internal {
		return s.typeAgain(w, r, page, err)
	}
	if err != nil {
		return err
	}
	page.Mine = &mine
	return s.show(w, r, "rx", "rx.title", "RX-1", page)
}

func (s revoking) mine(r *http.Request) (ra.RevocationSubject, error) {
	if webkit.Leaf(r) == nil {
		return ra.RevocationSubject{}, pki.E(pki.Forbidden, "revocation.none")
	}
	return s.office.RevocationSubject(r.Context(), ra.RevocationWay{Leaf: webkit.Leaf(r)})
}

// postMine begins a flow for the certificate that the page showed. It has no seal: the
// first page of a visit is drawn before the browser's cookie is known.
func (s revoking) postMine(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	mine, err := s.mine(r)
	if err != nil {
		return err
	}
	err = begun(w, r)
	if err != nil {
		return err
	}
	if r.PostForm.Get("requestId") != mine.RequestID { // another certificate was chosen meanwhile
		return pki.E(pki.Conflict, "form.stale")
	}
	return s.begin(w, r, s.sequence(), mine.RequestID, rxContact, nil)
}

// rxPage is a page of a flow.
type rxPage struct {
	three
	stepForm
	ra.RevocationSubject
	Flow                string
	Email, EmailConfirm string
	EmailWrong          string // keys of what is wrong
	ConfirmWrong        string
	Reason              string
	ReasonWrong         string
	Reasons             []string
}

func (s revoking) flowPage(r *http.Request, flow store.Flow) (rxPage, error) {
	page := rxPage{stepForm: formOf(r, s.zone, flow.Step), Flow: flow.ID, Email: flow.Facts["email"], EmailConfirm: flow.Facts["emailConfirm"], Reason: flow.Facts["reason"]}
	for _, reason := range pki.HoldersReasons() {
		page.Reasons = append(page.Reasons, reason.String())
	}
	var err error
	page.RevocationSubject, err = s.office.RevocationSubject(r.Context(), s.way(r, flow))
	return page, err
}

func (s revoking) showStep(w http.ResponseWriter, r *http.Request, flow store.Flow) error {
	v, c, err := s.office.RevocationOfFlow(r.Context(), flow.ID)
	switch {
	case err == nil: // also when the program died between the wish and the step
		return s.show(w, r, "rx-done", "rx.done.title", "RX-4", s.progressOf(v, c, r.URL.Path))
	case pki.ClassOf(err) != pki.NotFound:
		return err
	}
	page, err := s.flowPage(r, flow)
	if err != nil {
		return err
	}
	if flow.Step == rxConfirm {
		return s.show(w, r, "rx-confirm", "rx.confirm.title", "RX-3", page)
	}
	return s.show(w, r, "rx-contact", "rx.contact.title", "RX-2", page)
}

func (s revoking) act(w http.ResponseWriter, r *http.Request, flow store.Flow) (bool, error) {
	switch flow.Step {
	case rxContact:
		return s.contact(w, r, flow)
	case rxConfirm:
		return false, s.confirm(r, flow)
	}
	return false, nil
}

func typedContact(r *http.Request, _ store.Flow) map[string]string {
	return map[string]string{"email": strings.TrimSpace(r.PostForm.Get("email")), "emailConfirm": strings.TrimSpace(r.PostForm.Get("emailConfirm")),
		"reason": r.PostForm.Get("reason")}
}

// contact takes the address and the reason.
func (s revoking) contact(w http.ResponseWriter, r *http.Request, flow store.Flow) (bool, error) {
	page, err := s.flowPage(r, flow)
	if err != nil {
		return false, err
	}
	typed := typedContact(r, flow)
	page.Email, page.EmailConfirm, page.Reason = typed["email"], typed["emailConfirm"], typed["reason"]
	if !pki.ValidEmail(page.Email) {
		page.EmailWrong = "rx.email.form"
	}
	switch page.EmailConfirm {
	case "":
		page.ConfirmWrong = "error.email.again"
	case page.Email:
	default:
		page.ConfirmWrong = "rx.email.differs"
	}
	reason, err := pki.ParseReason(page.Reason)
	if err != nil || !pki.HoldersReason(reason) {
		page.Reason, page.ReasonWrong = "", "rx.reason.none"
	}
	if page.EmailWrong+page.ConfirmWrong+page.ReasonWrong == "" {
		return false, s.Flows.Move(r.Context(), flow, flow.Subject, rxConfirm, typed)
	}
	f := s.report.Note(r, pki.E(pki.Invalid, "revocation.contact"))
	page.three = s.three(f)
	title := i18n.Text(f.Lang, "error."+f.Code+".title", nil)
	return true, s.send(w, r, f.Status, "rx-contact", s.page(title, screenOf(f.Code), true, page))
}

// confirm asks for the revocation, or leads back to what was typed.
func (s revoking) confirm(r *http.Request, flow store.Flow) error {
	switch r.PostForm.Get("action") {
	case "back":
		return s.Flows.Move(r.Context(), flow, flow.Subject, rxContact, flow.Facts)
	case "apply":
	default:
		return nil
	}
	reason, err := pki.ParseReason(flow.Facts["reason"])
	if err != nil {
		return err
	}
	_, err = s.office.AskRevocation(r.Context(), ra.RevocationInput{RevocationWay: s.way(r, flow), Flow: flow.ID, Email: flow.Facts["email"],
		Reason: reason, Language: webkit.Lang(r), Source: webkit.Source(r)})
	if err != nil {
		return err
	}
	return s.Flows.Move(r.Context(), flow, flow.Subject, rxDone, nil)
}

// rxProgress is the receipt, and how far the revocation is.
type rxProgress struct {
	Revocation  pki.Revocation
	Certificate pki.Certificate
	Is          string // what is true now
	At          time.Time
	Steps       []rxStep
	Waiting     bool
	OCSP        bool   // this node's responder says what the case decided
	List        string // what was seen of the CRL: listed, waits, late; "" where nothing has to be seen
	Listed      time.Time
	Here        string
}

// listLate is how long after a revocation the page says that its CRL is late. It promises
// no time: nobody knows when a signer that is away comes back.
const listLate = 10 * time.Second

type rxStep struct {
	Name string // received, reviewing, approved, revoked, published
	At   time.Time
	Now  bool
}

func (s revoking) progressOf(v pki.Revocation, c pki.Certificate, here string) rxProgress {
	p := rxProgress{Revocation: v, Certificate: c, Is: string(v.State), At: v.DecidedAt, Here: here}
	undecided, done := v.State == pki.RevocationReceived, v.State == pki.RevocationDone
	p.Waiting = undecided || done && v.PublishedAt.IsZero()
	switch {
	case v.Held():
		p.Is, p.At = "held", v.HeldAt
	case undecided:
		p.At = v.ReceivedAt
	case !done:
		return p
	}
	p.Steps = []rxStep{{Name: "received", At: v.ReceivedAt}}
	if v.DecidedBy != v.AskedBy { // else it was final at once
		p.Steps = append(p.Steps, rxStep{Name: "reviewing", At: v.DecidedAt, Now: undecided}, rxStep{Name: "approved", At: v.DecidedAt})
	}
	p.Steps = append(p.Steps, rxStep{Name: "revoked", At: v.DecidedAt}, rxStep{Name: "published", At: v.PublishedAt, Now: done && v.PublishedAt.IsZero()})
	if done || v.Held() {
		p.tell(s.Status, c, s.Now())
	}
	return p
}

// tell notes what this node tells relying systems of a certificate that was stopped, by
// OCSP and by CRL.
func (p *rxProgress) tell(of Status, c pki.Certificate, now time.Time) {
	number, err := pki.ParseSerial(c.Serial)
	if of == nil || err != nil {
		return
	}
	row, known := of.Status(c.Issuer, number)
	p.OCSP = known && !row.Revoked.IsZero()
	crl, _ := of.CRL(c.Issuer)
	p.Listed = p.Revocation.PublishedAt
	if p.Listed.IsZero() {
		p.Listed = crl.ThisUpdate
	}
	switch {
	case !p.At.After(p.Listed):
		p.List = "listed"
	case now.Sub(p.At) > listLate:
		p.List = "late"
	default:
		p.List = "waits"
	}
}
