package status_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/status"
	"inkan/internal/store"
	"inkan/internal/testkit"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// echo answers with the SHA-256 of the request, so that a test sees which bytes
// arrived.
type echo struct {
	this time.Time
	err  error
}

func (e echo) Answer(_ context.Context, der []byte, _ func() bool) (ca.Answer, error) {
	sum := sha256.Sum256(der)
	return ca.Answer{Body: sum[:], ETag: ca.ETag(sum[:]), ThisUpdate: e.this, NextUpdate: noon.Add(30 * time.Second)}, e.err
}

type lists map[string]store.CRL

func (l lists) CRL(issuer string) (store.CRL, time.Time) { return l[issuer], time.Time{} }

func handler(t *testing.T, answers status.Answers) http.Handler {
	t.Helper()
	key, err := issuance.GenerateKey(pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	root, err := issuance.NewCA(issuance.CAParams{ID: issuance.TLS, CommonName: "Site Root", Key: key, NotBefore: noon.AddDate(0, 0, -1), PermittedDNS: []string{"example.jp"}},
		issuance.Config{Country: "JP", Organization: "ReceiptOnline", StatusURL: "http://status.example.jp"})
	if err != nil {
		t.Fatal(err)
	}
	return status.Handler(status.Config{Answers: answers, CAs: map[string]*x509.Certificate{issuance.TLS: root},
		Lists: lists{"g1": {Issuer: "g1", Number: 7, ThisUpdate: noon.Add(-time.Hour), NextUpdate: noon.Add(23 * time.Hour), DER: []byte("crl")}},
		Now:   func() time.Time { return noon }, Log: testkit.Quiet})
}

func do(h http.Handler, method, target, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// TestThreatST5 asks 100,000 times: it asks the same question by POST and by GET in every encoding that
// clients use; a mux in between would redirect those with "//".
func TestThreatST5(t *testing.T) {
	h := handler(t, echo{this: noon})
	random := rand.New(rand.NewPCG(1, 2))
	questions := 100_000 / 7
	if testing.Short() {
		questions = 500
	}
	for range questions {
		request := make([]byte, 1+random.IntN(120))
		for i := range request {
			request[i] = byte(random.IntN(256))
		}
		sum := sha256.Sum256(request)
		std := base64.StdEncoding.EncodeToString(request)
		for name, path := range map[string]string{
			"as it is":   std,
			"escaped":    url.PathEscape(std),
			"slashes":    strings.ReplaceAll(std, "/", "%2F"),
			"plus":       strings.ReplaceAll(std, "+", "%2B"),
			"no padding": strings.TrimRight(std, "="),
			"url form":   base64.URLEncoding.EncodeToString(request),
			"everything": everyByte(std),
		} {
			resp := do(h, "GET", "http://x/ocsp/"+path, "")
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || hex.EncodeToString(got) != hex.EncodeToString(sum[:]) {
				t.Fatalf("%s: GET %s: %d, another request arrived", name, path, resp.StatusCode)
			}
		}
		got, err := io.ReadAll(do(h, "POST", "http://x/ocsp", string(request)).Body)
		if err != nil || hex.EncodeToString(got) != hex.EncodeToString(sum[:]) {
			t.Fatal("POST: another request arrived")
		}
	}
}

// everyByte escapes each byte, as a zealous client may.
func everyByte(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, "%%%02x", text[i])
	}
	return b.String()
}

// TestThreatST11OnlyStatus: nothing of another zone is on the status listener, whatever
// Host is asked for, and no cache keeps the refusal.
func TestThreatST11OnlyStatus(t *testing.T) {
	h := handler(t, echo{this: noon})
	for _, path := range []string{"/", "/p/", "/p/rcd", "/p/rcr", "/p/ru", "/p/rx", "/p/status", "/p/check", "/p/s", "/p/rcd/t/x", "/p/cert/", "/p/cert/../rcd",
		"/console", "/console/", "/api/v1/certificates", "/api/v1/changes", "/agent/v1/renew", "/live", "/ready", "/metrics", "/debug/pprof/",
		"/crl/", "/crl/../../etc/passwd", "/ca/..%2f..%2fx.cer", "/static/site.css", "/ocspx"} {
		for _, method := range []string{"GET", "POST", "HEAD", "PUT"} {
			r := httptest.NewRequest(method, "http://x/", nil)
			r.URL.Path, r.URL.RawPath, r.RequestURI = path, "", path
			r.Host = "portal.example.jp"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			moved := w.Code == http.StatusTemporaryRedirect || w.Code == http.StatusMovedPermanently // the mux cleans a path, no more
			if w.Code != http.StatusNotFound && !(moved && strings.Contains(path, "..")) {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
			if w.Code == http.StatusNotFound && w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: a cache may keep the refusal: %q", method, path, w.Header().Get("Cache-Control"))
			}
		}
	}
}

// TestThreatST2Source: the quota of answers with a nonce is that of a source, which may
// change its address within its network at will.
func TestThreatST2Source(t *testing.T) {
	a := &asking{}
	h := handler(t, a)
	echoed := func(from string) bool {
		r := httptest.NewRequest("POST", "http://x/ocsp", strings.NewReader("question"))
		r.RemoteAddr = from
		h.ServeHTTP(httptest.NewRecorder(), r)
		return a.echoed
	}
	n := 0
	for n < 10_000 && echoed("192.0.2.7:1000") {
		n++
	}
	if n != 200 {
		t.Errorf("%d answers with a nonce at once", n)
	}
	if !echoed("192.0.2.8:1000") {
		t.Error("another source pays for the first")
	}
	for i := range 200 {
		echoed(fmt.Sprintf("[2001:db8::%x]:1000", i+1))
	}
	if echoed("[2001:db8::ffff]:1000") {
		t.Error("another address of the same /64 has a quota of its own")
	}
}

