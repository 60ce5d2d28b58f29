package ra_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
	"inkan/internal/testkit"
)

const graceDays = 30

// renewing runs a test of renewals on each engine, with a holder and neighbours, and
// wants the register to be what the records tell afterwards.
func renewing(t *testing.T, test func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held)) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine, Activate: true, Grace: graceDays})
			h := o.Holding(catest.Application(1))
			others := []catest.Held{o.Holding(catest.Application(1)), o.Holding(catest.Application(2)), o.Holding(catest.Application(3))}
			test(t, o, h, others)
			report, err := o.Ops.VerifyRows(t.Context())
			catest.Must(t, err)
			if !report.OK() {
				t.Errorf("the register differs from its records: %+v", report.Deviations)
			}
		})
	}
}

// A certificate has one open renewal, however often, in whatever number of tabs and on
// whatever node it is asked for.
func TestRenewOnce(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		nodes := []*catest.Office{o, o.Node(t, o.DSN)}
		for _, node := range nodes {
			_, err := node.RA.Renew(t.Context(), catest.Wish(h))
			catest.WantCode(t, err, "renewal.early")
		}
		o.DaysBefore(h, 60)
		var wait sync.WaitGroup
		ids := make([]string, 16)
		for n := range ids {
			wait.Go(func() {
				r, err := nodes[n%2].RA.Renew(t.Context(), catest.Wish(h))
				if err != nil {
					t.Errorf("%d: %v", n, err)
				}
				ids[n] = r.ID
			})
		}
		wait.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("renewals %v", ids)
			}
		}
		r := o.Renewed(h)
		if n := o.Count("certificate WHERE predecessor = $1", h.Serial); n != 1 || r.ID != ids[0] || o.Count("request WHERE kind = 'renewal'") != 1 {
			t.Errorf("%d certificates, renewal %s after %s", n, r.ID, ids[0])
		}
		old := o.Certificate(h.Serial)
		if old.Successor != r.Serial || old.State(o.Now()) != pki.Superseded {
			t.Errorf("the old certificate is %s, its successor %q, want %q", old.State(o.Now()), old.Successor, r.Serial)
		}
		if want := pki.DayEnd(old.NotAfter.AddDate(0, 0, graceDays)); !r.Downloads.Equal(want) {
			t.Errorf("to be fetched until %v, want %v", r.Downloads, want)
		}
		if n := o.Count("outbox WHERE kind = 'renewed' AND request = $1", r.ID); n != 1 {
			t.Errorf("%d mails", n)
		}
		if fetched := o.Fetch(h, r.ID); pki.SerialHex(fetched.Pair.Leaf.SerialNumber) != r.Serial {
			t.Error("the file holds another certificate")
		}
	})
}

// Renewal opens at midnight in Japan and ends with the certificate.
func TestRenewalWindow(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		end := h.Pair.Leaf.NotAfter
		opens := pki.RenewalOpens(end)
		if clock := opens.In(pki.JST); clock.Hour() != 0 || clock.Minute() != 0 || pki.DaysLeft(opens, end) != pki.RenewalDays {
			t.Fatalf("renewal opens at %v", clock)
		}
		o.Set(opens.Add(-time.Second))
		_, err := o.RA.Renew(t.Context(), catest.Wish(h))
		catest.WantCode(t, err, "renewal.early")
		if o.Count("request WHERE kind = 'renewal'") != 0 {
			t.Error("a refused wish left a request")
		}
		o.Set(opens)
		r := o.Renewed(h)
		if got := o.Certificate(r.Serial); !got.NotBefore.Equal(o.Now().Truncate(time.Second)) {
			t.Errorf("the new certificate begins %v, want now: remaining time is lost", got.NotBefore)
		}
		o.Set(others[0].Pair.Leaf.NotAfter)
		o.Renewed(others[0])
		o.Set(others[1].Pair.Leaf.NotAfter.Add(time.Second))
		_, err = o.RA.Renew(t.Context(), catest.Wish(others[1]))
		catest.WantCode(t, err, "renewal.expired")
	})
}

