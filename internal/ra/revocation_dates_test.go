package ra_test

import (
	"crypto/x509"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

var thirdOfficer = catest.Actor("officer-3", pki.RoleOfficer)

func ahead(at time.Time) pki.RevocationDates { return pki.RevocationDates{Effective: at} }
func since(at time.Time) pki.RevocationDates { return pki.RevocationDates{InvalidSince: at} }

// dated revokes with a date and gives the case.
func dated(t testing.TB, o *catest.Office, serial string, reason pki.Reason, dates pki.RevocationDates) pki.Revocation {
	t.Helper()
	d, err := o.RA.RevokeDated(t.Context(), catest.Officer, serial, reason, dates, "as the letter of the prefecture says")
	catest.Must(t, err)
	return d.Revocation
}

// listed gives the entry of a certificate in a fresh CRL; nil where it is not in it.
func listed(t testing.TB, o *catest.Office, serial string) *x509.RevocationListEntry {
	t.Helper()
	crl, err := o.CA.PublishCRL(t.Context(), issuance.G1)
	catest.Must(t, err)
	list, err := x509.ParseRevocationList(crl.DER)
	catest.Must(t, err)
	for _, e := range list.RevokedCertificateEntries {
		if pki.SerialHex(e.SerialNumber) == serial {
			return &e
		}
	}
	return nil
}

// sound says whether the rows are what the audit records say.
func sound(t testing.TB, o *catest.Office) {
	t.Helper()
	r, err := o.Ops.VerifyRows(t.Context())
	catest.Must(t, err)
	if !r.OK() {
		t.Errorf("register: %+v", r)
	}
}

func finishRevocations(t testing.TB, o *catest.Office) ra.Queue {
	t.Helper()
	q, err := o.RA.FinishRevocations(t.Context())
	catest.Must(t, err)
	return q
}

// TestThreatRV6: a takeover is known six weeks before its day. Until then the certificate
// is good, everywhere, but not renewed; from the first moment of the day on it is revoked
// and in the CRL, whether or not a job ran; the job ends the case and the key.
func TestThreatRV6(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		r := o.Issued(catest.Application(1))
		held := func() int { return o.Count(`sealed_key WHERE stage = 'held' AND request = $1`, r.ID) }
		o.Advance(time.Minute)
		day := pki.Day(o.Now()).AddDate(0, 0, 42)
		v := dated(t, o, r.Serial, pki.AffiliationChanged, ahead(day.Add(300*time.Millisecond)))
		c := o.Certificate(r.Serial)
		if !c.EffectiveAt.Equal(day) || !c.RevokedAt.Equal(v.ReceivedAt) || c.Reason != pki.AffiliationChanged || c.State(o.Now()) != pki.Valid {
			t.Fatalf("%s, revoked %s from %s on for %s", c.State(o.Now()), c.RevokedAt, c.EffectiveAt, c.Reason)
		}
		told := mails(t, o, "clinic@example.jp")["revocation_dated"]
		if at, err := time.Parse(time.RFC3339, told["At"]); err != nil || !at.Equal(day) {
			t.Errorf("the holder is told %v", told)
		}
		if listed(t, o, r.Serial) != nil {
			t.Error("in the CRL before its day")
		}
		_, err := o.RA.RevokeDated(t.Context(), otherOfficer, r.Serial, pki.SupersededReason, ahead(day.AddDate(0, 0, 1)), "")
		catest.WantCode(t, err, "revocation.ahead_twice")
		_, err = o.RA.ApproveRevocation(t.Context(), otherOfficer, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "revocation.dated")
		sound(t, o)

		o.Set(day.Add(-time.Minute))
		if q := finishRevocations(t, o); q.Open != 0 || caseState(t, o, v.ID).State != pki.RevocationReceived {
			t.Errorf("a day to come asks for people: %+v", q)
		}
		ticket, err := o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, o.Reference(r.ID)))
		catest.Must(t, err)
		_, _, err = o.RA.PickupFile(t.Context(), ticket, catest.Cookie) // what is good is handed out
		catest.Must(t, err)
		if held() != 1 {
			t.Error("the key ended before the certificate")
		}

		o.Set(day)
		if got := o.Certificate(r.Serial).State(o.Now()); got != pki.Revoked {
			t.Errorf("on its day it is %s", got)
		}
		e := listed(t, o, r.Serial)
		if e == nil || !e.RevocationTime.Equal(day) || e.ReasonCode != int(pki.AffiliationChanged) {
			t.Errorf("entry %+v", e)
		}
		sound(t, o)
		_, err = o.RA.LiftRevocation(t.Context(), otherOfficer, v.ID, o.CaseHash(v.ID), "")
		catest.Must(t, err)
		_, err = o.RA.LiftRevocation(t.Context(), thirdOfficer, v.ID, o.CaseHash(v.ID), "too late")
		catest.WantCode(t, err, "certificate.revoked_already")
		o.Advance(10 * time.Second)
		finishRevocations(t, o)
		if got := caseState(t, o, v.ID); got.State != pki.RevocationDone || got.DecidedBy != "system/timeout" {
			t.Errorf("case is %s by %q", got.State, got.DecidedBy)
		}
		if c = o.Certificate(r.Serial); !c.EffectiveAt.Equal(day) || held() != 0 {
			t.Errorf("revoked from %s on, %d keys", c.EffectiveAt, held())
		}
		o.WantKinds(r.Serial, "certificate.revoked")
		if at := mails(t, o, "clinic@example.jp")["revoked"]["At"]; at != day.UTC().Format(time.RFC3339) {
			t.Errorf("the holder is told of %s", at)
		}
		sound(t, o)
	})
}

