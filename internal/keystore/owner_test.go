package keystore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// TestThreatPL2Owner: what is secret belongs to the account that runs the program; root is
// no exception. Each file of a vault, a passphrase, and a credential of the service
// manager, which is given to the account of the service.
func TestThreatPL2Owner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	v, dir, pass := newVault(t)
	key, der := newKey(t)
	_ = der
	must(t, v.AddKey("g1", key))
	open := func() error {
		_, err := keystore.OpenVault(dir, pass)
		return err
	}
	passphrase := filepath.Join(t.TempDir(), "inkan-passphrase")
	must(t, os.WriteFile(passphrase, []byte("long words\n"), 0o600))
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(passphrase))
	read := func(name string) func() error {
		return func() error {
			_, err := keystore.ReadPassphrase(name)
			return err
		}
	}
	for _, row := range []struct {
		path string
		do   func() error
	}{
		{dir, open},
		{filepath.Join(dir, "vault.age"), open},
		{filepath.Join(dir, "keys"), open},
		{filepath.Join(dir, "epochs"), open},
		{filepath.Join(dir, "keys", "g1.key.age"), func() error {
			_, err := v.OpenKey(keystore.Place{URI: keystore.KeyURI("g1")}, key.Public())
			return err
		}},
		{filepath.Join(dir, "journal"), func() error { return keystore.CheckMode(filepath.Join(dir, "journal")) }},
		{passphrase, read(passphrase)},
		{passphrase, read("")},
	} {
		must(t, row.do())
		must(t, os.Chown(row.path, 4711, -1))
		err := row.do()
		wantCode(t, err, "vault.owner")
		e, ok := errors.AsType[*pki.Error](err)
		if ok && (e.Args["File"] != row.path || e.Args["Owner"] != "4711" || e.Args["User"] != "root") {
			t.Errorf("%s: %v", row.path, e.Args)
		}
		must(t, os.Chown(row.path, 0, -1))
	}
}
