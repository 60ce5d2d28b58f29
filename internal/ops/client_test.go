package ops_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
)

func clientRow(t *testing.T, o *catest.Office, id string) store.APIClient {
	t.Helper()
	all, err := o.Ops.APIClients(t.Context())
	catest.Must(t, err)
	for _, d := range all {
		if d.Client.ID == id {
			return d.Client
		}
	}
	t.Fatalf("no client %s", id)
	return store.APIClient{}
}

func certificateOf(t *testing.T, o *catest.Office, hash string) pki.Certificate {
	t.Helper()
	var c pki.Certificate
	o.View(func(tx *store.Tx) error {
		var err error
		c, err = tx.OwnCertificateByHash(hash)
		return err
	})
	return c
}

// TestThreatCO2Renewed: a client gets another certificate only together with the
// revocation of the old one, and only one of the profile of clients; who is disabled gets
// none. The database refuses it any other way.
func TestThreatCO2Renewed(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			ctx := t.Context()
			o := catest.New(t, catest.Options{Engine: engine, Activate: true})
			c := o.Client("vendor")
			fresh := renewedCertificate(o, "vendor")
			person, _, _ := candidate(t, o, "person", pki.Account{})

			catest.WantCode(t, o.Ops.RenewAPIClient(ctx, catest.Officer, c, fresh), "actor.forbidden")
			catest.WantCode(t, o.Ops.DisableAPIClient(ctx, catest.Officer, "vendor"), "actor.forbidden")
			catest.WantCode(t, o.Ops.DisableAPIClient(ctx, catest.Admin, "nobody"), "client.missing")
			o.Refused(`UPDATE api_client SET cert_sha256 = $1 WHERE id = 'vendor'`, fresh) // the old one is in force
			catest.WantCode(t, o.Ops.RenewAPIClient(ctx, catest.Admin, c, person.CertSHA256), "store.guard")
			catest.WantCode(t, o.Ops.RenewAPIClient(ctx, catest.Admin, c, "00"), "store.guard")
			if got := certificateOf(t, o, c.CertSHA256); !got.RevokedAt.IsZero() || clientRow(t, o, "vendor").CertSHA256 != c.CertSHA256 {
				t.Fatalf("what was refused left the certificate %s", got.State(o.Now()))
			}

			catest.Must(t, o.Ops.RenewAPIClient(ctx, catest.Admin, c, fresh))
			now := clientRow(t, o, "vendor")
			old := certificateOf(t, o, c.CertSHA256)
			if now.CertSHA256 != fresh || old.Reason != pki.SupersededReason || old.RevokedAt.IsZero() {
				t.Errorf("row %+v, old certificate revoked %s for %s", now, old.RevokedAt, old.Reason)
			}
			o.WantKinds("vendor", "client.added", "client.renewed")
			catest.WantCode(t, o.Ops.RenewAPIClient(ctx, catest.Admin, c, renewedCertificate(o, "vendor")), "client.changed") // as it was seen before
			if got := certificateOf(t, o, fresh); !got.RevokedAt.IsZero() {
				t.Error("a renewal that came too late revoked the certificate in force")
			}

			// One that was revoked, or is on hold, is renewed all the same.
			for _, reason := range []pki.Reason{pki.KeyCompromise, pki.CertificateHold} {
				seen := clientRow(t, o, "vendor")
				_, err := o.RA.Revoke(ctx, catest.Officer, certificateOf(t, o, seen.CertSHA256).Serial, reason, "stolen")
				catest.Must(t, err)
				if reason == pki.CertificateHold {
					o.Refused(`UPDATE api_client SET cert_sha256 = $1 WHERE id = 'vendor'`, renewedCertificate(o, "vendor"))
				}
				catest.Must(t, o.Ops.RenewAPIClient(ctx, catest.Admin, seen, renewedCertificate(o, "vendor")))
				want := pki.KeyCompromise
				if reason == pki.CertificateHold {
					want = pki.SupersededReason
				}
				if got := certificateOf(t, o, seen.CertSHA256); got.Reason != want {
					t.Errorf("the old certificate is revoked for %s, want %s", got.Reason, want)
				}
			}

			seen := clientRow(t, o, "vendor")
			catest.Must(t, o.Ops.DisableAPIClient(ctx, catest.Admin, "vendor"))
			if got := certificateOf(t, o, seen.CertSHA256); got.Reason != pki.PrivilegeWithdrawn || got.RevokedAt.IsZero() {
				t.Errorf("certificate of a disabled client: revoked %s for %s", got.RevokedAt, got.Reason)
			}
			catest.WantCode(t, o.Ops.DisableAPIClient(ctx, catest.Admin, "vendor"), "client.disabled")
			catest.WantCode(t, o.Ops.RenewAPIClient(ctx, catest.Admin, seen, renewedCertificate(o, "vendor")), "client.disabled")
			_, err := o.Ops.APIClient(ctx, "vendor")
			catest.WantCode(t, err, "client.disabled")
			o.Refused(`UPDATE api_client SET cert_sha256 = $1 WHERE id = 'vendor'`, renewedCertificate(o, "vendor"))
			o.Refused(`UPDATE api_client SET disabled_at = 0 WHERE id = 'vendor'`)
			o.Refused(`DELETE FROM api_client WHERE id = 'vendor'`)
			if report := rows(t, o); !report.OK() {
				t.Errorf("register: %+v", report.Deviations)
			}

			// Who owns the database gives a client a certificate of his own: the records say another.
			o.Client("other")
			o.Disarm()
			o.SQL(`UPDATE api_client SET cert_sha256 = $1 WHERE id = 'other'`, renewedCertificate(o, "other"))
			report := rows(t, o)
			if !slices.ContainsFunc(report.Deviations, func(d ops.Deviation) bool {
				return d.Table == "api_client" && d.Key == "other" && d.Field == "cert_sha256"
			}) {
				t.Errorf("register: %+v", report.Deviations)
			}
		})
	}
}

