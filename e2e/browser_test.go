package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// Browser is one person's Chromium: a home directory with the certificates that
// this person trusts and owns.
type Browser struct {
	Home     string
	policies string // a directory to stand at /etc/chromium, or ""
	roots    string // PEM file of the server roots, for what scripts ask without a page
}

// NewBrowser makes a person who trusts the site's TLS root and owns nothing.
func NewBrowser(t *testing.T, tlsRoots ...string) *Browser {
	t.Helper()
	testkit.Tool(t, "chromium", "certutil", "node")
	b := &Browser{Home: t.TempDir()}
	err := os.MkdirAll(filepath.Join(b.Home, ".pki/nssdb"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, "certutil", "-N", "-d", b.Database(), "--empty-password")
	for _, root := range tlsRoots {
		b.Trust(t, root, "C,,")
	}
	b.roots = bundle(t, b.Home, "roots.pem", tlsRoots...)
	return b
}

// Database names the person's NSS database, which Chromium reads.
func (b *Browser) Database() string { return "sql:" + filepath.Join(b.Home, ".pki/nssdb") }

// Trust gives a CA certificate a standing: "C,," for servers, "T,," for clients,
// ",," for none of its own.
func (b *Browser) Trust(t *testing.T, file, trust string) {
	t.Helper()
	testkit.Run(t, "certutil", "-A", "-d", b.Database(), "-n", filepath.Base(file), "-t", trust, "-a", "-i", file)
}

// Own imports a PKCS#12 file as a person does, with its password.
func (b *Browser) Own(t *testing.T, file, password string) string {
	t.Helper()
	return testkit.Run(t, "pk12util", "-i", file, "-d", b.Database(), "-W", password, "-K", "")
}

// Choose makes the browser answer a page's wish for a certificate by itself, as an
// institution's administrator may set it. Headless, nobody could press the button.
// The policy lies where Chromium looks for it in this browser's own mount
// namespace only: the machine is left alone.
func (b *Browser) Choose(t *testing.T, origin string) {
	t.Helper()
	testkit.Tool(t, "unshare")
	b.policies = t.TempDir()
	managed := filepath.Join(b.policies, "policies/managed")
	err := os.MkdirAll(managed, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	choice, _ := json.Marshal(map[string]any{"pattern": origin, "filter": map[string]any{}})
	policy, _ := json.Marshal(map[string]any{"AutoSelectCertificateForUrls": []string{string(choice)}})
	testkit.WriteFile(t, managed, "inkan-test.json", policy)
}

// Run drives the browser with a script of this directory: the job goes in and the
// result comes out as JSON.
func (b *Browser) Run(t *testing.T, script string, job map[string]any, result any) {
	t.Helper()
	input, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	args := []string{"node", script}
	if b.policies != "" {
		user := "-m"
		if os.Getuid() != 0 {
			user = "-rm"
		}
		args = append([]string{"unshare", user, "sh", "-c", `mount --bind "$0" /etc/chromium && exec "$@"`, b.policies}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+b.Home, "NODE_EXTRA_CA_CERTS="+b.roots, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME=")
	cmd.Stdin = bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, errs.String())
	}
	err = json.Unmarshal(out.Bytes(), result)
	if err != nil {
		t.Fatalf("%s: %v in %q", script, err, out.String())
	}
}
