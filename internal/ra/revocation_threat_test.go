package ra_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

var otherOfficer = catest.Actor("officer-2", pki.RoleOfficer)

// leaf is the certificate as a connection presents it.
// ask is what a page asks by the letter's IDs, or by the certificate.
func ask(flow string, reason pki.Reason, way ra.RevocationWay) ra.RevocationInput {
	return ra.RevocationInput{RevocationWay: way, Flow: flow, Email: "typed@example.jp", Reason: reason, Language: "ja", Source: catest.Pickup("", "").Source}
}

func asked(t testing.TB, o *catest.Office, in ra.RevocationInput) pki.Revocation {
	t.Helper()
	v, err := o.RA.AskRevocation(t.Context(), in)
	catest.Must(t, err)
	return v
}

func byLetter(r pki.Request) ra.RevocationWay { return ra.RevocationWay{RequestID: r.ID} }

func wantState(t testing.TB, o *catest.Office, serial string, want pki.CertificateState) {
	t.Helper()
	if got := o.Certificate(serial).State(o.Now().Add(time.Second)); got != want {
		t.Errorf("certificate is %s, want %s", got, want)
	}
}

func caseState(t testing.TB, o *catest.Office, id string) pki.Revocation {
	t.Helper()
	d, err := o.RA.Revocation(t.Context(), catest.Officer, id)
	catest.Must(t, err)
	return d.Revocation
}

// mails are the kinds of mail for an address, and what they name.
func mails(t testing.TB, o *catest.Office, address string) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	db := o.Raw()
	rows, err := db.QueryContext(t.Context(), `SELECT kind, args FROM outbox WHERE address = $1`, address)
	catest.Must(t, err)
	defer rows.Close()
	for rows.Next() {
		var kind, args string
		catest.Must(t, rows.Scan(&kind, &args))
		named := map[string]string{}
		catest.Must(t, json.Unmarshal([]byte(args), &named))
		if named["Reason"] == "certificateHold" {
			kind = "suspended"
		}
		out[kind] = named
	}
	catest.Must(t, rows.Err())
	return out
}

// onEngines runs a test on both engines.
func onEngines(t *testing.T, test func(t *testing.T, o *catest.Office)) {
	t.Helper()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) { test(t, catest.New(t, catest.Options{Engine: engine, Activate: true})) })
	}
}

// TestAskedRevocations: what each wish leads to at once, by each way.
func TestAskedRevocations(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		for n, row := range []struct {
			reason        pki.Reason
			byCertificate bool
			state         pki.CertificateState
			is            pki.RevocationState
		}{
			{pki.KeyCompromise, false, pki.Suspended, pki.RevocationReceived},
			{pki.KeyCompromise, true, pki.Revoked, pki.RevocationDone},
			{pki.CessationOfOperation, false, pki.Valid, pki.RevocationReceived},
			{pki.CessationOfOperation, true, pki.Valid, pki.RevocationReceived},
			{pki.Unspecified, true, pki.Valid, pki.RevocationReceived},
		} {
			r := o.Issued(catest.Application(n + 1))
			way := byLetter(r)
			if row.byCertificate {
				way = ra.RevocationWay{Leaf: o.Leaf(r.Serial)}
			}
			flow := fmt.Sprint("flow ", n)
			v := asked(t, o, ask(flow, row.reason, way))
			again := asked(t, o, ask(flow, row.reason, way)) // pressed twice
			if again.ID != v.ID || v.State != row.is {
				t.Errorf("%d: case %s is %s, once more %s", n, v.ID, v.State, again.ID)
			}
			wantState(t, o, r.Serial, row.state)
			o.WantKinds(v.ID, "revocation.received")
		}
		if n := o.Count("revocation"); n != 5 {
			t.Errorf("%d cases of 5 flows", n)
		}
	})
}