// TestThreatRV6Refused: what must count at once is not put off, nor anything for longer
// than 120 days; nor does the database take it.
func TestThreatRV6Refused(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		r, held := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
		o.Advance(time.Hour)
		_, err := o.RA.Revoke(t.Context(), catest.Officer, held.Serial, pki.CertificateHold, "asked by telephone")
		catest.Must(t, err)
		o.Advance(time.Hour)
		now, end := o.Now(), o.Certificate(r.Serial).NotAfter
		for name, row := range map[string]struct {
			serial string
			reason pki.Reason
			dates  pki.RevocationDates
			code   string
		}{
			"compromise":       {r.Serial, pki.KeyCompromise, ahead(now.AddDate(0, 0, 1)), "revocation.ahead_reason"},
			"compromise of us": {r.Serial, pki.CACompromise, ahead(now.AddDate(0, 0, 1)), "revocation.ahead_reason"},
			"hold":             {r.Serial, pki.CertificateHold, ahead(now.AddDate(0, 0, 1)), "revocation.ahead_reason"},
			"now":              {r.Serial, pki.SupersededReason, ahead(now), "revocation.ahead_past"},
			"yesterday":        {r.Serial, pki.SupersededReason, ahead(now.AddDate(0, 0, -1)), "revocation.ahead_past"},
			"121 days":         {r.Serial, pki.SupersededReason, ahead(now.Add(pki.MaxAhead + time.Second)), "revocation.ahead_far"},
			"on hold":          {held.Serial, pki.SupersededReason, ahead(now.AddDate(0, 0, 1)), "revocation.ahead_held"},
			"both":             {r.Serial, pki.SupersededReason, pki.RevocationDates{Effective: now.AddDate(0, 0, 1), InvalidSince: now}, "revocation.one_date"},
			"neither":          {r.Serial, pki.SupersededReason, pki.RevocationDates{}, "revocation.one_date"},
			"nobody's":         {"00ff", pki.SupersededReason, ahead(now.AddDate(0, 0, 1)), "certificate.unknown"},
			"no serial":        {"xyz", pki.SupersededReason, ahead(now.AddDate(0, 0, 1)), "serial.form"},
			"by who may not":   {"", 0, ahead(now.AddDate(0, 0, 1)), "actor.forbidden"},
		} {
			by := catest.Officer
			if row.serial == "" {
				by, row.serial = catest.Intake, r.Serial
			}
			_, err := o.RA.RevokeDated(t.Context(), by, row.serial, row.reason, row.dates, "grounds")
			if pki.CodeOf(err) != row.code {
				t.Errorf("%s: %v, want %s", name, err, row.code)
			}
		}
		wantState(t, o, r.Serial, pki.Valid)
		if n := o.Count("revocation"); n != 1 { // the hold's
			t.Errorf("%d cases", n)
		}
		for _, reason := range []string{"1", "2", "6"} {
			o.Refused(`UPDATE certificate SET revoked_at = 5, effective_at = 9, crl_entry = der, reason = `+reason+` WHERE serial = $1`, r.Serial)
		}
		o.Refused(`UPDATE certificate SET revoked_at = 9, effective_at = 5, crl_entry = der WHERE serial = $1`, r.Serial)

		v := dated(t, o, r.Serial, pki.SupersededReason, ahead(now.Add(pki.MaxAhead)))
		o.Refused(`UPDATE certificate SET effective_at = effective_at + 1 WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE certificate SET revoked_at = 0, reason = 0, effective_at = 0, crl_entry = NULL WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE certificate SET revoked_at = revoked_at - 1, effective_at = revoked_at - 1 WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE certificate SET revoked_at = revoked_at + 1, effective_at = effective_at + 1 WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE certificate SET revoked_at = effective_at + 1, effective_at = effective_at + 1 WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE revocation SET effective_at = effective_at + 1 WHERE id = $1`, v.ID)
		o.Set(end.AddDate(0, 0, -10))
		late := o.Issued(catest.Application(3))
		o.Set(o.Certificate(late.Serial).NotAfter.AddDate(0, 0, -10))
		_, err = o.RA.RevokeDated(t.Context(), catest.Officer, late.Serial, pki.SupersededReason, ahead(o.Now().AddDate(0, 0, 11)), "")
		catest.WantCode(t, err, "revocation.ahead_end")
	})
}

