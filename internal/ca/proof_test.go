package ca_test

import (
	"errors"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// TestThreatCO12HandMadeIntent: an intent that somebody wrote into the database, or
// changed there, is never signed.
func TestThreatCO12HandMadeIntent(t *testing.T) {
	for name, deed := range map[string]string{
		"bytes of another":           `UPDATE intent SET tbs = (SELECT tbs FROM intent WHERE state = 'done' LIMIT 1) WHERE state = 'open'`,
		"another's record":           `UPDATE intent SET audit_index = 0 WHERE state = 'open'`,
		"a record that is not there": `UPDATE intent SET audit_index = 100000 WHERE state = 'open'`,
		"for another request":        `UPDATE intent SET request = '202611230009999' WHERE state = 'open'`,
		"of another profile":         `UPDATE intent SET profile = 'ocsp' WHERE state = 'open'`,
		"made by hand":               `INSERT INTO intent SELECT 'aa' || serial, issuer, profile, '', tbs, audit_index, audit_leaf, 'open', made_at + 1 FROM intent WHERE state = 'done'`,
	} {
		t.Run(name, func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			o.Issued(catest.Application(1))
			r := o.Approved(catest.Application(2))
			away := errors.New("away")
			o.Signer.Once("SignIntents", catest.Before, func() error { return away })
			_, err := o.CA.Issue(t.Context(), r.ID)
			wantCode(t, err, "signer.away")
			o.Disarm()
			o.SQL(deed)
			o.Advance(time.Minute)
			before := calls(o, "SignIntents")
			err = o.CA.Recover(t.Context(), time.Second)
			wantCode(t, err, "intent.unproved")
			signed := calls(o, "SignIntents") - before
			want := 0
			if name == "made by hand" {
				want = 1 // the honest one beside it
			}
			if signed != want {
				t.Errorf("%d calls of the signer, want %d", signed, want)
			}
			if n := o.Count("certificate"); n != 1+want {
				t.Errorf("%d certificates", n)
			}
		})
	}
}

func calls(o *catest.Office, method string) int {
	n := 0
	for _, c := range o.Signer.Calls() {
		if c == method {
			n++
		}
	}
	return n
}

// TestThreatCK4FaultySignature: a signature with one bit wrong is neither stored nor
// shown; the very same bytes are signed again.
func TestThreatCK4FaultySignature(t *testing.T) {
	o := catest.New(t, catest.Options{})
	o.Signer.Spoil = func(r []keystore.SignResult) { r[0].Signature[len(r[0].Signature)-1] ^= 1 }
	r := o.Approved(catest.Application(1))
	_, err := o.CA.Issue(t.Context(), r.ID)
	if err == nil {
		t.Fatal("a spoilt signature was taken")
	}
	if o.Count("certificate") != 0 || o.Request(r.ID).State != pki.Issuing || o.Count("outbox") != 0 {
		t.Errorf("stored or sent: request is %s", o.Request(r.ID).State)
	}
	o.Signer.Spoil = nil
	done, err := o.CA.Issue(t.Context(), r.ID)
	must(t, err)
	if done.State != pki.Issued || o.Count("intent") != 1 {
		t.Errorf("request is %s, %d intents", done.State, o.Count("intent"))
	}
}

// TestThreatCK7Repeated: a generator that repeats a serial number gets no second intent.
func TestThreatCK7Repeated(t *testing.T) {
	for _, engine := range []string{store.SQLite, store.PostgreSQL} {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			r := o.Issued(catest.Application(1))
			signed := calls(o, "SignIntents")
			err := o.DB.Update(t.Context(), func(tx *store.Tx) error {
				return tx.AddIntent(store.Intent{Serial: r.Serial, Issuer: "g1", Profile: "holder", TBS: []byte("another"), AuditLeaf: make([]byte, 32)})
			})
			if !errors.Is(err, pki.ErrConflict) {
				t.Errorf("a second intent of one serial: %v", err)
			}
			c := o.Certificate(r.Serial)
			c.SHA256, c.RequestID = "another", ""
			err = o.DB.Update(t.Context(), func(tx *store.Tx) error { return tx.AddCertificate(c) })
			if !errors.Is(err, pki.ErrConflict) {
				t.Errorf("a second certificate of one serial: %v", err)
			}
			if calls(o, "SignIntents") != signed {
				t.Error("something was signed")
			}
		})
	}
}
