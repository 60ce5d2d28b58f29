package ra_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
)

// typedApplication is what the n-th institution types on the site.
func typedApplication(n int) pki.Application {
	a := catest.Application(n)
	a.Department, a.Phone = "医事課", "011-000-0000"
	return a
}

// outboxMail is a mail that waits.
type outboxMail struct {
	ID, Kind, Address string
	Args              map[string]string
}

func waiting(o *catest.Office) []outboxMail {
	o.T.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(o.T.Context(), `SELECT id, kind, address, args FROM outbox ORDER BY made_at, id`)
	catest.Must(o.T, err)
	defer func() { _ = rows.Close() }()
	var out []outboxMail
	for rows.Next() {
		var m outboxMail
		var args string
		catest.Must(o.T, rows.Scan(&m.ID, &m.Kind, &m.Address, &args))
		catest.Must(o.T, json.Unmarshal([]byte(args), &m.Args))
		out = append(out, m)
	}
	catest.Must(o.T, rows.Err())
	return out
}

// link gives the token of the newest mail of a kind.
func link(o *catest.Office, kind string) pki.Secret {
	o.T.Helper()
	all := waiting(o)
	for _, m := range slices.Backward(all) {
		if m.Kind == kind {
			return pki.Secret(m.Args["Path"][strings.LastIndexByte(m.Args["Path"], '/')+1:])
		}
	}
	o.T.Fatalf("no mail %s among %v", kind, all)
	return ""
}

// apply types an application, confirms its address and gives the request.
func apply(o *catest.Office, flow string, a pki.Application) pki.Request {
	o.T.Helper()
	_, err := o.RA.Draft(o.T.Context(), ra.DraftInput{Flow: flow, Application: a, Language: "ja"})
	catest.Must(o.T, err)
	r, err := o.RA.Apply(o.T.Context(), link(o, "confirm"))
	catest.Must(o.T, err)
	return r
}

// TestApplyOnce: however often every button is pressed, at once and again, there is one
// draft with one mail and one request with one receipt.
func TestApplyOnce(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			var pressed sync.WaitGroup
			for range 8 {
				pressed.Go(func() {
					_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f1", Application: typedApplication(1), Language: "en"})
					if err != nil {
						t.Error(err)
					}
				})
			}
			pressed.Wait()
			if n := len(waiting(o)); n != 1 || o.Count("request") != 0 {
				t.Fatalf("%d mails and %d requests before the address is confirmed", n, o.Count("request"))
			}
			token := link(o, "confirm")
			for range 2 { // a scanner opens the link
				d, err := o.RA.OpenDraft(t.Context(), token)
				catest.Must(t, err)
				if d.Application.TerminalName != "受付1号機" || d.Request != nil {
					t.Fatalf("draft %+v", d)
				}
			}
			if o.Count("request") != 0 {
				t.Fatal("looking made a request")
			}
			var ids sync.Map
			for range 8 {
				pressed.Go(func() {
					r, err := o.RA.Apply(t.Context(), token)
					if err != nil {
						t.Error(err)
					}
					ids.Store(r.ID, true)
				})
			}
			pressed.Wait()
			if n := o.Count("request"); n != 1 || o.Count("outbox WHERE kind = 'receipt'") != 1 || o.Count("status_link") != 1 {
				t.Errorf("%d requests", n)
			}
			d, err := o.RA.DraftOf(t.Context(), "f1")
			catest.Must(t, err)
			r := *d.Request
			if _, ok := ids.Load(r.ID); !ok || r.State != pki.Received || r.Source != pki.FromSite || r.EnteredBy != "" || r.Language != "en" {
				t.Errorf("request %+v", r)
			}
			o.WantKinds(r.ID, "request.received")
			if o.Count("draft WHERE content <> '{}'") != 0 {
				t.Error("the draft keeps what was typed beside the request")
			}
		})
	}
}

// A later round of one flow takes the place of the earlier one: its link is dead.
func TestApplyCorrected(t *testing.T) {
	o := catest.New(t, catest.Options{})
	_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f1", Application: typedApplication(1), Language: "ja"})
	catest.Must(t, err)
	first := link(o, "confirm")
	o.Advance(time.Minute)
	corrected := typedApplication(1)
	corrected.Email = "right@example.jp"
	_, err = o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f1", Round: 1, Application: corrected, Language: "ja"})
	catest.Must(t, err)
	_, err = o.RA.Apply(t.Context(), first)
	catest.WantCode(t, err, "apply.link")
	r, err := o.RA.Apply(t.Context(), link(o, "confirm"))
	catest.Must(t, err)
	if r.Application.Email != "right@example.jp" {
		t.Errorf("applied with %s", r.Application.Email)
	}
	d, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f1", Round: 2, Application: corrected, Language: "ja"})
	catest.Must(t, err)
	if d.Request == nil || len(waiting(o)) != 3 { // two to confirm, one receipt
		t.Errorf("a flow that has its request sent again: %v", waiting(o))
	}
}

