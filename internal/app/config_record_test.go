package app

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// TestThreatCO11 edits the configuration between two starts: the audit says what was
// changed, from what to what, and holds no password.
func TestThreatCO11(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		dir := t.TempDir()
		start := func(text string) loadedConfig {
			t.Helper()
			err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			config, err := loadConfig(dir)
			if err != nil {
				t.Fatal(err)
			}
			i := &instance{dir: dir, config: config, db: db}
			err = i.recordConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			node, err := os.Hostname()
			if err != nil {
				t.Fatal(err)
			}
			var body loadedConfig
			err = db.View(t.Context(), func(tx *store.Tx) error {
				r, err := tx.LastAuditAbout("config:" + node)
				if err != nil {
					return err
				}
				if r.Kind != "config.loaded" || strings.Contains(string(r.Body), "s3cret") {
					t.Errorf("record %s: %s", r.Kind, r.Body)
				}
				return json.Unmarshal(r.Body, &body)
			})
			if err != nil {
				t.Fatal(err)
			}
			return body
		}
		const base = "database.dsn = \"postgres://inkan:s3cret1@db/inkan\"\n"
		first := start(base + "policy.letters_activate = \"dispatch\"\n")
		if len(first.Changed) != 0 || len(first.Values) < 30 || first.Values["database.dsn"] != "postgres://inkan:REDACTED@db/inkan" {
			t.Errorf("first start: %+v", first)
		}
		again := start(base + "# a comment\n")
		if len(again.Changed) != 0 || again.Digest != first.Digest {
			t.Errorf("the same settings in other words: %+v", again.Changed)
		}
		edited := start("database.dsn = \"postgres://inkan:s3cret2@db2/inkan\"\npolicy.letters_activate = \"issue\"\nsigner.keys.g1 = \"pkcs11:token=x;object=g1?module-path=/lib/token.so\"\n")
		want := map[string][2]string{
			"database.dsn":            {"postgres://inkan:REDACTED@db/inkan", "postgres://inkan:REDACTED@db2/inkan"},
			"policy.letters_activate": {"dispatch", "issue"},
			"signer.keys.g1":          {"", "pkcs11:token=x;object=g1?module-path=/lib/token.so"},
		}
		if !maps.Equal(edited.Changed, want) || edited.Digest == first.Digest {
			t.Errorf("changed: %v, want %v", edited.Changed, want)
		}
		back := start(base)
		if got := slices.Sorted(maps.Keys(back.Changed)); len(got) != 3 || back.Changed["signer.keys.g1"][1] != "" || back.Digest != first.Digest {
			t.Errorf("changed back: %v", back.Changed)
		}
	})
}
