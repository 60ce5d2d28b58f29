package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"inkan/internal/testkit"
)

// siteRoot: the root of the site's TLS certificate is the same over https and plain
// http, OpenSSL reads it and believes the site by it, and the fingerprint that the pages
// show is the one that OpenSSL counts.
func siteRoot(t *testing.T, w *world) {
	v := newVisitor(t, w.Demo, "")
	dir := t.TempDir()
	for _, origin := range []string{w.Portal, w.Status} {
		root := v.do(t, http.MethodGet, origin+"/p/cert", nil)
		if root.status != http.StatusOK || root.header.Get("Content-Type") != "application/x-x509-ca-cert" {
			t.Fatalf("%s/p/cert: %d, %v", origin, root.status, root.header)
		}
		file := testkit.WriteFile(t, dir, "tls-root.cer", []byte(root.body))
		says(t, testkit.Run(t, "openssl", "x509", "-inform", "DER", "-in", file, "-noout", "-ext", "nameConstraints"), "Permitted")
		printed := testkit.Run(t, "openssl", "x509", "-inform", "DER", "-in", file, "-noout", "-fingerprint", "-sha256")
		_, want, _ := strings.Cut(strings.TrimSpace(printed), "=")
		page := v.do(t, http.MethodGet, origin+"/p/cert/about", nil)
		shown := ""
		for _, m := range regexp.MustCompile(`<span>([0-9A-F]{4})</span>`).FindAllStringSubmatch(page.body, -1) {
			shown += m[1]
		}
		if shown == "" || shown != strings.ReplaceAll(want, ":", "") {
			t.Errorf("%s shows %s, openssl says %s", origin, shown, want)
		}
		pem := filepath.Join(dir, "root.pem")
		testkit.Run(t, "openssl", "x509", "-inform", "DER", "-in", file, "-out", pem)
		says(t, testkit.Run(t, "openssl", "s_client", "-connect", strings.TrimPrefix(w.Portal, "https://"), "-CAfile", pem, "-verify_return_error", "-brief"), "Verification: OK")
	}
}

// clientProgram: what is signed is given out, what was changed is not, and health says
// so (threat AG7).
func clientProgram(t *testing.T, w *world) {
	v := newVisitor(t, w.Demo, "")
	body := publish(t, w)
	file := v.do(t, http.MethodGet, w.Portal+"/p/s/"+clientFile, nil)
	if file.status != http.StatusOK || file.body != body {
		t.Errorf("%d, %d bytes of %d", file.status, len(file.body), len(body))
	}
	sum := sha256.Sum256([]byte(body))
	page := v.do(t, http.MethodGet, w.Portal+"/p/s", nil)
	if short := hex.EncodeToString(sum[:4]); !strings.Contains(page.body, short) {
		t.Errorf("the page does not show %s…", short)
	}
	says(t, fmt.Sprint(w.Inkan(t, "release", "verify")), clientFile)

	path := filepath.Join(w.Dir, "downloads", clientFile)
	err := os.WriteFile(path, []byte(strings.ToUpper(body)), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	awaitOffer(t, w, false)
	if file := v.do(t, http.MethodGet, w.Portal+"/p/s/"+clientFile, nil); file.status != http.StatusNotFound {
		t.Errorf("a changed file: %d", file.status)
	}
	says(t, w.Refused(t, "release", "verify"), clientFile)
	unpublish(t, w)
}

const clientFile = "inkan-agent-1.2.0-windows.msi"

// publish signs a file as the operator of a demo does, and waits for the page.
func publish(t *testing.T, w *world) string {
	t.Helper()
	dir := filepath.Join(w.Dir, "downloads")
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("no program, but bytes of a size. ", 20_000)
	path := testkit.WriteFile(t, dir, clientFile, []byte(body))
	w.Must(t, nil, "release", "sign", "--key", filepath.Join(w.Dir, "release.key"), "--version", "1.2.0", "--minimum", "1.1.0", path)
	awaitOffer(t, w, true)
	return body
}

func unpublish(t *testing.T, w *world) {
	t.Helper()
	err := os.RemoveAll(filepath.Join(w.Dir, "downloads"))
	if err != nil {
		t.Fatal(err)
	}
	awaitOffer(t, w, false)
}

// awaitOffer waits until the page offers a file, or none.
func awaitOffer(t *testing.T, w *world, want bool) {
	t.Helper()
	v := newVisitor(t, w.Demo, "")
	testkit.Await(t, fmt.Sprintf("page with a file: %t", want), func() bool {
		page := v.do(t, http.MethodGet, w.Portal+"/p/s", nil)
		return strings.Contains(page.body, `href="/p/s/`+clientFile+`"`) == want
	})
}
