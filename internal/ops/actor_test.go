package ops_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
)

// operator makes an operator with a key and certificate of the Operations CA.
func operator(t *testing.T, o *catest.Office, id string) (crypto.Signer, []byte) {
	t.Helper()
	made, key, cert := candidate(t, o, id, pki.Account{})
	catest.Must(t, o.Ops.AddOperator(t.Context(), pki.System("test"), made))
	return key, cert.Raw
}

// candidate is an operator with a certificate, not registered yet.
func candidate(t *testing.T, o *catest.Office, id string, account pki.Account) (pki.Operator, crypto.Signer, *x509.Certificate) {
	t.Helper()
	key := o.Keyed(pki.P256)
	cert, err := o.CA.IssueOwn(t.Context(), issuance.ProfileOperator, id+" operator", key.Public(), nil, nil)
	catest.Must(t, err)
	return pki.Operator{ID: id, Name: id, CertSHA256: o.Certificate(pki.SerialHex(cert.SerialNumber)).SHA256, Roles: []pki.Role{pki.RoleApprover}, Account: account}, key, cert
}

// TestThreatCO1: a command's actor is proved, once, for this command.
func TestThreatCO1(t *testing.T) {
	o := catest.New(t, catest.Options{})
	key, cert := operator(t, o, "alpha")
	otherKey, otherCert := operator(t, o, "beta")
	sign := func(st ops.Statement, key crypto.Signer) []byte {
		signature, err := st.Sign(key)
		catest.Must(t, err)
		return signature
	}
	_, err := o.Ops.Assert(t.Context(), "alpha", "request approve")
	catest.WantCode(t, err, "actor.key_needed")

	st := o.Ops.NewStatement("alpha", "request approve", "hash")
	signature := sign(st, key)
	a, err := o.Ops.Prove(t.Context(), st, cert, signature)
	catest.Must(t, err)
	if a.ID != "alpha" || a.Auth != pki.AuthKey || !a.May(pki.MayApprove) || a.May(pki.MayManage) {
		t.Errorf("proved %+v", a)
	}
	_, err = o.Ops.Prove(t.Context(), st, cert, signature)
	catest.WantCode(t, err, "actor.replayed")

	changed := func(change func(*ops.Statement)) ops.Statement {
		st := o.Ops.NewStatement("alpha", "request approve", "hash")
		change(&st)
		return st
	}
	for _, row := range []struct {
		name string
		st   ops.Statement
		key  crypto.Signer
		cert []byte
	}{
		{"another's key under my certificate", changed(func(*ops.Statement) {}), otherKey, cert},
		{"another's key and certificate under my name", changed(func(*ops.Statement) {}), otherKey, otherCert},
		{"nobody's name", changed(func(s *ops.Statement) { s.Operator = "gamma" }), key, cert},
		{"old", changed(func(s *ops.Statement) { s.At = s.At.Add(-3 * time.Minute) }), key, cert},
		{"of tomorrow", changed(func(s *ops.Statement) { s.At = s.At.Add(3 * time.Minute) }), key, cert},
		{"no certificate", changed(func(*ops.Statement) {}), key, []byte("x")},
	} {
		_, err := o.Ops.Prove(t.Context(), row.st, row.cert, sign(row.st, row.key))
		if pki.CodeOf(err) != "actor.unproved" {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	otherVersion := changed(func(s *ops.Statement) { s.Version = 2 })
	empty := sha256.Sum256(nil) // of no text, for a version that has none
	signed, err := key.Sign(rand.Reader, empty[:], crypto.SHA256)
	catest.Must(t, err)
	_, err = o.Ops.Prove(t.Context(), otherVersion, cert, signed)
	catest.WantCode(t, err, "actor.unproved")

	tampered := o.Ops.NewStatement("alpha", "request approve", "hash")
	signature = sign(tampered, key)
	tampered.Content = "another hash"
	_, err = o.Ops.Prove(t.Context(), tampered, cert, signature)
	catest.WantCode(t, err, "actor.unproved")

	catest.Must(t, o.Ops.DisableOperator(t.Context(), catest.Admin, "alpha"))
	st = o.Ops.NewStatement("alpha", "request approve", "hash")
	_, err = o.Ops.Prove(t.Context(), st, cert, sign(st, key))
	catest.WantCode(t, err, "actor.unproved")
	o.Refused(`UPDATE operator SET disabled_at = 0 WHERE id = 'alpha'`)
	o.Refused(`UPDATE operator SET cert_sha256 = '00' WHERE id = 'beta'`)
	o.Refused(`DELETE FROM statement`)
}

// TestThreatAU8Accept: the clock is believed by the proved word of an administrator, and by
// nothing less; the proof is on the record then.
func TestThreatAU8Accept(t *testing.T) {
	o := catest.New(t, catest.Options{})
	intakeKey, intakeCert := operator(t, o, "alpha")
	made, key, cert := candidate(t, o, "omega", pki.Account{})
	made.Roles = []pki.Role{pki.RoleAdmin}
	catest.Must(t, o.Ops.AddOperator(t.Context(), pki.System("test"), made))
	const ahead = 10 * 24 * time.Hour
	jumped := o.Now().Add(ahead)
	o.Jump(ahead)
	for _, row := range []struct {
		name, operator, command string
		key                     crypto.Signer
		cert                    []byte
		code                    string
	}{
		{"no administrator", "alpha", ops.ClockAccept, intakeKey, intakeCert, "actor.forbidden"},
		{"an administrator's name", "omega", ops.ClockAccept, intakeKey, intakeCert, "actor.unproved"},
		{"an administrator's certificate", "omega", ops.ClockAccept, intakeKey, cert.Raw, "actor.unproved"},
		{"another command", "omega", "request show", key, cert.Raw, "clock.ahead"},
	} {
		st := o.Ops.NewStatement(row.operator, row.command, "")
		signature, err := st.Sign(row.key)
		catest.Must(t, err)
		_, err = o.Ops.Prove(t.Context(), st, row.cert, signature)
		catest.WantCode(t, err, row.code)
		_, err = o.Ops.AcceptClock(t.Context(), catest.Admin)
		if pki.CodeOf(err) != "clock.ahead" {
			t.Errorf("%s: something is recorded: %v", row.name, err)
		}
	}
	st := o.Ops.NewStatement("omega", ops.ClockAccept, "")
	signature, err := st.Sign(key)
	catest.Must(t, err)
	by, err := o.Ops.Prove(t.Context(), st, cert.Raw, signature)
	catest.Must(t, err)
	at, err := o.Ops.AcceptClock(t.Context(), by)
	catest.Must(t, err)
	if at.Before(jumped) {
		t.Errorf("the time is %s", at)
	}
	o.WantKinds("omega", "operator.added", "operator.proved")
}

// TestThreatCO1Guest: nobody looks without a name but in a demo.
func TestThreatCO1Guest(t *testing.T) {
	o := catest.New(t, catest.Options{})
	_, err := o.Ops.Guest()
	catest.WantCode(t, err, "actor.key_needed")
	o = catest.New(t, catest.Options{Asserted: true})
	guest, err := o.Ops.Guest()
	catest.Must(t, err)
	if guest.Auth != pki.AuthAsserted || guest.May(pki.MayApprove) || guest.May(pki.MayRevoke) || guest.May(pki.MayManage) || !guest.May(pki.MayReadAudit) {
		t.Errorf("guest %+v", guest)
	}
}

// TestExportsAreForAuditors: what a record says is for those who may read the audit.
func TestExportsAreForAuditors(t *testing.T) {
	o := catest.New(t, catest.Options{})
	_ = o.Submit(catest.Application(1))
	for _, by := range []pki.Actor{catest.Admin, catest.Approver, catest.Officer, catest.Intake, pki.System("test")} {
		_, err := o.Ops.ProveRecord(t.Context(), by, 0)
		if pki.CodeOf(err) != "actor.forbidden" {
			t.Errorf("%s: %v", by.ID, err)
		}
	}
	p, err := o.Ops.ProveRecord(t.Context(), catest.Actor("auditor", pki.RoleAuditor), 0)
	catest.Must(t, err)
	if len(p.Body) == 0 {
		t.Error("an auditor reads no record")
	}
	_, err = o.Ops.ProveRecord(t.Context(), catest.Actor("auditor", pki.RoleAuditor), 1_000_000)
	catest.WantCode(t, err, "audit.no_record")
}

// TestThreatCO2: an API client is its certificate, in force now.
func TestThreatCO2(t *testing.T) {
	o := catest.New(t, catest.Options{})
	key := o.Keyed(pki.P256)
	cert, err := o.CA.IssueOwn(t.Context(), issuance.ProfileAPIClient, "vendor 1", key.Public(), nil, nil)
	catest.Must(t, err)
	_, _, err = o.Ops.Client(t.Context(), cert)
	catest.WantCode(t, err, "client.unknown")
	holder := o.Issued(catest.Application(1))
	_, _, err = o.Ops.Client(t.Context(), o.Leaf(holder.Serial))
	catest.WantCode(t, err, "client.unknown")
}

// TestStatementVector: what an operator's key signed once stays provable.
func TestStatementVector(t *testing.T) {
	st := ops.Statement{Version: 1, Operator: "alpha", Command: "request approve", Content: "202611230000011 1:0a", At: time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC), Nonce: "0b"}
	text := "inkan statement 1\noperator 5:alpha\ncommand 15:request approve\ncontent 20:202611230000011 1:0a\nat 16:1795395723000004\nnonce 2:0b\n"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	catest.Must(t, err)
	signature, err := st.Sign(key)
	catest.Must(t, err)
	digest := sha256.Sum256([]byte(text))
	if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
		t.Error("another text is signed")
	}
}