// What is no good certificate of a holder's renews nothing, each for its own reason.
func TestThreatRS7RenewalRefuses(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		revoke := func(h catest.Held, reason pki.Reason) {
			_, err := o.RA.Revoke(t.Context(), catest.Officer, h.Serial, reason, "")
			catest.Must(t, err)
		}
		revoked, held := others[0], others[1]
		o.DaysBefore(revoked, 60)
		revoke(revoked, pki.KeyCompromise)
		revoke(held, pki.CertificateHold)
		later, err := o.RA.Submit(t.Context(), catest.Intake, ra.Submission{Source: pki.FromOperator, Application: catest.Application(9), NotBefore: o.Now().Add(time.Minute)})
		catest.Must(t, err)
		later, err = o.RA.Approve(t.Context(), catest.Approver, later.ID, later.ContentHash)
		catest.Must(t, err)
		o.Client("vendor")
		var own pki.Certificate
		o.View(func(tx *store.Tx) error {
			all, err := tx.Certificates(store.CertificateFilter{Issuer: "ops"})
			own = all[0]
			return err
		})
		refuse := func(name string, in ra.RenewInput, code string) {
			t.Helper()
			_, err := o.RA.Renew(t.Context(), in)
			if pki.CodeOf(err) != code {
				t.Errorf("%s: %v, want %s", name, err, code)
			}
			_, err = o.RA.PrepareRenewal(t.Context(), in.Leaf, catest.Pickup(h.ID, ""))
			if err == nil {
				t.Errorf("%s: a file was prepared", name)
			}
		}
		refuse("none", ra.RenewInput{}, "renewal.none")
		refuse("revoked", catest.Wish(revoked), "renewal.revoked")
		refuse("suspended", catest.Wish(held), "renewal.suspended")
		refuse("not begun", ra.RenewInput{Leaf: o.Leaf(later.Serial)}, "renewal.not_begun")
		refuse("an API client's", ra.RenewInput{Leaf: testkit.Certificate(t, own.DER)}, "renewal.foreign")
		for name, stranger := range o.Strangers(h) {
			before := strings.Count(o.Log.String(), "alarm: certificate outside the register")
			refuse(name, ra.RenewInput{Leaf: stranger.Leaf}, "renewal.foreign")
			p, err := o.RA.Present(t.Context(), stranger.Leaf)
			catest.Must(t, err)
			want := ra.Foreign
			if strings.HasPrefix(name, "stolen key") {
				want = ra.Unregistered
			}
			if p.Verdict != want {
				t.Errorf("%s: %s, want %s", name, p.Verdict, want)
			}
			alarms := strings.Count(o.Log.String(), "alarm: certificate outside the register") - before
			if (alarms > 0) != (want == ra.Unregistered) {
				t.Errorf("%s: %d alarms", name, alarms)
			}
		}
	})
}

// A renewed certificate is renewed in its turn. What expired has power over its own
// renewal alone.
func TestRenewalOfARenewal(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		o.DaysBefore(h, 60)
		second := o.Fetch(h, o.Renewed(h).ID)
		list, more, err := o.RA.RenewalList(t.Context(), second.Pair.Leaf, 1)
		catest.Must(t, err)
		if len(list) != 1 || list[0].Request.ID != second.ID || more {
			t.Errorf("the new certificate sees %d renewals", len(list))
		}
		o.DaysBefore(second, 60)
		third := o.Renewed(second)
		if o.Certificate(second.Serial).Successor != third.Serial || o.Certificate(h.Serial).Successor != second.Serial {
			t.Error("the chain is not in order")
		}
		_, err = o.RA.Renewal(t.Context(), second.Pair.Leaf, third.ID)
		catest.Must(t, err)
		_, err = o.RA.Renewal(t.Context(), h.Pair.Leaf, third.ID) // expired three years ago
		catest.WantCode(t, err, "renewal.unknown")
		_, err = o.RA.PrepareRenewal(t.Context(), h.Pair.Leaf, catest.Pickup(third.ID, ""))
		catest.WantCode(t, err, "renewal.unknown")
		fetched := o.Fetch(second, third.ID)
		list, _, err = o.RA.RenewalList(t.Context(), fetched.Pair.Leaf, 1)
		catest.Must(t, err)
		if len(list) != 2 {
			t.Errorf("the newest certificate sees %d renewals, want those of its whole chain", len(list))
		}
	})
}

// When what a renewal brought is revoked, the old certificate may be renewed again; a
// hold does not yet open it.
func TestRenewalAgainAfterRevocation(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		o.DaysBefore(h, 60)
		first := o.Renewed(h)
		_, err := o.RA.Revoke(t.Context(), catest.Officer, first.Serial, pki.CertificateHold, "")
		catest.Must(t, err)
		_, err = o.RA.Renew(t.Context(), catest.Wish(h))
		catest.WantCode(t, err, "renewal.revoking")
		_, err = o.RA.Revoke(t.Context(), catest.Officer, first.Serial, pki.KeyCompromise, "")
		catest.Must(t, err)
		if again := o.Renewed(h); again.ID == first.ID {
			t.Error("what was revoked stands in the way")
		}
		second := o.Renewed(h)
		if old := o.Certificate(h.Serial); old.Successor != second.Serial {
			t.Errorf("successor %q, want %q", old.Successor, second.Serial)
		}
		_, err = o.RA.Cancel(t.Context(), catest.Intake, second.ID, "by mistake")
		catest.Must(t, err)
		if third := o.Renewed(h); third.ID == second.ID {
			t.Error("a cancelled renewal stands in the way")
		}
		list, _, err := o.RA.RenewalList(t.Context(), h.Pair.Leaf, 1)
		catest.Must(t, err)
		if len(list) != 3 || !list[0].Fetchable || list[1].Fetchable || list[2].Fetchable {
			t.Errorf("list: %+v", list)
		}
	})
}