// TestRevocationRefused: what cannot be asked for, each in its own words, changes nothing.
func TestRevocationRefused(t *testing.T) {
	o := catest.New(t, catest.Options{})
	ctx := t.Context()
	r := o.Issued(catest.Application(1))
	ref := o.Reference(r.ID)
	prove := func(id string, ref pki.Secret) string {
		_, err := o.RA.ProveLetter(ctx, catest.Pickup(id, ref))
		if err == nil {
			return ""
		}
		return pki.CodeOf(err)
	}
	if code := prove(r.ID, ref); code != "revocation.not_issued" || !strings.Contains(o.Log.String(), "alarm: letter IDs used before dispatch") {
		t.Errorf("IDs of a letter that has not left: %s", code)
	}
	o.Dispatch(r.ID)
	for name, got := range map[string][2]string{
		"right":             {prove(r.ID, ref), ""},
		"wrong reference":   {prove(r.ID, pki.NewReferenceID()), "revocation.wrong_ids"},
		"unknown request":   {prove("202611230099999", ref), "revocation.wrong_ids"},
		"not issued, wrong": {prove(o.Submit(catest.Application(2)).ID, ref), "revocation.wrong_ids"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %q, want %q", name, got[0], got[1])
		}
	}
	_, err := o.RA.AskRevocation(ctx, ask("f", pki.CertificateHold, byLetter(r)))
	catest.WantCode(t, err, "revocation.reason")
	bad := ask("f", pki.KeyCompromise, byLetter(r))
	bad.Email = "a@example.jp\r\nBcc: b@example.jp"
	_, err = o.RA.AskRevocation(ctx, bad)
	catest.WantCode(t, err, "email.form")
	_, err = o.RA.AskRevocation(ctx, ask("f", pki.KeyCompromise, ra.RevocationWay{Leaf: o.CAs[issuance.G1]}))
	catest.WantCode(t, err, "revocation.foreign")
	o.SQL(`UPDATE reference SET voided_at = 1 WHERE request = $1`, r.ID) // the letter was sent anew after the flow began
	_, err = o.RA.AskRevocation(ctx, ask("f", pki.KeyCompromise, byLetter(r)))
	catest.WantCode(t, err, "revocation.wrong_ids")
	wantState(t, o, r.Serial, pki.Valid)
	_, err = o.RA.Revoke(ctx, catest.Officer, r.Serial, pki.Unspecified, "")
	catest.Must(t, err)
	_, err = o.RA.AskRevocation(ctx, ask("f", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(r.Serial)}))
	catest.WantCode(t, err, "revocation.already")
	if n := o.Count("revocation"); n != 0 {
		t.Errorf("%d cases", n)
	}
}

// TestThreatRV1: with 21 letters in hand, 20 certificates are put on hold in an hour; the
// next waits for an officer, with an alarm. An hour later the way is free. All contacts
// hear of a hold, and no one person undoes it.
func TestThreatRV1(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	a := catest.Application(1)
	a.MaintenanceEmail = "vendor@example.jp"
	var last pki.Revocation
	for n := range ra.LetterHolds + 1 {
		a.Holder = catest.Holder(n + 1)
		r := o.Issued(a)
		last = asked(t, o, ask(fmt.Sprint(n), pki.KeyCompromise, byLetter(r)))
		if held := n < ra.LetterHolds; last.Held() != held || (o.Certificate(r.Serial).State(o.Now().Add(time.Second)) == pki.Suspended) != held {
			t.Fatalf("report %d: held %t", n+1, last.Held())
		}
	}
	if !strings.Contains(o.Log.String(), "alarm: too many certificates were put on hold") {
		t.Error("no alarm")
	}
	q, err := o.RA.FinishRevocations(t.Context())
	if err != nil || q.Unheld != 1 || q.Open != ra.LetterHolds+1 {
		t.Errorf("queue %+v, %v", q, err)
	}
	for _, address := range []string{a.Email, a.MaintenanceEmail} {
		if got := mails(t, o, address); got["suspended"] == nil {
			t.Errorf("%s is not told of a hold: %v", address, got)
		}
	}
	// The certificate itself is never stopped by others' letters.
	own := o.Issued(catest.Application(100))
	if v := asked(t, o, ask("own", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(own.Serial)})); v.State != pki.RevocationDone {
		t.Errorf("by certificate: %s", v.State)
	}
	o.Advance(time.Hour + time.Second)
	late := o.Issued(catest.Application(101))
	if v := asked(t, o, ask("late", pki.KeyCompromise, byLetter(late))); !v.Held() {
		t.Error("an hour later nothing is held")
	}
}

