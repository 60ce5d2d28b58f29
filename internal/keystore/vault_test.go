package keystore_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/pki/pkitest"
	"inkan/internal/testkit"
)

// newVault makes a demo vault with a cheap passphrase work factor.
func newVault(t testing.TB) (*keystore.Vault, string, pki.Secret) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "signer")
	pass, err := keystore.InitVault(dir, keystore.InitParams{Mode: keystore.ModeDemo, InstanceID: "test-1", WorkFactor: 4})
	if err != nil {
		t.Fatal(err)
	}
	v, err := keystore.OpenVault(dir, pass)
	if err != nil {
		t.Fatal(err)
	}
	return v, dir, pass
}

func newKey(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key := testkit.Key(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

var wantCode = pkitest.WantCode

func TestVaultRefusals(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string, pass *pki.Secret)
		code  string
	}{
		{"nothing", func(*testing.T, string, *pki.Secret) {}, ""},
		{"wrong passphrase", func(_ *testing.T, _ string, p *pki.Secret) { *p += "x" }, "vault.passphrase"},
		{"empty passphrase", func(_ *testing.T, _ string, p *pki.Secret) { *p = "" }, "vault.passphrase"},
		{"readable vault", func(t *testing.T, dir string, _ *pki.Secret) { chmod(t, filepath.Join(dir, "vault.age"), 0o644) }, "vault.mode"},
		{"readable directory", func(t *testing.T, dir string, _ *pki.Secret) { chmod(t, dir, 0o755) }, "vault.mode"},
		{"writable epochs", func(t *testing.T, dir string, _ *pki.Secret) { chmod(t, filepath.Join(dir, "epochs"), 0o730) }, "vault.mode"},
		{"link instead of a file", func(t *testing.T, dir string, _ *pki.Secret) {
			must(t, os.Rename(filepath.Join(dir, "vault.age"), filepath.Join(dir, "other")))
			must(t, os.Symlink("other", filepath.Join(dir, "vault.age")))
		}, "vault.mode"},
		{"no vault", func(t *testing.T, dir string, _ *pki.Secret) { must(t, os.Remove(filepath.Join(dir, "vault.age"))) }, "vault.missing"},
		{"cut vault", func(t *testing.T, dir string, _ *pki.Secret) {
			must(t, os.Truncate(filepath.Join(dir, "vault.age"), 300))
		}, "vault.broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, dir, pass := newVault(t)
			tt.spoil(t, dir, &pass)
			_, err := keystore.OpenVault(dir, pass)
			if tt.code == "" && err != nil {
				t.Fatal(err)
			}
			if tt.code != "" {
				wantCode(t, err, tt.code)
			}
			if err != nil && strings.Contains(err.Error(), pass.Reveal()) && pass != "" {
				t.Error("the passphrase is in the error")
			}
		})
	}
}

func TestInitVaultRefusals(t *testing.T) {
	_, dir, _ := newVault(t)
	fresh := filepath.Join(t.TempDir(), "x")
	tests := []struct {
		name, dir, code string
		p               keystore.InitParams
	}{
		{"a second vault", dir, "vault.exists", keystore.InitParams{Mode: "demo", InstanceID: "a", WorkFactor: 4}},
		{"mode", fresh, "vault.init_mode", keystore.InitParams{Mode: "test", InstanceID: "a", WorkFactor: 4}},
		{"instance", fresh, "vault.init_instance", keystore.InitParams{Mode: "demo", InstanceID: "a b", WorkFactor: 4}},
		{"cheap live vault", fresh, "vault.init_work", keystore.InitParams{Mode: "live", InstanceID: "a", WorkFactor: 16}},
	}
	for _, tt := range tests {
		_, err := keystore.InitVault(tt.dir, tt.p)
		wantCode(t, err, tt.code)
	}
}

