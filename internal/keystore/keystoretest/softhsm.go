// Package keystoretest owns the token of the tests: SoftHSM2, made in a directory of
// the test's own, and what can happen to it. It does not own what is tested with it.
package keystoretest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"inkan/internal/keystore"
	"inkan/internal/testkit"
)

// HSM is a SoftHSM2 with one token.
type HSM struct {
	t       testing.TB
	Module  string // path of the library
	Conf    string // what SOFTHSM2_CONF names
	PINFile string
	PIN     string
	Label   string
	tokens  string
}

// NewHSM makes a token, and sets SOFTHSM2_CONF for the test. Where SoftHSM2 or cgo is
// missing the test is skipped, but fails in CI.
func NewHSM(t testing.TB) *HSM {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/softhsm/libsofthsm2.so") // a good pattern
	found = append(found, "/usr/lib/softhsm/libsofthsm2.so")
	_, err := os.Stat(found[0])
	if err != nil || testkit.Find("softhsm2-util") == "" || !withCgo {
		testkit.Missing(t, "SoftHSM2 or a C compiler; scripts/setup-tests.sh installs them")
	}
	dir := t.TempDir()
	h := &HSM{t: t, Module: found[0], Conf: filepath.Join(dir, "softhsm2.conf"), PINFile: filepath.Join(dir, "pin"), PIN: "7305-hana-PIN",
		Label: "inkan test", tokens: filepath.Join(dir, "tokens")}
	h.must(os.Mkdir(h.tokens, 0o700))
	h.must(os.WriteFile(h.Conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", h.tokens), 0o600))
	h.WritePIN(h.PIN)
	t.Setenv("SOFTHSM2_CONF", h.Conf)
	keystore.CloseTokens() // the library reads its configuration when it starts
	t.Cleanup(keystore.CloseTokens)
	h.AddToken(h.Label)
	return h
}

// AddToken makes another token with the same PIN.
func (h *HSM) AddToken(label string) {
	h.t.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "so-"+h.PIN, "--pin", h.PIN).CombinedOutput()
	if err != nil {
		h.t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
}

// WritePIN writes the file with the PIN.
func (h *HSM) WritePIN(pin string) {
	h.t.Helper()
	h.must(os.WriteFile(h.PINFile, []byte(pin+"\n"), 0o600))
}

// URI is the place of a key in the token.
func (h *HSM) URI(object string) string {
	return "pkcs11:token=" + strings.ReplaceAll(h.Label, " ", "%20") + ";object=" + object + "?module-path=" + h.Module
}

// Place is the same with the file of the PIN.
func (h *HSM) Place(object string) keystore.Place {
	return keystore.Place{URI: h.URI(object), PINFile: h.PINFile}
}

// Pull takes the token's directory away, as if the token were pulled out; Plug brings
// it back.
func (h *HSM) Pull() { h.t.Helper(); h.must(os.Rename(h.tokens, h.tokens+".away")) }

// Plug is the opposite of Pull.
func (h *HSM) Plug() { h.t.Helper(); h.must(os.Rename(h.tokens+".away", h.tokens)) }

func (h *HSM) must(err error) {
	h.t.Helper()
	testkit.Must(h.t, err)
}