// asking wants to echo a nonce every time.
type asking struct{ echoed bool }

func (a *asking) Answer(_ context.Context, _ []byte, fresh func() bool) (ca.Answer, error) {
	a.echoed = fresh()
	return ca.Answer{Body: []byte("x"), ThisUpdate: noon, NextUpdate: noon}, nil
}

func TestHeaders(t *testing.T) {
	h := handler(t, echo{this: noon.Add(-time.Minute)})
	ask := "http://x/ocsp/" + base64.StdEncoding.EncodeToString([]byte("question"))
	for _, c := range []struct {
		name, method, target, body string
		code                       int
		contentType, cache         string
	}{
		{"OCSP by GET, kept no longer than it is true", "GET", ask, "", 200, "application/ocsp-response", "public, no-transform, must-revalidate, max-age=30"},
		{"OCSP by HEAD", "HEAD", ask, "", 200, "application/ocsp-response", "public, no-transform, must-revalidate, max-age=30"},
		{"OCSP by POST", "POST", "http://x/ocsp", "question", 200, "application/ocsp-response", "no-store"},
		{"OCSP by PUT", "PUT", "http://x/ocsp", "question", 405, "", "no-store"},
		{"GET without a question", "GET", "http://x/ocsp", "", 405, "", "no-store"},
		{"not base64", "GET", "http://x/ocsp/!!!", "", 200, "application/ocsp-response", "no-store"},
		{"too large", "POST", "http://x/ocsp", strings.Repeat("x", issuance.MaxOCSPRequest+1), 200, "application/ocsp-response", "no-store"},
		{"CRL", "GET", "http://x/crl/g1.crl", "", 200, "application/pkix-crl", "public, no-transform, must-revalidate, max-age=60"},
		{"no such CRL", "GET", "http://x/crl/g2.crl", "", 404, "", "no-store"},
		{"CRL without its ending", "GET", "http://x/crl/g1", "", 404, "", "no-store"},
		{"CA certificate", "GET", "http://x/ca/tls.cer", "", 200, "application/pkix-cert", "public, no-transform, must-revalidate, max-age=86400"},
		{"no such CA", "GET", "http://x/ca/g1.cer", "", 404, "", "no-store"},
		{"root of the site", "GET", "http://x/p/cert", "", 200, "application/x-x509-ca-cert", "public, no-transform, must-revalidate, max-age=86400"},
		{"another zone's page", "GET", "http://x/p/rcd", "", 404, "", "no-store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := do(h, c.method, c.target, c.body)
			if resp.StatusCode != c.code || c.contentType != "" && resp.Header.Get("Content-Type") != c.contentType || resp.Header.Get("Cache-Control") != c.cache {
				t.Errorf("%d %q %q", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Cache-Control"))
			}
			if strings.HasPrefix(c.cache, "public") && (resp.Header.Get("ETag") == "" || resp.Header.Get("Last-Modified") == "" || resp.Header.Get("Expires") == "") {
				t.Errorf("caches are not told enough: %v", resp.Header)
			}
		})
	}
}

func TestNotModified(t *testing.T) {
	h := handler(t, echo{this: noon})
	first := do(h, "GET", "http://x/crl/g1.crl", "")
	again := do(h, "GET", "http://x/crl/g1.crl", "", "If-None-Match", first.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("got %d", again.StatusCode)
	}
}

// TestETagOfACRL: after a failover to a standby that lacked the last list, its number is
// given again to another.
func TestETagOfACRL(t *testing.T) {
	list := store.CRL{Number: 7, ThisUpdate: noon, NextUpdate: noon.Add(time.Hour), DER: []byte("crl")}
	etag := func(l store.CRL) string {
		h := status.Handler(status.Config{Lists: lists{"g1": l}, Now: func() time.Time { return noon }})
		return do(h, "HEAD", "http://x/crl/g1.crl", "").Header.Get("ETag")
	}
	next, again := list, list
	next.Number++
	again.ThisUpdate = noon.Add(time.Microsecond)
	for name, other := range map[string]store.CRL{"the next": next, "the same number again": again} {
		if etag(list) == "" || etag(other) == etag(list) {
			t.Errorf("%s: %s beside %s", name, etag(other), etag(list))
		}
	}
}

// TestErrorsAreNotAnswers: a failure inside is internalError, never cached, and an
// answer without a thisUpdate (tryLater) is not cached either (invariant 10).
func TestErrorsAreNotAnswers(t *testing.T) {
	ask := "http://x/ocsp/" + base64.StdEncoding.EncodeToString([]byte("question"))
	resp := do(handler(t, echo{err: io.ErrUnexpectedEOF}), "GET", ask, "")
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != string(issuance.OCSPInternal) || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %x, %q", got, resp.Header.Get("Cache-Control"))
	}
	resp = do(handler(t, echo{}), "GET", ask, "")
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("ETag") != "" {
		t.Errorf("an answer without a time may be cached: %v", resp.Header)
	}
}

func FuzzGET(f *testing.F) {
	f.Add("MFEw%2F%2FTx4=")
	f.Add("//")
	f.Add("%zz")
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "http://x/ocsp/a", nil)
		r.URL = &url.URL{Path: "/ocsp/" + path}
		w := httptest.NewRecorder()
		status.Handler(status.Config{Answers: echo{this: noon}, Lists: lists{}, Now: func() time.Time { return noon }, Log: testkit.Quiet}).ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 405 {
			t.Fatalf("%q: %d", path, w.Code)
		}
	})
}
