package store_test

import (
	"errors"
	"testing"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// TestTablesRefuse: what must never be in the tables of what we signed is refused, whoever
// asks.
func TestTablesRefuse(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			db := storetest.Open(t, storetest.Migrated(t, engine), nil)
			done := store.Intent{Serial: "aa01", Issuer: "g1", Profile: "operator", TBS: []byte("tbs"), AuditLeaf: []byte("leaf")}
			open := done
			open.Serial = "aa02"
			certificate := pki.Certificate{Serial: "aa01", Issuer: "g1", Profile: "operator", DER: []byte("der"), SHA256: "5a", SPKISHA256: "5b"}
			update := func(fn func(tx *store.Tx) error) error { return db.Update(t.Context(), fn) }
			for _, fn := range []func(tx *store.Tx) error{
				func(tx *store.Tx) error {
					_, _, err := tx.Audit(actor, "certificate.issued", "aa01", nil)
					return errors.Join(err, tx.ClaimPublicKey("5b", "request/1"))
				},
				func(tx *store.Tx) error { return tx.AddIntent(done) },
				func(tx *store.Tx) error { return tx.AddIntent(open) },
				func(tx *store.Tx) error {
					return errors.Join(tx.CloseIntent("aa01", "done"), tx.AddCertificate(certificate))
				},
			} {
				err := update(fn)
				if err != nil {
					t.Fatal(err)
				}
			}
			verifyClean(t, db, 0)
			err := db.View(t.Context(), func(tx *store.Tx) error {
				c, err := tx.OwnCertificateByHash("5a")
				if err != nil || string(c.DER) != "der" {
					t.Errorf("certificate %+v, %v", c, err)
				}
				records, err := tx.AuditAbout("aa01", 10)
				if err != nil || len(records) != 1 {
					t.Errorf("records %v, %v", records, err)
				}
				n, err := tx.Int(`SELECT COUNT(*) FROM intent WHERE state = 'open'`)
				if err != nil || n != 1 {
					t.Errorf("%d open intents, %v", n, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			exec := func(query string) func(tx *store.Tx) error {
				return func(tx *store.Tx) error { _, err := tx.Exec(query); return err }
			}
			again := func(serial string) func(tx *store.Tx) error {
				return func(tx *store.Tx) error { i := open; i.Serial = serial; return tx.AddIntent(i) }
			}
			for name, c := range map[string]struct {
				fn   func(tx *store.Tx) error
				code string
			}{
				"serial of an open intent":    {again("aa02"), pki.ErrConflict.Code},
				"serial of a certificate":     {again("aa01"), pki.ErrConflict.Code},
				"certificate":                 {func(tx *store.Tx) error { return tx.AddCertificate(certificate) }, pki.ErrConflict.Code},
				"key of another":              {func(tx *store.Tx) error { return tx.ClaimPublicKey("5b", "request/2") }, pki.ErrConflict.Code},
				"index of a record":           {exec(`INSERT INTO audit SELECT * FROM audit`), pki.ErrConflict.Code},
				"intent that was closed":      {exec(`UPDATE intent SET state = 'open' WHERE serial = 'aa01'`), "store.guard"},
				"bytes of an open intent":     {exec(`UPDATE intent SET tbs = audit_leaf WHERE serial = 'aa02'`), "store.guard"},
				"intent taken away":           {exec(`DELETE FROM intent`), "store.guard"},
				"certificate taken away":      {exec(`DELETE FROM certificate`), "store.guard"},
				"certificate that is changed": {exec(`UPDATE certificate SET profile = 'x'`), "store.guard"},
				"record taken away":           {exec(`DELETE FROM audit`), "store.guard"},
				"key taken away":              {exec(`DELETE FROM public_key`), "store.guard"},
			} {
				err := update(c.fn)
				if pki.CodeOf(err) != c.code {
					t.Errorf("%s: %v, want %s", name, err, c.code)
				}
			}
		})
	}
}