// PL1, PL2, CK2: modes, the strength of the passphrase, the cost of a guess.
func TestThreatPL2InitUnderOpenUmask(t *testing.T) {
	old := umask(0)
	defer umask(old)
	dir := filepath.Join(t.TempDir(), "signer")
	pass, err := keystore.InitVault(dir, keystore.InitParams{Mode: keystore.ModeLive, InstanceID: "live-1"})
	must(t, err)
	if len(pass) < 26 {
		t.Errorf("passphrase of %d letters", len(pass))
	}
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		must(t, err)
		must(t, keystore.CheckMode(path))
		return nil
	}))
	head, err := os.ReadFile(filepath.Join(dir, "vault.age"))
	must(t, err)
	if !strings.Contains(string(head[:200]), " 17\n") {
		t.Error("the vault's scrypt work factor is not 2^17")
	}
	v, err := keystore.OpenVault(dir, pass)
	must(t, err)
	if v.Mode() != keystore.ModeLive || v.InstanceID() != "live-1" {
		t.Errorf("got %s %s", v.Mode(), v.InstanceID())
	}
}

func TestKeys(t *testing.T) {
	v, dir, pass := newVault(t)
	key, _ := newKey(t)
	must(t, v.AddKey("g1", key))
	wantCode(t, v.AddKey("g1", key), "vault.key_exists")
	wantCode(t, v.AddKey("../g1", key), "vault.key_id")

	again, err := keystore.OpenVault(dir, pass)
	must(t, err)
	got, err := again.OpenKey(keystore.Place{URI: keystore.KeyURI("g1")}, key.Public())
	must(t, err)
	if !key.PublicKey.Equal(got.Public()) {
		t.Error("another key came back")
	}
	for uri, code := range map[string]string{
		"pkcs11:token=x":       "token.uri",
		"keys/g1.key.age":      "vault.key_uri",
		"http:x":               "vault.key_uri",
		"file:../g1.key.age":   "vault.key_uri",
		"file:/etc/passwd":     "vault.key_uri",
		"file:keys/g2.key.age": "vault.missing",
		"file:vault.age":       "vault.broken",
	} {
		_, err := v.OpenKey(keystore.Place{URI: uri}, key.Public())
		wantCode(t, err, code)
	}
	other, _, _ := newVault(t)
	data, err := os.ReadFile(filepath.Join(dir, "keys", "g1.key.age"))
	must(t, err)
	if strings.Contains(string(data), "PRIVATE") {
		t.Error("key file in clear")
	}
	chmod(t, filepath.Join(dir, "keys", "g1.key.age"), 0o640)
	_, err = v.OpenKey(keystore.Place{URI: keystore.KeyURI("g1")}, key.Public())
	wantCode(t, err, "vault.mode")
	_, err = other.OpenKey(keystore.Place{URI: keystore.KeyURI("g1")}, key.Public())
	wantCode(t, err, "vault.missing")
}

func TestReadPassphrase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inkan-passphrase")
	must(t, os.WriteFile(file, []byte("long words\n"), 0o600))
	got, err := keystore.ReadPassphrase(file)
	must(t, err)
	if got.Reveal() != "long words" {
		t.Errorf("got %q", got.Reveal())
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(file))
	got, err = keystore.ReadPassphrase("")
	must(t, err)
	if got.Reveal() != "long words" {
		t.Errorf("got %q", got.Reveal())
	}
	chmod(t, file, 0o604)
	_, err = keystore.ReadPassphrase(file)
	wantCode(t, err, "vault.mode")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, err = keystore.ReadPassphrase("")
	wantCode(t, err, "vault.no_passphrase")
}

func TestNote(t *testing.T) {
	v, _, _ := newVault(t)
	signed, err := v.SignNote("a text\n")
	must(t, err)
	verifier, err := note.NewVerifier(v.AuditVerifierKey())
	must(t, err)
	if verifier.Name() != "inkan/test-1" {
		t.Errorf("name %s", verifier.Name())
	}
	_, err = note.Open(signed, note.VerifierList(verifier))
	must(t, err)
	signed[0]++
	_, err = note.Open(signed, note.VerifierList(verifier))
	if err == nil {
		t.Error("an altered note verifies")
	}
}

var must = testkit.Must

func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	must(t, os.Chmod(path, mode))
}