// TestThreatRV6TakenBack: before its day two officers take a dated revocation back, and it
// is as if it had never been; meanwhile nothing of the chain is renewed.
func TestThreatRV6TakenBack(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		r := o.Issued(catest.Application(1))
		o.Set(pki.RenewalOpens(o.Certificate(r.Serial).NotAfter).Add(time.Hour))
		day := o.Now().AddDate(0, 0, 30)
		v := dated(t, o, r.Serial, pki.CessationOfOperation, ahead(day))
		_, err := o.RA.Renew(ctx, ra.RenewInput{Leaf: o.Leaf(r.Serial)})
		catest.WantCode(t, err, "renewal.revoking")
		_, err = o.RA.RejectRevocation(ctx, otherOfficer, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "revocation.held")
		_, err = o.RA.LiftRevocation(ctx, otherOfficer, v.ID, o.CaseHash(v.ID), "the takeover is off")
		catest.Must(t, err)
		_, err = o.RA.LiftRevocation(ctx, otherOfficer, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "revocation.same_person")
		if !o.Certificate(r.Serial).Dated(o.Now()) {
			t.Error("one person took it back")
		}
		_, err = o.RA.LiftRevocation(ctx, catest.Officer, v.ID, o.CaseHash(v.ID), "")
		catest.Must(t, err)
		if c := o.Certificate(r.Serial); !c.RevokedAt.IsZero() || caseState(t, o, v.ID).State != pki.RevocationLifted {
			t.Errorf("revoked %s, case %s", c.RevokedAt, caseState(t, o, v.ID).State)
		}
		if mails(t, o, "clinic@example.jp")["revocation_undated"] == nil {
			t.Error("the holder is not told")
		}
		_, err = o.RA.Renew(ctx, ra.RenewInput{Leaf: o.Leaf(r.Serial), Source: catest.Pickup("", "").Source, Language: "ja"})
		catest.Must(t, err)
		o.Set(day.Add(time.Hour))
		finishRevocations(t, o)
		wantState(t, o, r.Serial, pki.Superseded)
		sound(t, o)
	})
}

