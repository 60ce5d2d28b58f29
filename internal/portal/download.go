package portal

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/webkit"
)

// formData is the page with the form; its fields keep what was typed, never a
// password.
type formData struct {
	three
	typedIDs
	PINWrong   bool
	Format     string // auto, aes, legacy
	OldWindows bool
	Days       int
}

// typedIDs are a letter's two IDs as they were typed, for the partial "typed-ids".
type typedIDs struct {
	RequestID, ReferenceID       string
	RequestWrong, ReferenceWrong string // keys of what is wrong with the form of what was typed
	RequestLen, ReferenceLen     int
}

func readIDs(r *http.Request) typedIDs {
	t := typedIDs{RequestID: r.PostForm.Get("requestId"), ReferenceID: r.PostForm.Get("referenceId")}
	t.RequestWrong, t.ReferenceWrong = typedWrong(t.RequestID, t.ReferenceID)
	t.RequestLen = utf8.RuneCountInString(pki.NarrowDigits(t.RequestID))
	t.ReferenceLen = utf8.RuneCountInString(pki.NarrowDigits(t.ReferenceID))
	return t
}

func blankForm(userAgent string) formData {
	return formData{Format: "auto", OldWindows: oldWindows(userAgent), Days: pki.DownloadDays}
}

func (p *Portal) getForm(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	return p.show(w, r, "form", "rcd.title", "RCD-1", blankForm(r.UserAgent()))
}

// postForm prepares a file and leads to its page. It may be sent any number of times:
// each gives a ticket and a page of its own.
func (p *Portal) postForm(w http.ResponseWriter, r *http.Request) error {
	floor := p.Timer(max(p.Floor, 0)) // starts before anything depends on what was typed
	err := parseForm(r)
	if err != nil {
		return err
	}
	in, form := p.read(r)
	in.CookieHash = webkit.Browser(w, r)
	ticket, err := p.prepare(r.Context(), in, form)
	wait(r.Context(), floor)
	if err != nil {
		return p.refuse(w, r, form, err)
	}
	return seeOther(w, "/p/rcd/t/"+url.PathEscape(ticket.Reveal()))
}

// parseForm reads the form of a POST.
func parseForm(r *http.Request) error {
	err := r.ParseForm()
	if err == nil || strings.Contains(err.Error(), "request body too large") {
		return err // *http.MaxBytesError, which has words of its own
	}
	return pki.E(pki.Invalid, "http.form").Because(err)
}

func (p *Portal) read(r *http.Request) (ra.PickupInput, formData) {
	form := blankForm(r.UserAgent())
	form.typedIDs = readIDs(r)
	format := r.PostForm.Get("format")
	if format == "aes" || format == "legacy" {
		form.Format = format
	}
	return ra.PickupInput{
		RequestID: form.RequestID, ReferenceID: pki.Secret(form.ReferenceID),
		PIN: pki.Secret(r.PostForm.Get("password")), PINConfirm: pki.Secret(r.PostForm.Get("passwordConfirm")),
		Legacy: form.Format == "legacy" || form.Format == "auto" && form.OldWindows,
		Source: webkit.Source(r),
	}, form
}

// typedWrong says what is wrong with the form of what was typed. It knows nothing but
// what was typed, so it tells nobody whether a number exists.
func typedWrong(requestID, referenceID string) (request, reference string) {
	narrow := pki.NarrowDigits(requestID)
	_, ok := pki.ParseRequestID(requestID)
	switch {
	case ok:
	case narrow == "":
		request = "rcd.request.empty"
	case len(narrow) == 15 && strings.Trim(narrow, "0123456789") == "":
		request = "rcd.request.date"
	default:
		request = "rcd.request.form"
	}
	narrow = pki.NarrowDigits(referenceID)
	_, ok = pki.ParseReferenceID(referenceID)
	switch {
	case ok:
	case narrow == "":
		reference = "rcd.reference.empty"
	case utf8.RuneCountInString(narrow) == pki.ReferenceIDLength:
		reference = "rcd.reference.letters"
	default:
		reference = "rcd.reference.form"
	}
	return request, reference
}

// prepare asks for the file within the budgets. IDs whose form is wrong are not asked
// about and not counted: they cannot be a guess.
func (p *Portal) prepare(ctx context.Context, in ra.PickupInput, form formData) (pki.Secret, error) {
	if form.RequestWrong != "" || form.ReferenceWrong != "" {
		return "", pki.E(pki.Invalid, "pickup.ids_form")
	}
	id, _ := pki.ParseRequestID(in.RequestID)
	attacked := p.guard.attacked(id)
	leave, err := p.guard.enter(in.Source, id)
	if err != nil {
		return "", err
	}
	ticket, err := p.office.PreparePickup(ctx, in)
	wrong := pki.CodeOf(err) == "pickup.wrong_ids"
	leave(wrong)
	if attacked && !wrong {
		wait(ctx, p.Timer(attackDelay))
	}
	return ticket, err
}

func wait(ctx context.Context, timer <-chan time.Time) {
	select {
	case <-timer:
	case <-ctx.Done():
	}
}

// withForm are the refusals after which the person types again on the same page.
var withForm = map[string]bool{
	"pickup.wrong_ids": true, "pickup.ids_form": true, "pickup.slow": true, "pickup.pin_form": true, "pickup.pin_differs": true, "pickup.busy": true,
}