// A list is turned page by page, whatever number somebody types.
func TestRenewalListPages(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	h := o.Holding(catest.Application(1))
	o.DaysBefore(h, 60)
	for range ra.RenewalsPage + 1 {
		r := o.Renewed(h)
		_, err := o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.Unspecified, "")
		catest.Must(t, err)
	}
	for page, want := range map[int]int{-1: 20, 0: 20, 1: 20, 2: 1, 3: 0, 1 << 40: 0, 1<<63 - 1: 0, -1 << 63: 20} {
		list, more, err := o.RA.RenewalList(t.Context(), h.Pair.Leaf, page)
		if err != nil || len(list) != want || more != (want == 20) {
			t.Errorf("page %d: %d rows, more %t, %v", page, len(list), more, err)
		}
	}
}

// After the end of the old certificate the printed IDs fetch the new one, until the
// grace time is over: then its key is destroyed and it is revoked.
func TestThreatRS10GraceTime(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		lost, other := others[0], others[1]
		o.DaysBefore(h, 60)
		one, never := o.Renewed(h), o.Renewed(lost)
		page, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, one.ID)
		catest.Must(t, err)
		printed := page.ReferenceID
		if len(printed.Reveal()) != pki.ReferenceIDLength {
			t.Fatal("the page shows no reference ID")
		}
		for _, mail := range outbox(o) {
			if strings.Contains(mail, printed.Reveal()) {
				t.Error("a mail holds the reference ID")
			}
		}
		_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(one.ID, pki.NewReferenceID())) // what the mail tells
		catest.WantCode(t, err, "pickup.wrong_ids")
		theirs, err := o.RA.Renewal(t.Context(), lost.Pair.Leaf, never.ID)
		catest.Must(t, err)
		_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(one.ID, theirs.ReferenceID))
		catest.WantCode(t, err, "pickup.wrong_ids")

		o.Set(h.Pair.Leaf.NotAfter.AddDate(0, 0, graceDays-1))
		_, err = o.CA.Sweep(t.Context())
		catest.Must(t, err)
		_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(one.ID, printed))
		catest.Must(t, err)
		if fetched := o.Fetch(h, one.ID); pki.SerialHex(fetched.Pair.Leaf.SerialNumber) != one.Serial {
			t.Error("the expired certificate fetched another one")
		}
		_, err = o.RA.PrepareRenewal(t.Context(), other.Pair.Leaf, catest.Pickup(one.ID, ""))
		catest.WantCode(t, err, "renewal.unknown")

		o.Set(never.Downloads.Add(time.Second))
		_, err = o.CA.Sweep(t.Context())
		catest.Must(t, err)
		o.Advance(time.Second)
		for _, r := range []pki.Request{one, never} {
			if o.Count("sealed_key WHERE request = $1 AND blob IS NOT NULL", r.ID) != 0 {
				t.Errorf("the key of %s is here after the deadline", r.ID)
			}
			_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, map[string]pki.Secret{one.ID: printed, never.ID: theirs.ReferenceID}[r.ID]))
			catest.WantCode(t, err, "pickup.deadline")
		}
		if kept, gone := o.Certificate(one.Serial), o.Certificate(never.Serial); kept.State(o.Now()) != pki.Valid ||
			gone.State(o.Now()) != pki.Revoked || gone.Reason != pki.CessationOfOperation {
			t.Errorf("fetched: %s; never fetched: %s", kept.State(o.Now()), gone.State(o.Now()))
		}
		if o.Certificate(lost.Serial).Successor != "" || o.Request(never.ID).Closed.IsZero() {
			t.Error("the old certificate still names what was revoked")
		}
	})
}