// TestThreatRV6Compromised: a day to come keeps no thief's certificate alive. A report by
// letter holds it at once, and when two lift that, the day still stands; a report by the
// certificate itself, and an officer, revoke at once. The CRL goes on in between.
func TestThreatRV6Compromised(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		letter, own, office := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
		o.Advance(time.Hour)
		day := o.Now().AddDate(0, 0, 30).Truncate(time.Second)
		v := dated(t, o, letter.Serial, pki.CessationOfOperation, ahead(day))
		for _, r := range []pki.Request{own, office} {
			_ = dated(t, o, r.Serial, pki.CessationOfOperation, ahead(day))
		}
		o.Advance(time.Minute)
		report := asked(t, o, ask("1", pki.KeyCompromise, byLetter(letter)))
		wantState(t, o, letter.Serial, pki.Suspended)
		if e := listed(t, o, letter.Serial); e == nil || e.ReasonCode != int(pki.CertificateHold) {
			t.Errorf("entry of the hold: %+v", e)
		}
		o.Advance(time.Minute)
		for _, by := range []pki.Actor{catest.Officer, otherOfficer} {
			_, err := o.RA.LiftRevocation(ctx, by, report.ID, o.CaseHash(report.ID), "call back: a mistake")
			catest.Must(t, err)
		}
		c := o.Certificate(letter.Serial)
		if !c.Dated(o.Now()) || !c.EffectiveAt.Equal(day) || c.Reason != pki.CessationOfOperation {
			t.Errorf("after the hold revoked from %s on for %s", c.EffectiveAt, c.Reason)
		}
		if listed(t, o, letter.Serial) != nil {
			t.Error("in the CRL after the hold")
		}
		sound(t, o)

		_ = asked(t, o, ask("2", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(own.Serial)}))
		_, err := o.RA.Revoke(ctx, otherOfficer, office.Serial, pki.KeyCompromise, "")
		catest.Must(t, err)
		for _, r := range []pki.Request{own, office} {
			c = o.Certificate(r.Serial)
			if c.State(o.Now().Add(time.Second)) != pki.Revoked || c.Reason != pki.KeyCompromise || !c.EffectiveAt.Equal(c.RevokedAt) {
				t.Errorf("%s for %s from %s on", c.State(o.Now().Add(time.Second)), c.Reason, c.EffectiveAt)
			}
		}
		o.Set(day.Add(time.Second))
		finishRevocations(t, o)
		if e := listed(t, o, letter.Serial); e == nil || !e.RevocationTime.Equal(day) || caseState(t, o, v.ID).State != pki.RevocationDone {
			t.Errorf("on its day: entry %+v", e)
		}
		sound(t, o)
		o.Refused(`UPDATE certificate SET revoked_at = revoked_at + 1, effective_at = revoked_at + 1 WHERE serial = $1`, own.Serial)
	})
}

// TestThreatRV6HeldOnItsDay: a hold that outlasts the day becomes the revocation, and a
// day whose case is lifted during a hold ends nothing of the hold.
func TestThreatRV6HeldOnItsDay(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	ctx := t.Context()
	stays, back := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
	day := o.Now().Add(2 * time.Hour).Truncate(time.Second)
	_ = dated(t, o, stays.Serial, pki.SupersededReason, ahead(day))
	v := dated(t, o, back.Serial, pki.SupersededReason, ahead(day))
	o.Advance(time.Second)
	_ = asked(t, o, ask("1", pki.KeyCompromise, byLetter(stays)))
	_, err := o.RA.Revoke(ctx, catest.Officer, back.Serial, pki.CertificateHold, "asked by telephone")
	catest.Must(t, err)
	o.Advance(time.Second)
	for _, by := range []pki.Actor{otherOfficer, thirdOfficer} {
		_, err = o.RA.LiftRevocation(ctx, by, v.ID, o.CaseHash(v.ID), "the takeover is off")
		catest.Must(t, err)
	}
	sound(t, o)
	o.Set(day.Add(time.Second))
	finishRevocations(t, o)
	wantState(t, o, stays.Serial, pki.Revoked)
	wantState(t, o, back.Serial, pki.Suspended)
	sound(t, o)
}

