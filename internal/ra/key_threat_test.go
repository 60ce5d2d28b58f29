package ra_test

import (
	"crypto"
	"fmt"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// TestThreatAP11AllOurCAs: a public key is certified for one owner, over all our CAs. What
// an operator, an API client, the OCSP responder, a site of ours, a holder or a CA has is
// certified for nobody else: not for an order of a client, not for a request that people
// approved, and not as one of our own.
func TestThreatAP11AllOurCAs(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			client := o.Client("vendor")
			o.Grant(pki.Grant{ClientID: client.ID})
			own := map[string]string{issuance.ProfileOperator: "someone operator", issuance.ProfileAPIClient: "other client", issuance.ProfileOCSP: "OCSP Responder 9"}
			keys := map[string]crypto.Signer{}
			for profile, name := range own {
				keys[profile] = o.Keyed(pki.P256)
				_, err := o.CA.IssueOwn(t.Context(), profile, name, keys[profile].Public(), nil, nil)
				catest.Must(t, err)
			}
			keys["site"] = o.Keyed(pki.P256)
			_, err := o.CA.IssueOwn(t.Context(), issuance.ProfileTLSServer, "", keys["site"].Public(), []string{"localhost"}, nil)
			catest.Must(t, err)
			for _, id := range []string{issuance.Root, issuance.G1, issuance.Operations, issuance.TLS} {
				keys["CA "+id] = o.Keys[id]
			}
			held, ordered := o.Keeping(catest.Application(1)), o.Keyed(pki.P256)
			keys["holder"] = held.Pair.PrivateKey.(crypto.Signer)
			keys["holder by order"] = ordered
			order := func(key crypto.Signer, name string) error {
				call := o.Call(name, catest.Holder(2))
				call.Application.CSR = testkit.CSR(t, key)
				_, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(client), client, call)
				return err
			}
			catest.Must(t, order(ordered, "the first"))
			certificates := o.Count("certificate")

			n := 0
			for whose, key := range keys {
				n++
				err := order(key, whose)
				if pki.CodeOf(err) != "csr.key_reused" {
					t.Errorf("order with the key of %s: %v", whose, err)
				}
				a := catest.Application(10 + n)
				a.CSR = testkit.CSR(t, key)
				r := o.Approved(a)
				_, err = o.CA.Issue(t.Context(), r.ID)
				if got := o.Request(r.ID); pki.CodeOf(err) != "csr.key_reused" || got.State != pki.Failed || got.Failure != "csr.key_reused" {
					t.Errorf("request with the key of %s: %v, %s, %s", whose, err, got.State, got.Failure)
				}
				for profile, name := range own {
					_, err = o.CA.IssueOwn(t.Context(), profile, fmt.Sprint(name, " ", n), key.Public(), nil, nil)
					if pki.CodeOf(err) != "csr.key_reused" {
						t.Errorf("%s with the key of %s: %v", profile, whose, err)
					}
				}
				_, err = o.CA.IssueOwn(t.Context(), issuance.ProfileTLSServer, "", key.Public(), []string{"localhost"}, nil)
				if pki.CodeOf(err) != "csr.key_reused" {
					t.Errorf("site with the key of %s: %v", whose, err)
				}
			}
			catest.Must(t, order(o.Keyed(pki.P256), "another key"))
			if got := o.Count("certificate"); got != certificates+1 {
				t.Errorf("%d certificates more, want one", got-certificates)
			}
			if got := o.Count("intent WHERE state = 'open'"); got != 0 {
				t.Errorf("%d open intents", got)
			}
		})
	}
}