// What nobody confirms is gone after a day.
func TestDraftsEnd(t *testing.T) {
	o := catest.New(t, catest.Options{})
	_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f1", Application: typedApplication(1), Language: "ja"})
	catest.Must(t, err)
	token := link(o, "confirm")
	o.Advance(ra.DraftLife)
	_, err = o.RA.OpenDraft(t.Context(), token)
	catest.Must(t, err)
	o.Advance(time.Second)
	_, err = o.RA.OpenDraft(t.Context(), token)
	catest.WantCode(t, err, "apply.link")
	_, err = o.RA.Apply(t.Context(), token)
	catest.WantCode(t, err, "apply.link")
	_, err = o.CA.Sweep(t.Context())
	catest.Must(t, err)
	if o.Count("draft") != 0 || o.Count("mail_count") != 0 || o.Count("mail_day") != 0 {
		t.Error("something of the draft is left")
	}
}

func TestWithdraw(t *testing.T) {
	source := netip.MustParseAddr("192.0.2.7")
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			r := apply(o, "f1", typedApplication(1))
			token := link(o, "receipt")
			seen, err := o.RA.OpenStatus(t.Context(), token)
			catest.Must(t, err)
			if seen.ID != r.ID {
				t.Fatalf("the link leads to %s", seen.ID)
			}
			for range 2 {
				catest.Must(t, o.RA.Withdraw(t.Context(), token, source))
			}
			o.WantKinds(r.ID, "request.received", "request.cancelled")

			approved := apply(o, "f2", typedApplication(2))
			token = link(o, "receipt")
			for _, by := range []pki.Actor{catest.Approver, catest.Second} {
				_, err = o.RA.Approve(t.Context(), by, approved.ID, approved.ContentHash)
				catest.Must(t, err)
			}
			catest.WantCode(t, o.RA.Withdraw(t.Context(), token, source), "status.too_late")
			if got := o.Request(approved.ID); got.State != pki.Issued {
				t.Errorf("it is %s", got.State)
			}
			o.Advance(ra.LinkLife + time.Second)
			_, err = o.RA.OpenStatus(t.Context(), token)
			catest.WantCode(t, err, "status.link")
		})
	}
}

func TestProgress(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := apply(o, "f1", typedApplication(1))
	code := r.Application.Holder.Code
	ask := func(id, code string, want ra.Progress) {
		t.Helper()
		got, err := o.RA.ProgressOf(t.Context(), id, code)
		if err != nil || got != want {
			t.Errorf("%s %s: %s, %v; want %s", id, code, got, err, want)
		}
	}
	ask(r.ID, code, ra.ProgressReceived)
	ask(" "+r.ID[:8]+"－"+r.ID[8:], code[:2]+" "+code[2:], ra.ProgressReceived)
	ask(r.ID, catest.Holder(2).Code, ra.ProgressUnknown)
	ask("202001010000001", code, ra.ProgressUnknown)
	ask("", "", ra.ProgressUnknown)
	_, err := o.RA.Approve(t.Context(), catest.Approver, r.ID, r.ContentHash)
	catest.Must(t, err)
	ask(r.ID, code, ra.ProgressReceived)
	_, err = o.RA.Approve(t.Context(), catest.Second, r.ID, r.ContentHash)
	catest.Must(t, err)
	ask(r.ID, code, ra.ProgressIssued)
	o.Dispatch(r.ID)
	ask(r.ID, code, ra.ProgressSent)
	refused := apply(o, "f2", typedApplication(1))
	_, err = o.RA.Reject(t.Context(), catest.Approver, refused.ID, refused.ContentHash, "twice")
	catest.Must(t, err)
	ask(refused.ID, code, ra.ProgressEnded)
}