// TestThreatRV3: nobody rejects a wish alone, nobody sits on one: after a day and a
// second it is revoked.
func TestThreatRV3(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		wish, report := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
		v := asked(t, o, ask("1", pki.CessationOfOperation, byLetter(wish)))
		w := asked(t, o, ask("2", pki.KeyCompromise, byLetter(report)))
		officers := o.Issued(catest.Application(3))
		_, err := o.RA.Revoke(ctx, catest.Officer, officers.Serial, pki.CertificateHold, "asked by telephone")
		catest.Must(t, err)
		for range 2 { // the second word of one person is no second person's
			d, err := o.RA.RejectRevocation(ctx, catest.Officer, v.ID, o.CaseHash(v.ID), "I know better")
			if err == nil && d.Revocation.State != pki.RevocationReceived || err != nil && pki.CodeOf(err) != "revocation.same_person" {
				t.Errorf("one person: %s, %v", d.Revocation.State, err)
			}
		}
		_, err = o.RA.RejectRevocation(ctx, otherOfficer, w.ID, o.CaseHash(w.ID), "")
		catest.WantCode(t, err, "revocation.held")
		_, err = o.RA.LiftRevocation(ctx, otherOfficer, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "revocation.not_held")
		_, err = o.RA.RejectRevocation(ctx, catest.Intake, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "actor.forbidden")

		o.Set(v.ReceivedAt.Add(pki.Undecided))
		_, err = o.RA.FinishRevocations(ctx)
		catest.Must(t, err)
		wantState(t, o, wish.Serial, pki.Valid)
		o.Advance(time.Second)
		_, err = o.RA.FinishRevocations(ctx)
		catest.Must(t, err)
		o.Advance(time.Second)
		_, err = o.RA.FinishRevocations(ctx)
		catest.Must(t, err)
		for serial, reason := range map[string]pki.Reason{wish.Serial: pki.CessationOfOperation, report.Serial: pki.KeyCompromise} {
			wantState(t, o, serial, pki.Revoked)
			if got := o.Certificate(serial).Reason; got != reason {
				t.Errorf("revoked for %s, want %s", got, reason)
			}
		}
		if got := caseState(t, o, v.ID); got.State != pki.RevocationDone || got.DecidedBy != "system/timeout" {
			t.Errorf("case %+v", got)
		}
		wantState(t, o, officers.Serial, pki.Suspended) // an officer's own hold is for people
		_, err = o.RA.RejectRevocation(ctx, otherOfficer, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "revocation.decided")
	})
}

// TestThreatRV3TwoReject: two do reject, and the wish is over.
func TestThreatRV3TwoReject(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	v := asked(t, o, ask("1", pki.SupersededReason, byLetter(r)))
	for _, by := range []pki.Actor{catest.Officer, otherOfficer} {
		_, err := o.RA.RejectRevocation(t.Context(), by, v.ID, o.CaseHash(v.ID), "the wrong terminal")
		catest.Must(t, err)
	}
	o.Advance(48 * time.Hour)
	_, err := o.RA.FinishRevocations(t.Context())
	catest.Must(t, err)
	wantState(t, o, r.Serial, pki.Valid)
	o.WantKinds(v.ID, "revocation.received", "revocation.proposed", "revocation.rejected")
	if got := mails(t, o, "typed@example.jp"); got["revocation_refused"] == nil {
		t.Errorf("mails %v", got)
	}
}

// TestDecisionsAboutACaseAreOfWhatWasShown: what came to a case after an officer looked at
// it, and a word without a look, decide nothing.
func TestDecisionsAboutACaseAreOfWhatWasShown(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	v := asked(t, o, ask("1", pki.SupersededReason, byLetter(o.Issued(catest.Application(1)))))
	shown := o.CaseHash(v.ID)
	_, err := o.RA.RejectRevocation(t.Context(), catest.Officer, v.ID, shown, "the wrong terminal")
	catest.Must(t, err)
	for _, seen := range []string{shown, "", v.Content()} {
		for what, decide := range map[string]func(context.Context, pki.Actor, string, string, string) (ra.RevocationDetail, error){
			"approve": o.RA.ApproveRevocation, "reject": o.RA.RejectRevocation, "lift": o.RA.LiftRevocation,
		} {
			_, err := decide(t.Context(), otherOfficer, v.ID, seen, "")
			if pki.CodeOf(err) != "revocation.changed" {
				t.Errorf("%s of %q: %v", what, seen, err)
			}
		}
	}
	o.WantKinds(v.ID, "revocation.received", "revocation.proposed")
	_, err = o.RA.RejectRevocation(t.Context(), otherOfficer, v.ID, o.CaseHash(v.ID), "")
	catest.Must(t, err)
	_, err = o.RA.ApproveRevocation(t.Context(), catest.Officer, v.ID, shown, "") // decided meanwhile: that is what to say
	catest.WantCode(t, err, "revocation.decided")
}

