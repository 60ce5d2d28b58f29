package ra_test

import (
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// renewed renews a certificate in its window.
func renewed(t testing.TB, o *catest.Office, serial string) pki.Request {
	t.Helper()
	r, err := o.RA.Renew(t.Context(), ra.RenewInput{Leaf: o.Leaf(serial), Source: catest.Pickup("", "").Source, Language: "ja"})
	catest.Must(t, err)
	_, err = o.CA.Issue(t.Context(), r.ID)
	catest.Must(t, err)
	return o.Request(r.ID)
}

// TestThreatRS9: a thief renews with the stolen file; when the old certificate is
// reported compromised, by whatever way, what it was renewed to is on hold in the same
// transaction, and nothing of the chain is renewed meanwhile. An officer decides of each.
func TestThreatRS9(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		var old []pki.Request
		for n := range 3 {
			old = append(old, o.Issued(catest.Application(n+1)))
		}
		o.Set(pki.RenewalOpens(o.Certificate(old[0].Serial).NotAfter).Add(time.Hour))
		ways := []func(pki.Request) error{
			func(r pki.Request) error {
				_, err := o.RA.AskRevocation(ctx, ask("l", pki.KeyCompromise, byLetter(r)))
				return err
			},
			func(r pki.Request) error {
				_, err := o.RA.AskRevocation(ctx, ask("c", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(r.Serial)}))
				return err
			},
			func(r pki.Request) error {
				_, err := o.RA.Revoke(ctx, catest.Officer, r.Serial, pki.KeyCompromise, "")
				return err
			},
		}
		for n, way := range ways {
			thief := renewed(t, o, old[n].Serial)
			catest.Must(t, way(old[n]))
			c := o.Certificate(thief.Serial)
			if c.State(o.Now().Add(time.Second)) != pki.Suspended || !c.RevokedAt.Equal(o.Certificate(old[n].Serial).RevokedAt) {
				t.Errorf("way %d: the renewal is %s since %s", n, c.State(o.Now().Add(time.Second)), c.RevokedAt)
			}
			_, err := o.RA.Renew(ctx, ra.RenewInput{Leaf: o.Leaf(thief.Serial)})
			catest.WantCode(t, err, "renewal.suspended")
			if n == 0 {
				continue
			}
			open, err := o.RA.Revocations(ctx, catest.Officer, store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{thief.Serial}})
			catest.Must(t, err)
			if len(open) != 1 || open[0].Revocation.Proof != pki.ByChain {
				t.Fatalf("cases %+v", open)
			}
			_, err = o.RA.ApproveRevocation(ctx, catest.Officer, open[0].Revocation.ID, o.CaseHash(open[0].Revocation.ID), "")
			catest.Must(t, err)
			wantState(t, o, thief.Serial, pki.Revoked)
		}
	})
}

// TestThreatRS9RenewalWaits: while a revocation of a certificate is asked for, it is not
// renewed; and a renewal that was on its way when the report came is born on hold.
func TestThreatRS9RenewalWaits(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	ctx := t.Context()
	waits, late := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
	o.Set(pki.RenewalOpens(o.Certificate(late.Serial).NotAfter).Add(time.Hour))
	v := asked(t, o, ask("1", pki.AffiliationChanged, byLetter(waits)))
	_, err := o.RA.Renew(ctx, ra.RenewInput{Leaf: o.Leaf(waits.Serial)})
	catest.WantCode(t, err, "renewal.revoking")
	for _, by := range []pki.Actor{catest.Officer, otherOfficer} {
		_, err = o.RA.RejectRevocation(ctx, by, v.ID, o.CaseHash(v.ID), "")
		catest.Must(t, err)
	}
	_, err = o.RA.Renew(ctx, ra.RenewInput{Leaf: o.Leaf(waits.Serial)})
	catest.Must(t, err)

	// Between the signature of the renewal and its storing, the old one is reported.
	var id string
	o.Signer.Once("SignIntents", catest.After, func() error {
		id = asked(t, o, ask("2", pki.KeyCompromise, byLetter(late))).ID
		return nil
	})
	r := renewed(t, o, late.Serial)
	if id == "" {
		t.Fatal("nothing was reported: the test is blind")
	}
	wantState(t, o, r.Serial, pki.Suspended)
}

// TestThreatRS14: the state counts that is true when the act is committed: a certificate
// that was revoked after the page looked is not asked about, nor renewed, nor fetched.
func TestThreatRS14(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		r := o.Issued(catest.Application(1))
		o.Set(pki.RenewalOpens(o.Certificate(r.Serial).NotAfter).Add(time.Hour))
		cert := o.Leaf(r.Serial)
		p, err := o.RA.Present(t.Context(), cert)
		if err != nil || !p.Usable() {
			t.Fatalf("%s, %v", p.Verdict, err)
		}
		_, err = o.RA.RevocationSubject(t.Context(), ra.RevocationWay{Leaf: cert})
		catest.Must(t, err)
		_, err = o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.PrivilegeWithdrawn, "") // between the page and the button
		catest.Must(t, err)
		_, err = o.RA.Renew(t.Context(), ra.RenewInput{Leaf: cert})
		catest.WantCode(t, err, "renewal.revoked")
		_, err = o.RA.AskRevocation(t.Context(), ask("1", pki.KeyCompromise, ra.RevocationWay{Leaf: cert}))
		catest.WantCode(t, err, "revocation.already")
		if n := o.Count("request WHERE kind = 'renewal'"); n != 0 {
			t.Errorf("%d renewals", n)
		}
	})
}
