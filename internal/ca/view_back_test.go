package ca_test

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// TestViewOfATreeThatWentBack: after a failover to a standby that lacked the last
// commits, a view knows what that one knows, and learns what is revoked from then on:
// whether the new history is shorter yet than the lost one, as long, or longer.
func TestViewOfATreeThatWentBack(t *testing.T) {
	for _, row := range []struct {
		name string
		more int // certificates after the failover; three records are lost
	}{{"shorter", 1}, {"as long", 2}, {"longer", 5}} {
		t.Run(row.name, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: store.PostgreSQL})
			kept := manyCertificates(t, o, 3)
			v := newView(t, o, o.Now)
			toStandby := standby(t, o.DSN)
			lost := manyCertificates(t, o, 2)
			must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, kept[0]) }))
			must(t, v.Catch(t.Context()))
			if revoked, _ := knows(v, kept[0]); !revoked {
				t.Fatal("not revoked")
			}
			toStandby()
			later := manyCertificates(t, o, row.more)
			must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, kept[1]) }))
			must(t, v.Catch(t.Context()))
			for serial, want := range map[string][2]bool{kept[0]: {true, false}, kept[1]: {true, true}, kept[2]: {true, false},
				lost[0]: {false, false}, later[0]: {true, false}} {
				status, known := v.Status(issuance.G1, serialNumber(serial))
				if got := [2]bool{known, !status.Revoked.IsZero()}; got != want {
					t.Errorf("%s is known, revoked: %v, want %v", serial, got, want)
				}
			}
			if !strings.Contains(o.Log.String(), "lacks commits") {
				t.Error("nobody is told")
			}
		})
	}
}

// standby copies a database as it is; the function that it gives puts the copy into
// its place, as a failover does, and cuts every connection.
func standby(t *testing.T, dsn string) func() {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(t.Context(), u.String())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	run := func(statements ...string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", name)
		must(t, err)
		for _, s := range statements {
			_, err = conn.Exec(t.Context(), s)
			must(t, err)
		}
	}
	quoted := pgx.Identifier{name}.Sanitize()
	copied, gone := pgx.Identifier{name + "_standby"}.Sanitize(), pgx.Identifier{name + "_gone"}.Sanitize()
	run("CREATE DATABASE " + copied + " TEMPLATE " + quoted)
	return func() {
		t.Helper()
		run("ALTER DATABASE "+quoted+" RENAME TO "+gone, "ALTER DATABASE "+copied+" RENAME TO "+quoted)
	}
}

// A hold was lifted, and who lifted it died before the next CRL: a node that starts then
// finds that due, once.
func TestStartAfterALift(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			r := o.Issued(catest.Application(1))
			_, err := o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.CertificateHold, "asked by telephone")
			must(t, err)
			publish(t, o)
			cases, err := o.RA.Revocations(t.Context(), catest.Officer, store.RevocationFilter{})
			must(t, err)
			for _, who := range []string{"officer-2", "officer-3"} {
				_, err = o.RA.LiftRevocation(t.Context(), catest.Actor(who, pki.RoleOfficer), cases[0].Revocation.ID, o.CaseHash(cases[0].Revocation.ID), "")
				must(t, err)
			}
			for _, due := range []bool{true, false} {
				crl, newest := newView(t, o, o.Now).CRL(issuance.G1)
				if o.CA.CRLDue(crl, newest, o.Now()) != due {
					t.Errorf("a CRL is due: %t", !due)
				}
				crl, err = o.CA.RenewCRL(t.Context(), issuance.G1, newest)
				must(t, err)
				list, err := x509.ParseRevocationList(crl.DER)
				if err != nil || len(list.RevokedCertificateEntries) != 0 {
					t.Errorf("the CRL holds what was lifted: %v", err)
				}
			}
		})
	}
}
