package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/internal/keystore/keystoretest"
	"inkan/internal/testkit"
)

// hsmLive is a live instance whose CA keys are in a token.
type hsmLive struct{ *Live }

func (l hsmLive) get(url string) (int, string) {
	client := &http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// approved enters a request and has it approved.
func (l hsmLive) approved(t *testing.T, terminal string) Request {
	t.Helper()
	var r Request
	l.asks(t, &r, "uketsuke", "request", "submit", "--kind", "medical", "--code", "0110119153", "--terminal", terminal, "--email", "clinic@example.jp")
	l.decides(t, "shonin", "request", "approve", r.RequestID)
	return r
}

func (l hsmLive) show(t *testing.T, id string) Request {
	t.Helper()
	var r Request
	l.asks(t, &r, "shonin", "request", "show", id)
	return r
}

// TestHSM is a live instance whose CA keys were made in a token: it issues, waits while
// the token is away, and its edge knows neither PIN nor library.
func TestHSM(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	h := keystoretest.NewHSM(t)
	out, err := exec.Command("make", "--no-print-directory", "-C", "..", "build-hsm").CombinedOutput()
	if err != nil {
		t.Fatalf("make build-hsm: %v\n%s", err, out)
	}
	bin, err := filepath.Abs("../bin/inkan-hsm")
	if err != nil {
		t.Fatal(err)
	}
	signer := fmt.Sprintf("pin_file = %q\npass_env = [\"SOFTHSM2_CONF\"]\n[signer.keys]\ng1 = %q\nops = %q\n", h.PINFile, h.URI("g1"), h.URI("ops"))
	home := t.TempDir()
	// The program without cgo says what to use; a ceremony that fails leaves no key.
	plain, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	broken := testkit.WriteFile(t, home, "broken.toml", []byte("[database]\ndsn = \"sqlite:///proc/none/inkan.db\"\n[policy]\nca_key = \"rsa-2048\"\n[signer]\n"+signer))
	for bin, want := range map[string]string{plain: "hint: Use the program that make build-hsm builds.", bin: "open database file"} {
		_, said, code := (&Demo{Dir: filepath.Join(home, "broken"), bin: bin}).Inkan(t, "init", "--config", broken)
		says(t, said, want)
		if code != 1 {
			t.Errorf("init ends with %d", code)
		}
	}
	l := hsmLive{NewLive(t, bin, LiveOptions{CAKey: "rsa-2048", Signer: signer, Config: "holder_key = \"p-256\"\n"})}
	l.operator(t, "uketsuke", "intake")
	for name, there := range map[string]bool{"g1": false, "ops": false, "tls": true} {
		_, err := os.Lstat(filepath.Join(l.Dir, "signer", "keys", name+".key.age"))
		if (err == nil) != there {
			t.Errorf("key file of %s: %v", name, err)
		}
	}
	// Another instance takes no key that is there, and leaves nothing behind.
	other := &Demo{Dir: filepath.Join(home, "other"), bin: bin}
	_, said, code := other.Inkan(t, "init", "--config", filepath.Join(filepath.Dir(l.Dir), "init.toml"))
	says(t, said, "The token has a key of that name already (token=inkan%20test;object=g1)")
	if code != 1 {
		t.Errorf("a second init ends with %d", code)
	}
	l.run(t, "check-config")

	l.Serve(t)
	r := l.approved(t, "会計1号機")
	l.verify(t, l.show(t, r.RequestID))
	pid := signerOf(t, l)
	t.Run("edge", func(t *testing.T) { edgeKnowsNothing(t, l, h, pid) })

	// The token is pulled out: what is approved waits, status goes on.
	h.Pull()
	waiting := l.approved(t, "会計2号機")
	testkit.Await(t, "the intent", func() bool { return l.show(t, waiting.RequestID).State == "issuing" })
	testkit.Await(t, "what is wrong, in words", func() bool {
		status, body := l.get(l.URL(90) + "/ready")
		return status == http.StatusOK && strings.Contains(body, `"part":"issue"`) // told; the node serves on
	})
	if status, _ := l.get(l.URL(80) + "/crl/g1.crl"); status != http.StatusOK {
		t.Errorf("the CRL is answered with %d", status)
	}
	h.Plug()
	testkit.Await(t, "the certificate that waited", func() bool { return l.show(t, waiting.RequestID).State == "issued" })
	l.verify(t, l.show(t, waiting.RequestID))
	testkit.Await(t, "nothing wrong", func() bool {
		_, body := l.get(l.URL(90) + "/ready")
		return !strings.Contains(body, `"part":"issue"`)
	})
	if signerOf(t, l) != pid {
		t.Error("the signer was started anew")
	}
	l.Stop(t)
	for _, place := range []string{l.Dir, l.log} {
		err = filepath.WalkDir(place, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && bytes.Contains(testkit.ReadFile(t, path), []byte(h.PIN)) {
				t.Errorf("%s holds the PIN", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// verify asks OpenSSL about a certificate and the CRL of its issuer.
func (l hsmLive) verify(t *testing.T, r Request) {
	t.Helper()
	cert := testkit.WriteFile(t, t.TempDir(), "cert.pem", []byte(l.as(t, "shonin", "cert", "export", r.Serial)))
	root, issuer := filepath.Join(l.Dir, "ca", "root.pem"), filepath.Join(l.Dir, "ca", "g1.pem")
	says(t, testkit.Run(t, "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, "-untrusted", issuer, cert), ": OK")
	_, crl := l.get(l.URL(80) + "/crl/g1.crl")
	file := testkit.WriteFile(t, t.TempDir(), "g1.crl", []byte(crl))
	says(t, testkit.Run(t, "openssl", "crl", "-inform", "DER", "-in", file, "-CAfile", issuer, "-noout", "-verify"), "verify OK")
	says(t, testkit.Run(t, "openssl", "ocsp", "-issuer", issuer, "-cert", cert, "-url", l.URL(80)+"/ocsp", "-CAfile", root, "-verify_other", issuer, "-no_nonce"), "cert.pem: good")
}

// signerOf finds the process of the instance's signer.
func signerOf(t *testing.T, l hsmLive) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		raw, err := os.ReadFile(file)
		var pid int
		_, noPID := fmt.Sscanf(file, "/proc/%d/", &pid)
		if err == nil && noPID == nil && bytes.Contains(raw, []byte("\x00signer\x00--dir\x00"+l.Dir+"\x00")) {
			return pid
		}
	}
	t.Fatal("no signer runs")
	return 0
}

// edgeKnowsNothing: the process that speaks to the world has loaded no library of the
// token and holds its PIN nowhere (threat CK1).
func edgeKnowsNothing(t *testing.T, l hsmLive, h *keystoretest.HSM, signer int) {
	edge := fmt.Sprintf("/proc/%d/", l.serve.Process.Pid)
	module := filepath.Base(h.Module)
	for _, file := range []string{"environ", "cmdline", "maps"} {
		data, err := os.ReadFile(edge + file)
		if errors.Is(err, fs.ErrPermission) {
			t.Logf("the kernel shows %s of a hardened process to root alone", file)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(h.PIN)) || bytes.Contains(data, []byte(module)) {
			t.Errorf("%s of the edge shows the PIN or %s", file, module)
		}
	}
	if os.Geteuid() == 0 {
		if memoryHolds(t, edge, h.PIN) {
			t.Error("the PIN is in the edge's memory")
		}
		if !memoryHolds(t, edge, l.Dir) {
			t.Error("nothing is found in the edge's memory at all")
		}
	}
	for _, file := range []string{"environ", "cmdline"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", signer, file))
		if err == nil && bytes.Contains(data, []byte(h.PIN)) {
			t.Errorf("%s of the signer shows the PIN", file)
		}
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", signer))
	if err == nil && !bytes.Contains(maps, []byte(module)) { // the kernel shows it to root alone
		t.Errorf("the signer has not loaded %s: nothing is shown here", module)
	}
}

// memoryHolds looks for a text in everything that a process could write.
func memoryHolds(t *testing.T, process, text string) bool {
	t.Helper()
	memory, err := os.Open(process + "mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for line := range strings.Lines(string(testkit.ReadFile(t, process+"maps"))) {
		var from, to int64
		var mode string
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode)
		if err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		data, err := io.ReadAll(io.NewSectionReader(memory, from, to-from))
		if bytes.Contains(data, []byte(text)) {
			return true
		}
		if err != nil && len(data) == 0 {
			continue // a page that is not there yet
		}
	}
	return false
}