// refuse draws the form again with what was typed, or gives the error on to a page
// without a form.
func (p *Portal) refuse(w http.ResponseWriter, r *http.Request, form formData, err error) error {
	if !withForm[pki.CodeOf(err)] {
		return err
	}
	f := p.report.Note(r, err)
	form.three = p.three(f)
	form.PINWrong = f.Code == "pickup.pin_form" || f.Code == "pickup.pin_differs"
	title := i18n.Text(f.Lang, "error."+f.Code+".title", form.Failure.Args)
	body, err := p.pages.Render(f.Lang, "form", p.page(title, screenOf(f.Code), true, form))
	if err != nil {
		return err
	}
	until, ok := f.Args["Until"].(time.Time)
	if ok {
		seconds := int(until.Sub(p.Now())/time.Second) + 1
		w.Header().Set("Retry-After", strconv.Itoa(max(seconds, 1)))
	}
	webkit.WriteHTML(w, f.Status, pad(body))
	return nil
}

// padSize is the one size of every answer to typed IDs (threat DL4): lengths of numbers
// and sentences would otherwise be told to whoever sees the encrypted traffic.
const padSize = 24 << 10

func pad(body []byte) []byte {
	const open, end = "<!--", "-->\n"
	size := (len(body) + len(open) + len(end) + padSize - 1) / padSize * padSize
	fill := bytes.Repeat([]byte(" "), size-len(body)-len(open)-len(end))
	return fmt.Appendf(body, "%s%s%s", open, fill, end)
}

type doneData struct {
	guided
	View    ra.PickupView
	FileURL string
	EndURL  string // "" before the first fetch
	Again   string // where another file is made
	KB      int
	Months  int
}

// Guide overrides guided's: another file is made where this one was.
func (d doneData) Guide(key string) guide {
	g := d.guided.Guide(key)
	g.Args["Href"] = d.Again
	return g
}

// ticketPages are the pages of prepared files below a path, and whose a ticket is there.
type ticketPages struct {
	base  string
	owner func(r *http.Request) [32]byte
	// judged asks before each page whether its certificate opens it now (threat
	// RS1).
	judged bool
}

// The download site's tickets belong to a browser, the renewal site's to a browser with
// the certificate that asked for it, in that zone (threats DL7, RS12).
var (
	pickupTickets  = ticketPages{base: "/p/rcd", owner: known}
	renewalTickets = ticketPages{base: "/p/ru", owner: func(r *http.Request) [32]byte { return webkit.Owner(r, zoneAuth) }, judged: true}
)

// tickets are ticket pages of a site.
type tickets struct {
	*Portal
	ticketPages
}

func (p *Portal) mountTickets(route func(string, webkit.Handler), pages ticketPages) {
	t := tickets{p, pages}
	page := func(h webkit.Handler) webkit.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			if t.judged {
				err := t.office.Standing(r.Context(), webkit.Leaf(r))
				if err != nil {
					return err
				}
			}
			return h(w, r)
		}
	}
	route("GET "+t.base+"/t/{ticket}", page(t.getDone))
	route("GET "+t.base+"/t/{ticket}/{file}", page(t.getFile))
	route("POST "+t.base+"/t/{ticket}/end", page(t.postEnd))
}

func (p tickets) getDone(w http.ResponseWriter, r *http.Request) error {
	ticket := pki.Secret(r.PathValue("ticket"))
	view, err := p.office.PickupPage(r.Context(), ticket, p.owner(r))
	if err != nil {
		return err
	}
	here := p.base + "/t/" + url.PathEscape(ticket.Reveal())
	data := doneData{
		View: view, KB: max((view.Size+1023)/1024, 1), Months: lifeMonths(view.NotBefore, view.NotAfter), guided: p.guided(r.UserAgent()),
		FileURL: here + "/" + url.PathEscape(view.FileName), Again: "/p/rcd",
	}
	if p.judged {
		data.Again = renewalPath(view.RequestID)
	}
	data.Issuer = view.Issuer
	if view.FetchesLeft < ra.TicketUses {
		data.EndURL = here + "/end"
	}
	title := i18n.Text(webkit.Lang(r), "done.title", nil)
	return p.send(w, r, http.StatusOK, "done", p.page(title, "RCD-2", false, data))
}

// postEnd destroys the key that is kept for downloading anew, at the holder's wish.
func (p tickets) postEnd(w http.ResponseWriter, r *http.Request) error {
	err := parseForm(r)
	if err != nil {
		return err
	}
	ticket := pki.Secret(r.PathValue("ticket"))
	if r.PostForm.Get("kept") != "yes" {
		return pki.E(pki.Invalid, "pickup.not_kept")
	}
	err = p.office.EndPickup(r.Context(), ticket, p.owner(r))
	if err != nil {
		return err
	}
	return seeOther(w, p.base+"/t/"+url.PathEscape(ticket.Reveal())+"#end")
}

// known is the hash of the browser's cookie; a browser without one gets a hash that no
// ticket has.
func known(r *http.Request) [32]byte {
	hash, _ := webkit.KnownBrowser(r)
	return hash
}

// lifeMonths says how many whole months a certificate lives, 0 where it is not a whole
// number of them.
func lifeMonths(from, to time.Time) int {
	for months := 1; months <= 120; months++ {
		gap := pki.AddMonths(from, months).Sub(to)
		if gap.Abs() <= time.Second {
			return months
		}
	}
	return 0
}

func (p tickets) getFile(w http.ResponseWriter, r *http.Request) error {
	ticket := pki.Secret(r.PathValue("ticket"))
	view, err := p.office.PickupPage(r.Context(), ticket, p.owner(r))
	if err != nil {
		return err
	}
	if r.PathValue("file") != view.FileName {
		return pki.ErrNotFound
	}
	body := []byte(nil)
	if r.Method != http.MethodHead { // a HEAD must not use up a fetch
		_, body, err = p.office.PickupFile(r.Context(), ticket, p.owner(r))
		if err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-pkcs12")
	h.Set("Content-Disposition", `attachment; filename="`+view.RequestID+`.p12"`)
	h.Set("Content-Length", strconv.Itoa(view.Size))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
	return nil
}
