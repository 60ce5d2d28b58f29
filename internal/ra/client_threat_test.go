package ra_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/testkit"
)

// TestThreatAP11Register: a key that the register knows is never certified again: of
// another holder, of another client, after a compromise; nor is a CA's own.
func TestThreatAP11Register(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			first, second := o.Client("vendor"), o.Client("other")
			o.Grant(pki.Grant{ClientID: first.ID})
			o.Grant(pki.Grant{ClientID: second.ID})
			call := o.Call("one", catest.Holder(1))
			r, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(first), first, call)
			catest.Must(t, err)
			_, err = o.RA.IssueByGrant(t.Context(), catest.ByClient(second), second, call)
			catest.WantCode(t, err, "csr.key_reused")
			_, err = o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, "stolen")
			catest.Must(t, err)
			call.IdempotencyKey = "two"
			for _, client := range []store.APIClient{first, second} {
				_, err = o.RA.IssueByGrant(t.Context(), catest.ByClient(client), client, call)
				catest.WantCode(t, err, "csr.key_reused")
			}

			made := o.Issued(catest.Application(9)) // a key that the CA made itself
			spki := sha256.Sum256(o.Leaf(made.Serial).RawSubjectPublicKeyInfo)
			if n := o.Count("public_key WHERE spki_sha256 = '" + hex.EncodeToString(spki[:]) + "'"); n != 1 {
				t.Errorf("the key of the pool is %d times in the register", n)
			}

			own := o.Call("own", catest.Holder(2))
			own.Application.CSR = testkit.CSR(t, o.Keys[issuance.G1])
			_, err = o.RA.IssueByGrant(t.Context(), catest.ByClient(first), first, own)
			catest.WantCode(t, err, "csr.key_reused")
			if n := o.Count("certificate WHERE revoked_at = 0 AND request <> ''"); n != 1 {
				t.Errorf("%d certificates in force, want that of the pool alone", n)
			}
		})
	}
}

// TestThreatAP13: an idempotency key belongs to one client and to one body.
func TestThreatAP13(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			first, second := o.Client("vendor"), o.Client("other")
			o.Grant(pki.Grant{ClientID: first.ID})
			o.Grant(pki.Grant{ClientID: second.ID})
			call := o.Call("key", catest.Holder(1))
			c, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(first), first, call)
			catest.Must(t, err)
			again, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(first), first, call)
			catest.Must(t, err)
			if again.RequestID != c.RequestID || again.Serial != c.Serial {
				t.Errorf("the same call made request %s and %s", c.RequestID, again.RequestID)
			}
			_, err = o.RA.IssueByGrant(t.Context(), catest.ByClient(first), first, o.Call("key", catest.Holder(1))) // another CSR
			catest.WantCode(t, err, "idempotency.body")
			theirs, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(second), second, o.Call("key", catest.Holder(2)))
			catest.Must(t, err)
			if theirs.RequestID == c.RequestID || o.Request(theirs.RequestID).ClientID != second.ID {
				t.Errorf("the other client got request %s", theirs.RequestID)
			}
			if n := o.Count("certificate WHERE request <> ''"); n != 2 {
				t.Errorf("%d certificates", n)
			}
			o.Refused(`UPDATE request SET idempotency = 'taken' WHERE id = $1`, c.RequestID)
		})
	}
}