// TestThreatRV4: the address that was typed learns the number and the time and nothing
// else; those whom the application names learn what it is about.
func TestThreatRV4(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	waits, held, final := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
	v := asked(t, o, ask("1", pki.Unspecified, byLetter(waits)))
	_ = asked(t, o, ask("2", pki.KeyCompromise, byLetter(held)))
	_ = asked(t, o, ask("3", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(final.Serial)}))
	_, err := o.RA.ApproveRevocation(t.Context(), catest.Officer, v.ID, o.CaseHash(v.ID), "")
	catest.Must(t, err)
	typed := mails(t, o, "typed@example.jp")
	if typed["revocation_received"] == nil || typed["revocation_done"] == nil {
		t.Errorf("typed address is told %v", typed)
	}
	for kind, args := range typed {
		for name := range args {
			if name != "Number" && name != "At" {
				t.Errorf("%s tells the typed address %s", kind, name)
			}
		}
	}
	registered := mails(t, o, "clinic@example.jp")
	for _, kind := range []string{"revocation_asked", "suspended", "revoked"} {
		if registered[kind]["HolderCode"] == "" || registered[kind]["Terminal"] == "" {
			t.Errorf("the application's address is told %v of %s", registered[kind], kind)
		}
	}
}

// TestThreatRV5: nobody lifts a hold alone, not even who placed it; the database refuses
// it, too. When two officers lifted it, OCSP and CRL say so, and the holder is told.
func TestThreatRV5(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		r := o.Issued(catest.Application(1))
		_, err := o.RA.Revoke(ctx, catest.Officer, r.Serial, pki.CertificateHold, "for show")
		catest.Must(t, err)
		all, err := o.RA.Revocations(ctx, catest.Officer, store.RevocationFilter{})
		catest.Must(t, err)
		id := all[0].Revocation.ID
		o.Refused(`UPDATE certificate SET revoked_at = 0, reason = 0, effective_at = 0, crl_entry = NULL WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE revocation SET state = 'lifted', proposed_by = 'a', decided_by = 'b', decided_at = 9 WHERE id = $1`, id)
		_, err = o.RA.LiftRevocation(ctx, catest.Officer, id, o.CaseHash(id), "call back")
		catest.Must(t, err)
		o.Refused(`UPDATE revocation SET state = 'lifted', decided_by = 'officer', decided_at = 9 WHERE id = $1`, id)
		o.Refused(`UPDATE revocation SET proposed_by = 'officer-2' WHERE id = $1`, id)
		_, err = o.RA.LiftRevocation(ctx, catest.Officer, id, o.CaseHash(id), "")
		catest.WantCode(t, err, "revocation.same_person")
		wantState(t, o, r.Serial, pki.Suspended)
		crl, err := o.CA.PublishCRL(ctx, issuance.G1)
		catest.Must(t, err)
		if n := entries(t, crl.DER); n != 1 {
			t.Fatalf("%d entries while on hold", n)
		}
		_, err = o.RA.LiftRevocation(ctx, otherOfficer, id, o.CaseHash(id), "seen")
		catest.Must(t, err)
		wantState(t, o, r.Serial, pki.Valid)
		o.WantKinds(r.Serial, "certificate.revoked", "certificate.lifted")
		crl, err = o.CA.PublishCRL(ctx, issuance.G1)
		catest.Must(t, err)
		if n := entries(t, crl.DER); n != 0 {
			t.Errorf("%d entries after the lift", n)
		}
		if mails(t, o, "clinic@example.jp")["lifted"] == nil {
			t.Error("the holder is not told")
		}
		o.Refused(`UPDATE revocation SET state = 'received', decided_by = '' WHERE id = $1`, id)
		o.Refused(`DELETE FROM revocation WHERE id = $1`, id)
	})
}