// TestAlike: operators see on a request which others look like it; the applicant, only
// those of his own confirmed address.
func TestAlike(t *testing.T) {
	o := catest.New(t, catest.Options{})
	first := apply(o, "f1", typedApplication(1))
	other := typedApplication(1)
	other.TerminalName = "受付２号機"
	if r := apply(o, "f2", other); r.Alike != "" {
		t.Errorf("another terminal looks like %s", r.Alike)
	}
	same := typedApplication(1)
	same.TerminalName, same.Email = "受付 １号機", "stranger@example.jp"
	_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f3", Application: same, Language: "ja"})
	catest.Must(t, err)
	d, err := o.RA.OpenDraft(t.Context(), link(o, "confirm"))
	catest.Must(t, err)
	if d.Earlier != nil {
		t.Error("a stranger learns of the application")
	}
	second, err := o.RA.Apply(t.Context(), link(o, "confirm"))
	catest.Must(t, err)
	if second.Alike != first.ID || o.Request(second.ID).Alike != first.ID {
		t.Errorf("looks like %q, want %q", second.Alike, first.ID)
	}
	o.Advance(24 * time.Hour) // the address has had its mails of the day
	_, err = o.RA.Draft(t.Context(), ra.DraftInput{Flow: "f4", Application: typedApplication(1), Language: "ja"})
	catest.Must(t, err)
	d, err = o.RA.OpenDraft(t.Context(), link(o, "confirm"))
	catest.Must(t, err)
	if d.Earlier == nil || d.Earlier.ID != first.ID {
		t.Errorf("the applicant is told of %+v", d.Earlier)
	}
	_, err = o.RA.Cancel(t.Context(), catest.Intake, first.ID, "twice")
	catest.Must(t, err)
	if r := o.Submit(typedApplication(1)); r.Alike != second.ID {
		t.Errorf("after the first was withdrawn it looks like %q, want %q", r.Alike, second.ID)
	}
	if r := o.Submit(typedApplication(2)); r.Alike != "" {
		t.Errorf("another institution's looks like %q", r.Alike)
	}
}

// TestThreatAP4: fifty applications from twenty sources with one address cause three
// mails and a digest; another address gets its own.
func TestThreatAP4(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			for n := range 50 {
				a := typedApplication(n)
				a.Email = []string{"victim@example.jp", "Victim@example.jp"}[n%2]
				_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: fmt.Sprint("f", n), Application: a, Language: "ja"})
				catest.Must(t, err)
			}
			if all, digests := o.Count("outbox"), o.Count("outbox WHERE kind = 'digest'"); all != 4 || digests != 1 {
				t.Fatalf("%d mails, %d digests", all, digests)
			}
			if o.Count("outbox WHERE kind = 'digest' AND next_at > $1", o.Now().UnixMicro()) != 1 {
				t.Error("the digest leaves at once")
			}
			var digest outboxMail
			for _, m := range waiting(o) {
				if m.Kind == "digest" {
					digest = m
				}
			}
			lines := strings.Split(digest.Args["Lines"], "\n")
			if len(lines) != 47 {
				t.Errorf("the digest has %d lines", len(lines))
			}
			// The last of them works the next morning.
			o.Advance(24 * time.Hour)
			_, err := o.RA.Apply(t.Context(), pki.Secret(lines[46][strings.LastIndexByte(lines[46], '/')+1:]))
			catest.Must(t, err)

			before := o.Count("outbox")
			a := typedApplication(99)
			a.Email = "another@example.jp"
			_, err = o.RA.Draft(t.Context(), ra.DraftInput{Flow: "another", Application: a, Language: "ja"})
			catest.Must(t, err)
			a.Email = "victim@example.jp" // another day
			_, err = o.RA.Draft(t.Context(), ra.DraftInput{Flow: "next day", Application: a, Language: "ja"})
			catest.Must(t, err)
			if n := o.Count("outbox") - before; n != 2 {
				t.Errorf("%d mails on another day and to another address, want 2", n)
			}
			if o.Count("mail_count WHERE tag LIKE '%example%'") != 0 {
				t.Error("an address stands in the count")
			}
		})
	}
}

// TestThreatAP4Bounded: what a flood can put into a digest has an end.
func TestThreatAP4Bounded(t *testing.T) {
	o := catest.New(t, catest.Options{})
	var err error
	for n := 0; err == nil && n < 200; n++ {
		_, err = o.RA.Draft(t.Context(), ra.DraftInput{Flow: fmt.Sprint("f", n), Application: typedApplication(n), Language: "ja"})
	}
	catest.WantCode(t, err, "apply.mails")
}

