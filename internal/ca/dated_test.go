package ca_test

import (
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// TestThreatRV6CRLOnTheDay: no act is needed on the day: a node that was told of it, at
// its start or by the feed, finds the CRL due at the first moment of it and not before,
// and once only; one that was lifted meanwhile makes none due.
func TestThreatRV6CRLOnTheDay(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r, other, back := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
	fed := newView(t, o, o.Now)
	day := o.Now().Add(30 * time.Second).Truncate(time.Second)
	serials := map[string]time.Time{r.Serial: day, other.Serial: day.Add(time.Hour), back.Serial: day.Add(10 * time.Second)}
	for serial, at := range serials {
		_, err := o.RA.RevokeDated(t.Context(), catest.Officer, serial, pki.CessationOfOperation, pki.RevocationDates{Effective: at}, "")
		must(t, err)
	}
	open, err := o.RA.Revocations(t.Context(), catest.Officer, store.RevocationFilter{Serials: []string{back.Serial}})
	must(t, err)
	for _, officer := range []string{"officer-2", "officer-3"} {
		_, err = o.RA.LiftRevocation(t.Context(), catest.Actor(officer, pki.RoleOfficer), open[0].Revocation.ID, o.CaseHash(open[0].Revocation.ID), "")
		must(t, err)
	}
	_, err = o.CA.PublishCRL(t.Context(), issuance.G1)
	must(t, err)
	loaded := newView(t, o, o.Now)
	for _, row := range []struct {
		at      time.Time
		due     bool
		entries int
	}{{day.Add(-time.Millisecond), false, 0}, {day, true, 1}, {day.Add(time.Second), false, 1}, {day.Add(20 * time.Second), false, 1}} {
		o.Set(row.at)
		for name, v := range map[string]interface {
			CRL(issuer string) (store.CRL, time.Time)
		}{"fed": fed, "loaded": loaded} {
			must(t, fed.Catch(t.Context()))
			must(t, loaded.Catch(t.Context()))
			crl, newest := v.CRL(issuance.G1)
			if due := o.CA.CRLDue(crl, newest, o.Now()); due != row.due {
				t.Errorf("%s view, %s after the day began: due %t", name, row.at.Sub(day), due)
			}
		}
		_, newest := fed.CRL(issuance.G1)
		crl, err := o.CA.RenewCRL(t.Context(), issuance.G1, newest)
		must(t, err)
		list, err := x509.ParseRevocationList(crl.DER)
		must(t, err)
		if len(list.RevokedCertificateEntries) != row.entries {
			t.Errorf("%s after the day began: %d entries", row.at.Sub(day), len(list.RevokedCertificateEntries))
		}
	}
}

// TestThreatRV9Dated: what took effect on its day stays in the CRL, though a hold of the
// same certificate was lifted before.
func TestThreatRV9Dated(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	_, err := o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.CertificateHold, "")
	must(t, err)
	open, err := o.RA.Revocations(t.Context(), catest.Officer, store.RevocationFilter{Serials: []string{r.Serial}})
	must(t, err)
	publish(t, o)
	for _, officer := range []string{"officer-2", "officer-3"} {
		_, err = o.RA.LiftRevocation(t.Context(), catest.Actor(officer, pki.RoleOfficer), open[0].Revocation.ID, o.CaseHash(open[0].Revocation.ID), "")
		must(t, err)
	}
	day := o.Now().Add(time.Hour)
	_, err = o.RA.RevokeDated(t.Context(), catest.Officer, r.Serial, pki.CessationOfOperation, pki.RevocationDates{Effective: day}, "")
	must(t, err)
	publish(t, o) // the entry of the hold may go
	o.Set(day.Add(time.Second))
	last := publish(t, o)
	o.Disarm()
	o.SQL(`UPDATE certificate SET revoked_at = 0, effective_at = 0 WHERE serial = $1`, r.Serial)
	o.Advance(time.Hour)
	_, err = o.CA.PublishCRL(t.Context(), issuance.G1)
	wantCode(t, err, "crl.entry_vanished")
	list, err := x509.ParseRevocationList(last.DER)
	must(t, err)
	if len(list.RevokedCertificateEntries) != 1 {
		t.Error("it was in no CRL: the test is blind")
	}
}

// TestThreatRV7InAnswers: an answer repeats since when a certificate was invalid, beside
// the time of the revocation and not instead of it.
func TestThreatRV7InAnswers(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r, plain := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
	o.Advance(24 * time.Hour)
	v := newView(t, o, o.Now)
	a := newAnswers(t, o, v)
	since := o.Now().Add(-5 * time.Hour).Truncate(time.Second)
	d, err := o.RA.RevokeDated(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, pki.RevocationDates{InvalidSince: since}, "stolen")
	must(t, err)
	must(t, v.Catch(t.Context()))
	if got := a.ask(t, question(t, o, r.Serial)); got.Status != ocsp.Revoked || got.RevocationReason != ocsp.CertificateHold || len(got.Extensions) > 0 {
		t.Errorf("by the word of one: status %d, reason %d, %v", got.Status, got.RevocationReason, got.Extensions)
	}
	o.Advance(time.Minute)
	_, err = o.RA.ApproveRevocation(t.Context(), catest.Actor("officer-2", pki.RoleOfficer), d.Revocation.ID, o.CaseHash(d.Revocation.ID), "")
	must(t, err)
	revoke(t, o, plain.Serial, pki.KeyCompromise)
	must(t, v.Catch(t.Context()))
	for _, view := range []answers{a, newAnswers(t, o, newView(t, o, o.Now))} {
		got := view.ask(t, question(t, o, r.Serial))
		var at time.Time
		if len(got.Extensions) == 1 && got.Extensions[0].Id.String() == "2.5.29.24" {
			_, err = asn1.UnmarshalWithParams(got.Extensions[0].Value, &at, "generalized")
			must(t, err)
		}
		if !at.Equal(since) || !got.RevokedAt.Equal(o.Certificate(r.Serial).RevokedAt.Truncate(time.Second)) || got.RevocationReason != ocsp.KeyCompromise {
			t.Errorf("invalid since %s, revoked %s for %d", at, got.RevokedAt, got.RevocationReason)
		}
		if got = view.ask(t, question(t, o, plain.Serial)); got.Status != ocsp.Revoked || len(got.Extensions) > 0 {
			t.Errorf("without a date: %v", got.Extensions)
		}
	}
}