// TestThreatRV5Two: two different officers undo what an officer's word did: his hold, what
// was renewed from a certificate that he revoked, and a hold that the second one lifts
// first. What a holder asked for is undone by two others, and never by the holder; the
// database says the same.
func TestThreatRV5Two(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		held, old, wish := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
		_, err := o.RA.Revoke(ctx, catest.Officer, held.Serial, pki.CertificateHold, "asked by telephone")
		catest.Must(t, err)
		asks := asked(t, o, ask("1", pki.CessationOfOperation, byLetter(wish)))
		o.Set(pki.RenewalOpens(o.Certificate(old.Serial).NotAfter).Add(time.Hour))
		chained := renewed(t, o, old.Serial)
		_, err = o.RA.Revoke(ctx, catest.Officer, old.Serial, pki.KeyCompromise, "stolen")
		catest.Must(t, err)
		for serial, by := range map[string][2]pki.Actor{held.Serial: {otherOfficer, catest.Officer}, chained.Serial: {catest.Officer, otherOfficer}} {
			open, err := o.RA.Revocations(ctx, catest.Officer, store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{serial}})
			catest.Must(t, err)
			for n := range by {
				d, err := o.RA.LiftRevocation(ctx, by[n], open[0].Revocation.ID, o.CaseHash(open[0].Revocation.ID), "seen")
				if want := []pki.RevocationState{pki.RevocationReceived, pki.RevocationLifted}[n]; err != nil || d.Revocation.State != want {
					t.Fatalf("word %d on a case by %s: %s, %v", n+1, open[0].Revocation.Proof, d.Revocation.State, err)
				}
			}
			wantState(t, o, serial, pki.Valid)
		}
		o.Refused(`UPDATE revocation SET proposed_by = asked_by WHERE id = $1`, asks.ID)
		o.Refused(`UPDATE revocation SET proposed_by = 'officer', state = 'rejected', decided_by = asked_by, decided_at = 9 WHERE id = $1`, asks.ID)
		holder := catest.Actor(asks.AskedBy, pki.RoleOfficer)
		_, err = o.RA.RejectRevocation(ctx, holder, asks.ID, o.CaseHash(asks.ID), "")
		catest.WantCode(t, err, "revocation.same_person")
	})
}

func entries(t testing.TB, der []byte) int {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	catest.Must(t, err)
	return len(list.RevokedCertificateEntries)
}

// TestThreatRV5OtherReports: a hold does not end while somebody else reported the same
// certificate.
func TestThreatRV5OtherReports(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	first := asked(t, o, ask("1", pki.KeyCompromise, byLetter(r)))
	second := asked(t, o, ask("2", pki.KeyCompromise, byLetter(r)))
	_, err := o.RA.LiftRevocation(t.Context(), catest.Officer, first.ID, o.CaseHash(first.ID), "")
	catest.Must(t, err)
	_, err = o.RA.LiftRevocation(t.Context(), otherOfficer, first.ID, o.CaseHash(first.ID), "")
	catest.WantCode(t, err, "revocation.others")
	_, err = o.RA.ApproveRevocation(t.Context(), catest.Officer, second.ID, o.CaseHash(second.ID), "")
	catest.Must(t, err)
	for _, id := range []string{first.ID, second.ID} { // one revocation ends them all
		if got := caseState(t, o, id).State; got != pki.RevocationDone {
			t.Errorf("case %s is %s", id, got)
		}
	}
}

// TestThreatRV7: the time of a revocation is its commit's and stays; a case cannot be
// backdated.
func TestThreatRV7(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		r := o.Issued(catest.Application(1))
		o.Advance(time.Hour)
		v := asked(t, o, ask("1", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(r.Serial)}))
		c := o.Certificate(r.Serial)
		if !c.RevokedAt.Equal(v.DecidedAt) || !c.EffectiveAt.Equal(c.RevokedAt) || c.RevokedAt.Before(o.Now().Add(-time.Second)) {
			t.Errorf("revoked %s, effective %s, decided %s", c.RevokedAt, c.EffectiveAt, v.DecidedAt)
		}
		for _, column := range []string{"revoked_at", "effective_at"} {
			o.Refused(`UPDATE certificate SET `+column+` = 1 WHERE serial = $1`, r.Serial)
		}
		for _, column := range []string{"received_at", "decided_at"} {
			o.Refused(`UPDATE revocation SET `+column+` = 1 WHERE id = $1`, v.ID)
		}
	})
}