// An issue that fails and begins anew keeps the IDs that were shown.
func TestRenewalKeepsItsIDs(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		o.DaysBefore(h, 60)
		o.Signer.Once("SignIntents", catest.Before, func() error { return pki.E(pki.Busy, "signer.away") })
		r, err := o.RA.Renew(t.Context(), catest.Wish(h))
		catest.Must(t, err)
		before, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, r.ID)
		catest.Must(t, err)
		if before.Request.State != pki.Issuing || before.ReferenceID == "" || before.Fetchable {
			t.Fatalf("the renewal is %s", before.Request.State)
		}
		o.Advance(time.Hour) // the intent is too old to be signed
		catest.Must(t, o.CA.Recover(t.Context(), 0))
		catest.Must(t, o.CA.Recover(t.Context(), 0))
		after, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, r.ID)
		catest.Must(t, err)
		if after.ReferenceID != before.ReferenceID || !after.Fetchable {
			t.Errorf("the renewal is %s, its IDs the same: %t", after.Request.State, after.ReferenceID == before.ReferenceID)
		}
		o.WantKinds(r.ID, "request.approved", "reference.drawn", "request.failed", "request.issued")
		_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, before.ReferenceID))
		catest.Must(t, err)
	})
}

// Wherever Renew dies, the background worker issues what was entered, and the holder who
// reloads or asks again has the certificate and its IDs.
func TestRenewalGoesOnAfterACrash(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		holders := append([]catest.Held{h}, others[:2]...)
		o.DaysBefore(h, 60)
		away := func() error { return pki.E(pki.Busy, "signer.away") }
		for n, method := range []string{"NewVerifier", "SealReference", "Hold"} {
			o.Signer.Once(method, catest.Before, away)
			_, _ = o.RA.Renew(t.Context(), catest.Wish(holders[n]))
		}
		if n := o.Count("request WHERE kind = 'renewal' AND state IN ('approved', 'generating')"); n != 1 { // two go on without their IDs
			t.Fatalf("%d renewals wait: the test is blind", n)
		}
		p, err := o.RA.Present(t.Context(), h.Pair.Leaf)
		catest.Must(t, err)
		if p.Open == "" {
			t.Error("the holder is not told that a renewal is under way")
		}
		catest.Must(t, o.CA.Recover(t.Context(), 15*time.Second))
		for n, h := range holders {
			p, err := o.RA.Present(t.Context(), h.Pair.Leaf)
			catest.Must(t, err)
			if n == 1 {
				again := o.Renewed(h)
				if again.ID != p.Open {
					t.Errorf("asked again: %s, not %s", again.ID, p.Open)
				}
			}
			page, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, p.Open)
			catest.Must(t, err)
			if !page.Fetchable || page.ReferenceID == "" {
				t.Fatalf("%d: the renewal is %s, has IDs: %t", n, page.Request.State, page.ReferenceID != "")
			}
			_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(p.Open, page.ReferenceID))
			catest.Must(t, err)
			if again, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, p.Open); err != nil || again.ReferenceID != page.ReferenceID {
				t.Errorf("%d: a reload shows another reference ID: %v", n, err)
			}
		}
	})
}

// 鍵の取得 takes four to sixteen digits, twice the same.
func TestRenewalPIN(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true, Grace: graceDays})
	h := o.Holding(catest.Application(1))
	o.DaysBefore(h, 60)
	r := o.Renewed(h)
	for _, tt := range []struct{ pin, confirm, code string }{
		{"", "", "renewal.pin_form"}, {"123", "123", "renewal.pin_form"}, {"12a4", "12a4", "renewal.pin_form"}, {"１２３４", "１２３４", "renewal.pin_form"},
		{"12345678901234567", "12345678901234567", "renewal.pin_form"}, {"1234", "1235", "pickup.pin_differs"}, {"1234", "12345", "pickup.pin_differs"},
		{"1234", "1234", ""}, {"123456", "123456", ""}, {"1234567890123456", "1234567890123456", ""},
	} {
		in := catest.Pickup(r.ID, "")
		in.PIN, in.PINConfirm = pki.Secret(tt.pin), pki.Secret(tt.confirm)
		ticket, err := o.RA.PrepareRenewal(t.Context(), h.Pair.Leaf, in)
		catest.WantCode(t, err, tt.code)
		if tt.code != "" {
			continue
		}
		_, file, err := o.RA.PickupFile(t.Context(), ticket, catest.Cookie)
		catest.Must(t, err)
		if pair := catest.Open(o, file, tt.pin); !bytes.Equal(pair.Leaf.Raw, o.Certificate(r.Serial).DER) {
			t.Errorf("%s: another certificate", tt.pin)
		}
	}
}

// outbox gives what the outbox holds.
func outbox(o *catest.Office) []string {
	db := o.Raw()
	rows, err := db.QueryContext(o.T.Context(), `SELECT id, address, args FROM outbox`)
	catest.Must(o.T, err)
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var id, address, args string
		catest.Must(o.T, rows.Scan(&id, &address, &args))
		out = append(out, id+address+args)
	}
	if len(out) == 0 {
		o.T.Error("no mails: the test is blind")
	}
	return out
}
