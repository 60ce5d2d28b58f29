package store_test

import (
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// A draft gives way to a later round of its flow alone, and to none when it is a request.
func TestDraftRounds(t *testing.T) {
	for _, engine := range []string{store.SQLite, store.PostgreSQL} {
		t.Run(engine, func(t *testing.T) {
			db := storetest.OpenWith(t, store.Options{DSN: storetest.Migrated(t, engine), Now: time.Now})
			put := func(round int, token, want string) {
				t.Helper()
				err := db.Update(t.Context(), func(tx *store.Tx) error {
					return tx.PutDraft(store.Draft{Flow: "f", Round: round, TokenHash: token, Until: tx.Now.Add(time.Hour)})
				})
				if want == "" && err != nil || want != "" && pki.CodeOf(err) != want {
					t.Errorf("round %d: %v, want %q", round, err, want)
				}
			}
			put(0, "a", "")
			put(0, "b", "conflict")
			put(1, "c", "")
			put(0, "d", "conflict")
			err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.ConfirmDraft("f", "1", tx.Now.Add(time.Hour)) })
			if err != nil {
				t.Fatal(err)
			}
			put(2, "e", "conflict")
			err = db.Update(t.Context(), func(tx *store.Tx) error { return tx.ConfirmDraft("f", "2", tx.Now.Add(time.Hour)) })
			if pki.CodeOf(err) != "conflict" {
				t.Errorf("confirmed twice: %v", err)
			}
			err = db.View(t.Context(), func(tx *store.Tx) error {
				d, err := tx.DraftByToken("c")
				if err == nil && (d.Round != 1 || d.Request != "1") {
					t.Errorf("draft %+v", d)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
