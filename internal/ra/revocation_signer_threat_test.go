package ra_test

import (
	"slices"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// TestThreatRV2OfficersNeedNoSigner: no decision of an officer, and no wish that a
// certificate proves, asks the signer for anything. It is recorded, and answered as soon
// as a node reads it; that a CRL waits is told with the time since when.
func TestThreatRV2OfficersNeedNoSigner(t *testing.T) {
	onEngines(t, func(t *testing.T, o *catest.Office) {
		ctx := t.Context()
		serials := make([]string, 6)
		for n := range serials {
			serials[n] = o.Issued(catest.Application(n + 1)).Serial
		}
		third := catest.Actor("officer-3", pki.RoleOfficer)
		cases := map[string]string{} // of holds, by serial
		for _, serial := range serials[2:4] {
			_, err := o.RA.Revoke(ctx, catest.Officer, serial, pki.CertificateHold, "telephone")
			catest.Must(t, err)
			all, err := o.RA.Revocations(ctx, catest.Officer, store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{serial}})
			catest.Must(t, err)
			cases[serial] = all[0].Revocation.ID
		}
		view := ca.NewView(o.DB, []string{issuance.G1}, o.Now, o.Log.Logger())
		_, err := o.CA.PublishCRL(ctx, issuance.G1)
		catest.Must(t, err)
		catest.Must(t, view.Load(ctx))
		if since := view.Unlisted(issuance.G1); !since.IsZero() {
			t.Fatalf("something waits for a CRL since %s", since)
		}
		before := o.Signer.Calls()
		var first time.Time
		for n, row := range []struct {
			name string
			do   func() error
			want pki.CertificateState
		}{
			{"revoke", func() error {
				_, err := o.RA.Revoke(ctx, catest.Officer, serials[0], pki.KeyCompromise, "stolen")
				return err
			}, pki.Revoked},
			{"revoke with a date", func() error {
				_, err := o.RA.RevokeDated(ctx, catest.Officer, serials[1], pki.KeyCompromise, pki.RevocationDates{InvalidSince: o.Now().Add(-time.Second)}, "stolen")
				return err
			}, pki.Suspended},
			{"approve", func() error {
				_, err := o.RA.ApproveRevocation(ctx, otherOfficer, cases[serials[2]], o.CaseHash(cases[serials[2]]), "seen")
				return err
			}, pki.Revoked},
			{"lift", func() error {
				_, err := o.RA.LiftRevocation(ctx, otherOfficer, cases[serials[3]], o.CaseHash(cases[serials[3]]), "called")
				if err != nil {
					return err
				}
				_, err = o.RA.LiftRevocation(ctx, third, cases[serials[3]], o.CaseHash(cases[serials[3]]), "called")
				return err
			}, pki.Valid},
			{"hold", func() error {
				_, err := o.RA.Revoke(ctx, catest.Officer, serials[4], pki.CertificateHold, "telephone")
				return err
			}, pki.Suspended},
			{"by its certificate", func() error {
				_, err := o.RA.AskRevocation(ctx, ask("flow", pki.KeyCompromise, ra.RevocationWay{Leaf: o.Leaf(serials[5])}))
				return err
			}, pki.Revoked},
		} {
			o.Advance(2 * time.Second)
			err := row.do()
			if err != nil {
				t.Fatalf("%s: %v", row.name, err)
			}
			wantState(t, o, serials[n], row.want)
			catest.Must(t, view.Load(ctx))
			number, err := pki.ParseSerial(serials[n])
			catest.Must(t, err)
			status, known := view.Status(issuance.G1, number)
			if !known || status.Revoked.IsZero() != (row.want == pki.Valid) {
				t.Errorf("%s: the responder knows %v, revoked %s", row.name, known, status.Revoked)
			}
			listed, err := o.CA.InCRL(ctx, issuance.G1, o.Now())
			if err != nil || listed != 0 {
				t.Errorf("%s: in CRL %d: %v", row.name, listed, err)
			}
			if n == 0 {
				first = status.Revoked
			}
			if since := view.Unlisted(issuance.G1); !since.Equal(first) {
				t.Errorf("%s: waits for a CRL since %s, want %s", row.name, since, first)
			}
		}
		if after := o.Signer.Calls(); !slices.Equal(before, after) {
			t.Errorf("the signer was asked: %v", after[len(before):])
		}

		at := o.Now()
		o.Advance(2 * time.Second)
		crl, err := o.CA.RenewCRL(ctx, issuance.G1, at) // the signer is back
		catest.Must(t, err)
		listed, err := o.CA.InCRL(ctx, issuance.G1, at)
		if err != nil || listed != crl.Number {
			t.Errorf("in CRL %d, want %d: %v", listed, crl.Number, err)
		}
		catest.Must(t, view.Load(ctx))
		if since := view.Unlisted(issuance.G1); !since.IsZero() {
			t.Errorf("waits for a CRL since %s", since)
		}
	})
}