// TestThreatRV7TwoSayWhen: since when a certificate was invalid is the word of two. The
// first puts it on hold at once; nobody but another officer makes it final with the date,
// which stands in the CRL beside the time of the commit.
func TestThreatRV7TwoSayWhen(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		r, alone, lifted := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
		o.Advance(90 * 24 * time.Hour)
		stolen := o.Now().AddDate(0, 0, -40).Truncate(time.Second)
		v := dated(t, o, r.Serial, pki.KeyCompromise, since(stolen.Add(time.Millisecond)))
		c := o.Certificate(r.Serial)
		if !v.Held() || c.Reason != pki.CertificateHold || !c.InvalidSince.IsZero() {
			t.Fatalf("held %t for %s, invalid since %s by the word of one", v.Held(), c.Reason, c.InvalidSince)
		}
		_, err := o.RA.ApproveRevocation(ctx, catest.Officer, v.ID, o.CaseHash(v.ID), "")
		catest.WantCode(t, err, "revocation.since_second")
		o.Refused(`UPDATE certificate SET invalid_since = $1 WHERE serial = $2`, stolen.UnixMicro(), r.Serial)
		o.Refused(`UPDATE revocation SET invalid_since = invalid_since - 1 WHERE id = $1`, v.ID)
		sound(t, o)
		o.Advance(time.Minute)
		d, err := o.RA.ApproveRevocation(ctx, otherOfficer, v.ID, o.CaseHash(v.ID), "seen")
		catest.Must(t, err)
		c = d.Certificate
		if !c.InvalidSince.Equal(stolen) || !c.RevokedAt.Equal(d.Revocation.DecidedAt) || !c.EffectiveAt.Equal(c.RevokedAt) || c.Reason != pki.KeyCompromise {
			t.Errorf("revoked %s from %s on for %s, invalid since %s", c.RevokedAt, c.EffectiveAt, c.Reason, c.InvalidSince)
		}
		e := listed(t, o, r.Serial)
		if e == nil || !e.RevocationTime.Equal(c.RevokedAt.Truncate(time.Second)) || !hasInvalidity(e) {
			t.Errorf("entry %+v", e)
		}
		o.Refused(`UPDATE certificate SET invalid_since = invalid_since - 1 WHERE serial = $1`, r.Serial)
		o.Refused(`UPDATE certificate SET invalid_since = 0 WHERE serial = $1`, r.Serial)

		// Alone, an officer revokes without the date; two others end the hold and the wish.
		w := dated(t, o, alone.Serial, pki.KeyCompromise, since(stolen))
		o.Advance(time.Minute)
		_, err = o.RA.Revoke(ctx, catest.Officer, alone.Serial, pki.KeyCompromise, "it is urgent")
		catest.Must(t, err)
		if e = listed(t, o, alone.Serial); e == nil || hasInvalidity(e) || caseState(t, o, w.ID).State != pki.RevocationDone {
			t.Errorf("one person's date is in entry %+v", e)
		}
		w = dated(t, o, lifted.Serial, pki.CessationOfOperation, since(stolen))
		o.Advance(time.Minute)
		for _, by := range []pki.Actor{otherOfficer, thirdOfficer} {
			_, err = o.RA.LiftRevocation(ctx, by, w.ID, o.CaseHash(w.ID), "")
			catest.Must(t, err)
		}
		wantState(t, o, lifted.Serial, pki.Valid)
		sound(t, o)

		// Nor does the database take one person for two.
		w = dated(t, o, lifted.Serial, pki.KeyCompromise, since(stolen))
		o.SQL(`UPDATE revocation SET state = 'revoked', decided_by = asked_by, decided_at = 9 WHERE id = $1`, w.ID)
		o.Refused(`UPDATE certificate SET reason = 1, invalid_since = $1 WHERE serial = $2`, stolen.UnixMicro(), lifted.Serial)
		o.SQL(`UPDATE certificate SET reason = 1 WHERE serial = $1`, lifted.Serial) // it is the date that is refused
	})
}

// TestThreatRV7AfterAHold: what a letter put on hold gets its date as well, and ends all
// cases together.
func TestThreatRV7AfterAHold(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	o.Advance(48 * time.Hour)
	report := asked(t, o, ask("1", pki.KeyCompromise, byLetter(r)))
	v := dated(t, o, r.Serial, pki.KeyCompromise, since(o.Now().AddDate(0, 0, -1)))
	if v.Held() {
		t.Error("held twice")
	}
	o.Advance(time.Minute)
	_, err := o.RA.ApproveRevocation(t.Context(), otherOfficer, v.ID, o.CaseHash(v.ID), "")
	catest.Must(t, err)
	for _, id := range []string{report.ID, v.ID} {
		if got := caseState(t, o, id).State; got != pki.RevocationDone {
			t.Errorf("case %s is %s", id, got)
		}
	}
	if e := listed(t, o, r.Serial); e == nil || !hasInvalidity(e) {
		t.Errorf("entry %+v", e)
	}
	sound(t, o)
}