// TestThreatAP2Untold: a contact who got as many mails today as anybody may cause is not
// told of an application; its applicant sees no difference, the office does.
func TestThreatAP2Untold(t *testing.T) {
	o := catest.New(t, catest.Options{})
	o.Issued(catest.Application(1))
	untold := func() int { return o.Count("audit WHERE kind = 'application.untold'") }
	for n := range 54 { // floods clinic@example.jp
		a := typedApplication(1)
		a.Email = "clinic@example.jp"
		_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: fmt.Sprint("flood", n), Application: a, Language: "ja"})
		if err != nil {
			catest.WantCode(t, err, "apply.mails")
		}
	}
	if untold() != 0 {
		t.Fatal("untold before anything was applied for")
	}
	a := typedApplication(1)
	a.Email = "mallory@example.org"
	r := apply(o, "f1", a)
	if n := untold(); n != 1 || o.Count("outbox WHERE kind = 'applied'") != 0 {
		t.Errorf("%d records of who was not told", n)
	}
	o.Advance(24 * time.Hour)
	a.TerminalName = "受付2号機"
	apply(o, "f2", a)
	if n := untold(); n != 1 || o.Count("outbox WHERE kind = 'applied'") != 1 {
		t.Errorf("the next day: %d records", n)
	}
	if r.State != pki.Received {
		t.Errorf("the application is %s", r.State)
	}
}

// TestThreatAP1: nothing that an applicant types brings him what opens a key: his mails
// name no reference ID, and the letter is not addressed by the application at all.
func TestThreatAP1(t *testing.T) {
	o := catest.New(t, catest.Options{})
	a := typedApplication(1)
	a.Email, a.MaintenanceEmail = "mallory@example.org", "mallory2@example.org"
	r := apply(o, "f1", a)
	for _, by := range []pki.Actor{catest.Approver, catest.Second} {
		_, err := o.RA.Approve(t.Context(), by, r.ID, r.ContentHash)
		catest.Must(t, err)
	}
	reference := o.Reference(r.ID).Reveal()
	o.Dispatch(r.ID)
	for _, m := range waiting(o) {
		text, err := json.Marshal(m.Args)
		catest.Must(t, err)
		if strings.Contains(string(text), reference) {
			t.Errorf("the mail %s to %s holds the reference ID", m.Kind, m.Address)
		}
	}
	// Who has the status link sees no reference ID either: it is not in what it opens.
	seen, err := o.RA.OpenStatus(t.Context(), link(o, "receipt"))
	catest.Must(t, err)
	if strings.Contains(fmt.Sprintf("%+v", seen), reference) {
		t.Error("the status link opens the reference ID")
	}
}

// TestThreatAP2: a new application with another address changes nothing for the contact
// that an institution has, and he is told of it.
func TestThreatAP2(t *testing.T) {
	o := catest.New(t, catest.Options{})
	own := o.Issued(catest.Application(1))
	a := typedApplication(1)
	a.Email, a.TerminalName = "mallory@example.org", "至急 http://evil.example"
	r := apply(o, "f1", a)
	told := map[string]string{}
	for _, m := range waiting(o) {
		told[m.Kind+" "+m.Address] = fmt.Sprint(m.Args)
	}
	notice, ok := told["applied clinic@example.jp"]
	if !ok || !strings.Contains(notice, r.ID) {
		t.Errorf("the contact was not told: %v", told)
	}
	if strings.Contains(notice, "evil") || strings.Contains(told["confirm mallory@example.org"], "evil") {
		t.Error("a stranger's words reach the contact")
	}
	if got := o.Request(own.ID); got.Application.Email != "clinic@example.jp" {
		t.Errorf("the contact is now %s", got.Application.Email)
	}
	// The notice of the first certificate goes to the old contact.
	c := o.Certificate(own.Serial)
	_, err := o.RA.Revoke(t.Context(), catest.Officer, c.Serial, pki.KeyCompromise, "")
	catest.Must(t, err)
	mails := waiting(o)
	last := mails[len(mails)-1]
	if last.Kind != "revoked" || last.Address != "clinic@example.jp" {
		t.Errorf("the notice is %s to %s", last.Kind, last.Address)
	}
	// Another institution, and an application with the contact's own address, tell nobody.
	before := o.Count("outbox WHERE kind = 'applied'")
	apply(o, "f2", typedApplication(2))
	if n := o.Count("outbox WHERE kind = 'applied'"); n != before {
		t.Errorf("%d notices, want %d", n, before)
	}
}