// TestRenewedAtOnce: of two renewals at the same time one counts, and its certificate is
// in force.
func TestRenewedAtOnce(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			nodes := []*catest.Office{o, o.Node(t, o.DSN)}
			seen := o.Client("vendor")
			hashes := []string{renewedCertificate(o, "vendor"), renewedCertificate(o, "vendor")}
			failures := make([]error, 2)
			var both sync.WaitGroup
			for n := range nodes {
				both.Go(func() { failures[n] = nodes[n].Ops.RenewAPIClient(t.Context(), catest.Admin, seen, hashes[n]) })
			}
			both.Wait()
			won := slices.Index(hashes, clientRow(t, o, "vendor").CertSHA256)
			if won < 0 || failures[won] != nil || pki.CodeOf(failures[1-won]) != "client.changed" {
				t.Fatalf("renewal %d counts: %v", won, failures)
			}
			if got := certificateOf(t, o, hashes[won]); got.State(o.Now()) != pki.Valid {
				t.Errorf("its certificate is %s", got.State(o.Now()))
			}
		})
	}
}

// TestClientList: what a client may issue under is told while it may.
func TestClientList(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	c := o.Client("vendor")
	first := o.Grant(pki.Grant{ClientID: "vendor"})
	second := o.Grant(pki.Grant{ClientID: "vendor", EndsAt: o.Now().AddDate(0, 0, 1)})
	_, err := o.RA.MakeGrant(t.Context(), catest.Admin, pki.Grant{ClientID: "vendor", PerDay: 1, Total: 1, EndsAt: o.Now().AddDate(0, 0, 9)})
	catest.Must(t, err) // approved by nobody
	grants := func() string {
		all, err := o.Ops.APIClients(t.Context())
		if err != nil || len(all) != 1 || all[0].Certificate.Profile != issuance.ProfileAPIClient {
			t.Fatalf("%+v, %v", all, err)
		}
		var ids []string
		for _, g := range all[0].Grants {
			ids = append(ids, g.ID)
		}
		return strings.Join(ids, " ")
	}
	if got := grants(); got != first.ID+" "+second.ID {
		t.Errorf("grants %q", got)
	}
	o.Set(second.EndsAt)
	if got := grants(); got != first.ID {
		t.Errorf("after the end of one: %q", got)
	}
	_, err = o.RA.Revoke(t.Context(), catest.Officer, certificateOf(t, o, c.CertSHA256).Serial, pki.KeyCompromise, "stolen")
	catest.Must(t, err)
	if got := grants(); got != "" {
		t.Errorf("with a revoked certificate: %q", got)
	}
}
