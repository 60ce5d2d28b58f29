package app_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"inkan/internal/portal/portaltest"
	"inkan/internal/testkit"

	"github.com/rogpeppe/go-internal/testscript"
)

// ready: waits until the instance says that it is.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	client := &http.Client{Timeout: time.Second}
	until(ts, "ready", func() bool {
		resp, err := client.Get("http://" + ts.Getenv("INTERNAL") + "/ready")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

// get STATUS URL [HOST]: asks, perhaps under another Host.
func get(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, args[1], nil)
	ts.Check(err)
	if len(args) > 2 {
		req.Host = args[2]
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	_, _ = ts.Stdout().Write(body)
	if fmt.Sprint(resp.StatusCode) != args[0] {
		ts.Fatalf("%s answers %s", args[1], resp.Status)
	}
}

// visit is a holder's browser on the site of $I.
type visit struct {
	*http.Client
	ts *testscript.TestScript
}

func newVisit(ts *testscript.TestScript) visit {
	pem, err := os.ReadFile(filepath.Join(ts.Getenv("I"), "ca", "tls.pem"))
	ts.Check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	return visit{&http.Client{Jar: jar, Timeout: testkit.Patience, Transport: transport}, ts}
}

// read gives a page and where it is after all redirects.
func (v visit) read(resp *http.Response, err error) (string, *url.URL) {
	v.ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	v.ts.Check(err)
	v.ts.Check(resp.Body.Close())
	return string(body), resp.Request.URL
}

// fetch REQUEST-ID REFERENCE-ID PIN FILE: downloads a certificate as its holder does;
// with !, a page says why not, which is then on stdout.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	v := newVisit(ts)
	form := "https://" + ts.Getenv("PORTAL") + "/p/rcd"
	v.read(v.Get(form))
	page, at := v.read(v.PostForm(form, url.Values{"requestId": {args[0]}, "referenceId": {args[1]}, "password": {args[2]}, "passwordConfirm": {args[2]}}))
	link := portaltest.File(page)
	if neg {
		if link != "" {
			ts.Fatalf("a file is offered")
		}
		_, _ = io.Copy(ts.Stdout(), strings.NewReader(page))
		return
	}
	if link == "" {
		ts.Fatalf("no file is offered: %s", page)
	}
	address, err := at.Parse(link)
	ts.Check(err)
	file, _ := v.read(v.Get(address.String()))
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(file), 0o600))
}

var (
	caseNumber = regexp.MustCompile(`R-\d{8}-\d{6}`)
)

// report NAME REQUEST-ID REFERENCE-ID REASON: asks for a revocation as the holder of a
// letter does, and keeps the number of the receipt in NAME.
func report(ts *testscript.TestScript, _ bool, args []string) {
	v := newVisit(ts)
	form := "https://" + ts.Getenv("PORTAL") + "/p/rx"
	v.read(v.Get(form))
	page, at := v.read(v.PostForm(form, url.Values{"requestId": {args[1]}, "referenceId": {args[2]}}))
	for _, typed := range []url.Values{{"email": {"typed@example.jp"}, "emailConfirm": {"typed@example.jp"}, "reason": {args[3]}}, {"action": {"apply"}}} {
		portaltest.Sealed(typed, page)
		if !typed.Has("form") || !typed.Has("step") {
			ts.Fatalf("no form to ask with: %s", page)
		}
		page, at = v.read(v.PostForm(at.String(), typed))
	}
	number := caseNumber.FindString(page)
	if number == "" {
		ts.Fatalf("no receipt: %s", page)
	}
	ts.Setenv(args[0], number)
}