// TestDatedTwiceIsOneCase: an officer whose command died says the same again, and it is the
// case that is there; another date, another reason, and what nothing holds any more, are
// another case or refused.
func TestDatedTwiceIsOneCase(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		r, later, letter := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
		o.Advance(48 * time.Hour)
		say := func(by pki.Actor, serial string, reason pki.Reason, dates pki.RevocationDates) ra.RevocationDetail {
			t.Helper()
			d, err := o.RA.RevokeDated(t.Context(), by, serial, reason, dates, "stolen")
			catest.Must(t, err)
			return d
		}
		stolen := o.Now().Add(-time.Hour).Truncate(time.Second)
		first := say(catest.Officer, r.Serial, pki.KeyCompromise, since(stolen))
		records := o.Kinds(first.Revocation.ID)
		o.Advance(time.Minute)
		for _, by := range []pki.Actor{catest.Officer, otherOfficer} {
			again := say(by, r.Serial, pki.KeyCompromise, since(stolen.Add(time.Millisecond)))
			if first.There || !again.There || again.Revocation != first.Revocation || again.Certificate.RevokedAt != first.Certificate.RevokedAt {
				t.Errorf("said again by %s: %+v", by.ID, again)
			}
		}
		if got := o.Kinds(first.Revocation.ID); len(got) != len(records) {
			t.Errorf("records of the case: %v", got)
		}
		for what, other := range map[string]ra.RevocationDetail{
			"another date":   say(catest.Officer, r.Serial, pki.KeyCompromise, since(stolen.Add(-time.Minute))),
			"another reason": say(catest.Officer, r.Serial, pki.SupersededReason, since(stolen)),
		} {
			if other.There || other.Revocation.ID == first.Revocation.ID {
				t.Errorf("%s is case %s", what, other.Revocation.ID)
			}
		}

		day := o.Now().AddDate(0, 0, 30)
		dated := say(catest.Officer, later.Serial, pki.CessationOfOperation, ahead(day))
		if again := say(catest.Officer, later.Serial, pki.CessationOfOperation, ahead(day)); !again.There || again.Revocation.ID != dated.Revocation.ID {
			t.Errorf("the day again: %+v", again)
		}

		// It found the hold of a letter. When two lift that, saying it again must hold.
		report := asked(t, o, ask("1", pki.KeyCompromise, byLetter(letter)))
		found := say(catest.Officer, letter.Serial, pki.CessationOfOperation, since(stolen))
		o.Advance(time.Minute)
		for _, by := range []pki.Actor{otherOfficer, thirdOfficer} {
			_, err := o.RA.LiftRevocation(t.Context(), by, report.ID, o.CaseHash(report.ID), "")
			catest.Must(t, err)
		}
		wantState(t, o, letter.Serial, pki.Valid)
		if again := say(catest.Officer, letter.Serial, pki.CessationOfOperation, since(stolen)); again.There || !again.Revocation.Held() {
			t.Errorf("case %s holds nothing, and said again: %+v", found.Revocation.ID, again)
		}
		wantState(t, o, letter.Serial, pki.Suspended)
		sound(t, o)
	})
}

// TestThreatRV7Refused: what is no past of this certificate, or has no reason, is refused
// and stops nothing.
func TestThreatRV7Refused(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	o.Advance(48 * time.Hour)
	now, from := o.Now(), o.Certificate(r.Serial).NotBefore
	for name, row := range map[string]struct {
		reason pki.Reason
		at     time.Time
		why    string
		code   string
	}{
		"no words":               {pki.KeyCompromise, now.Add(-time.Hour), "", "revocation.since_reason"},
		"no reason":              {pki.Unspecified, now.Add(-time.Hour), "stolen", "revocation.since_reason"},
		"a hold":                 {pki.CertificateHold, now.Add(-time.Hour), "stolen", "revocation.since_reason"},
		"to come":                {pki.KeyCompromise, now.Add(time.Hour), "stolen", "revocation.since_future"},
		"before the certificate": {pki.KeyCompromise, from.Add(-time.Second), "stolen", "revocation.since_before"},
	} {
		_, err := o.RA.RevokeDated(t.Context(), catest.Officer, r.Serial, row.reason, since(row.at), row.why)
		if pki.CodeOf(err) != row.code {
			t.Errorf("%s: %v, want %s", name, err, row.code)
		}
	}
	wantState(t, o, r.Serial, pki.Valid)
	if n := o.Count("revocation"); n != 0 {
		t.Errorf("%d cases", n)
	}
	_, err := o.RA.RevokeDated(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, since(from), "stolen on the way")
	catest.Must(t, err)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, "")
	catest.Must(t, err)
	_, err = o.RA.RevokeDated(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, since(from), "once more")
	catest.WantCode(t, err, "certificate.revoked_already")
}

func hasInvalidity(e *x509.RevocationListEntry) bool {
	for _, x := range e.Extensions {
		if x.Id.String() == "2.5.29.24" {
			return true
		}
	}
	return false
}

// TestDatedCasesAreListed: whoever looks sees from when.
func TestDatedCasesAreListed(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	day := o.Now().AddDate(0, 0, 5).Truncate(time.Second)
	v := dated(t, o, r.Serial, pki.SupersededReason, ahead(day))
	all, err := o.RA.Revocations(t.Context(), catest.Officer, store.RevocationFilter{State: pki.RevocationReceived})
	catest.Must(t, err)
	if len(all) != 1 || all[0].Revocation.ID != v.ID || !all[0].Revocation.FinalAt().Equal(day) || !all[0].Certificate.EffectiveAt.Equal(day) {
		t.Errorf("%+v", all)
	}
}
