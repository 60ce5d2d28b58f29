package portal_test

import (
	"crypto/tls"
	"crypto/x509"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/portal"
	"inkan/internal/release"
	"inkan/internal/webkit"
)

// renewSite is the portal with its two zones on a real office.
type renewSite struct {
	*catest.Office
	plain, auth http.Handler
}

const authHost, plainHost = "auth.test", "portal.test"

// openRenewals makes holders, sets the clock to a time at which they may renew, and opens
// the site.
func openRenewals(t testing.TB, holders int) (*renewSite, []catest.Held) {
	t.Helper()
	o := catest.New(t, catest.Options{Activate: true, Grace: 30})
	hs := make([]catest.Held, holders)
	for n := range hs {
		hs[n] = o.Holding(catest.Application(n))
	}
	o.DaysBefore(hs[0], 60)
	p, err := portal.New(portal.Config{Hosts: []string{plainHost}, AuthHosts: []string{authHost}, Floor: -1, Issuer: "Test CA - G1",
		SiteRoot: o.CAs[issuance.TLS], StatusURL: "http://status.test", Releases: func() (release.Offer, bool) { return release.Offer{}, false },
		Flows: webkit.Flows{DB: o.DB, Idle: 15 * time.Minute}, Help: portal.HelpDesk{Phone: "0570-123-456"}, Now: o.Now, Log: o.Log.Logger()}, o.RA)
	if err != nil {
		t.Fatal(err)
	}
	return &renewSite{o, p.Handler(), p.AuthHandler()}, hs
}

// person is a browser with cookies, and the certificate that it presents.
type person struct {
	site    *renewSite
	leaf    *x509.Certificate
	cookies map[string]string
	header  http.Header
	host    string
}

func (s *renewSite) person(h *catest.Held) *person {
	p := &person{site: s, cookies: map[string]string{}, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}, host: authHost}
	if h != nil {
		p.leaf = h.Pair.Leaf
	}
	return p
}

func (p *person) do(method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Host, r.RemoteAddr = p.host, "192.0.2.7:40000"
	r.TLS = &tls.ConnectionState{ServerName: p.host}
	h := p.site.plain
	if p.host == authHost {
		h = p.site.auth
	}
	if p.leaf != nil && p.host == authHost {
		r.TLS.PeerCertificates = []*x509.Certificate{p.leaf}
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range p.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		p.cookies[c.Name] = c.Value
	}
	return w
}

func (p *person) get(path string) *httptest.ResponseRecorder { return p.do(http.MethodGet, path, nil) }

var (
	sealField = regexp.MustCompile(`name="form" value="([^"]*)"`)
	screenOn  = regexp.MustCompile(`画面番号 ([A-Z0-9-]+)`)
	lookupOn  = regexp.MustCompile(`<span class="code">[^<]*</span>`)
)

// seal gives the hidden field of the form on a page.
func seal(page string) string {
	m := sealField.FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// screen gives the number that is told on the telephone.
func screen(w *httptest.ResponseRecorder) string {
	m := screenOn.FindStringSubmatch(w.Body.String())
	if m == nil {
		return ""
	}
	return m[1]
}

// renewed goes from the home page to the page of the renewal, as a person does, and
// gives its path.
func (p *person) renewed(t *testing.T) string {
	t.Helper()
	form := seal(p.get("/p/ru/apply").Body.String())
	w := p.do("POST", "/p/ru/apply", url.Values{"form": {form}, "action": {"submit"}})
	at := w.Header().Get("Location")
	if w.Code != 303 || !strings.HasPrefix(at, "/p/ru/r/") {
		t.Fatalf("submit: %d to %q, screen %s", w.Code, at, screen(w))
	}
	return at
}

// key is the form of 鍵の取得 for a page.
func key(page, request, pin string) url.Values {
	return url.Values{"form": {seal(page)}, "requestId": {request}, "password": {pin}, "passwordConfirm": {pin}}
}

// ticket gets the key at the page of a renewal and gives the path of the file's page.
func (p *person) ticket(t *testing.T, at string) string {
	t.Helper()
	w := p.do("POST", at, key(p.get(at).Body.String(), strings.TrimPrefix(at, "/p/ru/r/"), "123456"))
	to := w.Header().Get("Location")
	if w.Code != 303 || !strings.HasPrefix(to, "/p/ru/t/") {
		t.Fatalf("key: %d to %q, screen %s", w.Code, to, screen(w))
	}
	return to
}
