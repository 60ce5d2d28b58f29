package ops_test

import (
	"crypto"
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
	_, err := o.Ops.Assert(t.Context(), "alpha")
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

// TestThreatCO2: an API client is its certificate, in force now.
func TestThreatCO2(t *testing.T) {
	o := catest.New(t, catest.Options{})
	key := o.Keyed(pki.P256)
	cert, err := o.CA.IssueOwn(t.Context(), issuance.ProfileAPIClient, "vendor 1", key.Public(), nil, nil)
	catest.Must(t, err)
	_, err = o.Ops.Client(t.Context(), cert)
	catest.WantCode(t, err, "client.unknown")
	holder := o.Issued(catest.Application(1))
	_, err = o.Ops.Client(t.Context(), o.Leaf(holder.Serial))
	catest.WantCode(t, err, "client.unknown")
}
