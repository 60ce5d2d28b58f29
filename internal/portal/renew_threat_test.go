package portal_test

import (
	"encoding/pem"
	"maps"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
	"inkan/internal/ra"
)

// stripped is a page without what is new each time and without what was asked for.
func stripped(w *httptest.ResponseRecorder, ids ...string) string {
	page := lookupOn.ReplaceAllString(w.Body.String(), "")
	for _, id := range ids {
		page = strings.ReplaceAll(page, id, "ID")
	}
	return page
}

var routeInCode = regexp.MustCompile(`route\("(GET|POST) "?\+?(t\.base\+")?(/p/ru[^"]*|/t/[^"]*)"`)

// TestThreatRS8Walk walks every path of the renewal site with the numbers of a neighbour
// in the same institution, whose certificate has the same subject: the page is that of a
// number that nobody has.
func TestThreatRS8Walk(t *testing.T) {
	s, hs := openRenewals(t, 3)
	a, b := s.person(&hs[0]), s.person(&hs[1])
	theirs := b.renewed(t)
	ticket := b.ticket(t, theirs)
	id, own := strings.TrimPrefix(theirs, "/p/ru/r/"), strings.TrimPrefix(a.renewed(t), "/p/ru/r/")
	before := stripped(b.get(theirs))
	const unknown = "209912310000001"
	walked := 0
	for _, source := range []string{"renew.go", "download.go", "auth.go", "check.go", "flow.go"} {
		raw, err := os.ReadFile(source)
		catest.Must(t, err)
		for _, m := range routeInCode.FindAllStringSubmatch(string(raw), -1) {
			walked++
			method, path := m[1], m[3]
			if m[2] != "" {
				path = "/p/ru" + path
			}
			if strings.Contains(path, "{ticket}") {
				path = strings.NewReplacer("/p/ru/t/{ticket}", ticket, "{file}", id+".p12").Replace(path)
				if w := a.do(method, path, url.Values{"kept": {"yes"}}); w.Code != 403 || strings.Contains(w.Body.String(), id) {
					t.Errorf("%s %s: %d", method, path, w.Code)
				}
				continue
			}
			for _, foreign := range []string{id, hs[1].ID, hs[2].ID} {
				ask := func(id string) *httptest.ResponseRecorder {
					at := strings.ReplaceAll(path, "{request}", id)
					form := key(a.get("/p/ru/r/"+own).Body.String(), id, "123456")
					return a.do(method, at+"?requestId="+id, form)
				}
				got, want := ask(foreign), ask(unknown)
				if got.Code != want.Code || stripped(got, foreign) != stripped(want, unknown) || strings.Contains(path, "{request}") && got.Code < 400 {
					t.Errorf("%s %s of %s: %d; of nobody's: %d", method, path, foreign, got.Code, want.Code)
				}
			}
		}
	}
	if walked < 10 {
		t.Errorf("walked %d routes only: the test is blind", walked)
	}
	if stripped(b.get(theirs)) != before || b.get(ticket).Code != 200 {
		t.Error("the neighbour's pages are not as they were")
	}
	if n := s.Count("sealed_key WHERE request = $1 AND stage = 'held'", id); n != 1 {
		t.Error("the neighbour's key is gone")
	}
}

// TestThreatRS11Renewal: a form acts only from the page that it was drawn on: that
// browser, certificate, path and step. Another site, or another port, presses nothing.
func TestThreatRS11Renewal(t *testing.T) {
	s, hs := openRenewals(t, 2)
	p := s.person(&hs[0])
	form := portaltest.Seal(p.get("/p/ru/apply").Body.String())
	other, two := s.person(&hs[0]), s.person(&hs[1])
	other.get("/p/ru")
	two.cookies = maps.Clone(p.cookies) // two windows of one browser with two certificates
	bare := s.person(&hs[0])
	for name, try := range map[string]struct {
		who  *browser
		form string
	}{
		"no cookie": {bare, form}, "another browser": {other, form}, "another certificate": {two, form}, "no seal": {p, ""}, "a made-up seal": {p, strings.Repeat("A", 43)},
	} {
		w := try.who.do("POST", "/p/ru/apply", url.Values{"form": {try.form}, "action": {"submit"}})
		if w.Code != 409 || screen(w) != "ERR-4" || !strings.Contains(w.Body.String(), `href="/p/ru/apply"`) {
			t.Errorf("%s: %d %s", name, w.Code, screen(w))
		}
	}
	for name, change := range map[string]map[string][]string{
		"another port":     {"Sec-Fetch-Site": {"same-site"}},
		"another site":     {"Sec-Fetch-Site": {"cross-site"}},
		"a foreign origin": {"Sec-Fetch-Site": nil, "Origin": {"https://portal.test:8443"}},
	} {
		was := p.header
		p.header = change
		w := p.do("POST", "/p/ru/apply", url.Values{"form": {form}})
		p.header = was
		if w.Code != 403 || screen(w) != "ERR-1" {
			t.Errorf("%s: %d %s", name, w.Code, screen(w))
		}
	}
	if n := s.Count("request WHERE kind = 'renewal'"); n != 0 {
		t.Fatalf("%d renewals were asked for", n)
	}
	at := p.renewed(t)
	page := p.get(at).Body.String()
	stale := key(page, strings.TrimPrefix(at, "/p/ru/r/"), "1234")
	stale.Set("form", form) // of another step
	if w := p.do("POST", at, stale); w.Code != 409 {
		t.Errorf("the seal of another page: %d", w.Code)
	}
	if w := p.do("POST", at, key(page, "209912310000001", "1234")); w.Code != 409 {
		t.Errorf("another request in the form: %d", w.Code)
	}
	p.header = nil // curl: with all that the page and the browser have
	if w := p.do("POST", at, key(page, strings.TrimPrefix(at, "/p/ru/r/"), "1234")); w.Code != 303 {
		t.Errorf("the right form: %d", w.Code)
	}
}

// TestThreatRS12DL7 : zones of one host share cookies. A ticket of the renewal site is
// its browser's, its certificate's and its zone's; cookies of other zones are nobody's.
func TestThreatRS12DL7(t *testing.T) {
	s, hs := openRenewals(t, 2)
	p := s.person(&hs[0])
	at := p.renewed(t)
	id := strings.TrimPrefix(at, "/p/ru/r/")
	ticket := p.ticket(t, at)
	plain, two, other, none := s.person(nil), s.person(&hs[1]), s.person(&hs[0]), s.person(nil)
	plain.host = plainHost
	for _, w := range []*browser{plain, two, none} {
		w.cookies = maps.Clone(p.cookies)
	}
	other.get("/p/ru")
	for name, who := range map[string]*browser{"another zone": plain, "another certificate": two, "another browser": other, "no certificate": none} {
		for _, path := range []string{ticket, ticket + "/" + id + ".p12"} {
			if who == plain {
				path = strings.Replace(path, "/p/ru/", "/p/rcd/", 1)
			}
			if w := who.get(path); w.Code != 403 || strings.Contains(w.Body.String(), id) {
				t.Errorf("%s: %d %s", name, w.Code, screen(w))
			}
		}
	}
	// And back: a ticket of the download site in the zone of certificates.
	ref, err := s.RA.Renewal(t.Context(), hs[0].Pair.Leaf, id)
	catest.Must(t, err)
	plain.get("/p/rcd")
	w := plain.do("POST", "/p/rcd", url.Values{"requestId": {id}, "referenceId": {ref.ReferenceID.Reveal()}, "password": {"1234"}, "passwordConfirm": {"1234"}})
	public := w.Header().Get("Location")
	if !strings.HasPrefix(public, "/p/rcd/t/") || plain.get(public).Code != 200 {
		t.Fatalf("the download site: %d to %q", w.Code, public)
	}
	if w := p.get(strings.Replace(public, "/p/rcd/", "/p/ru/", 1)); w.Code != 403 {
		t.Errorf("a ticket of the download site in the other zone: %d", w.Code)
	}

	for _, name := range []string{"__Host-inkan_c", "__Host-inkan_h", "session", "demo"} {
		p.cookies[name] = "x"
	}
	for range ra.TicketUses {
		if w := p.get(ticket + "/" + id + ".p12"); w.Code != 200 {
			t.Errorf("the owner, with cookies of other zones: %d", w.Code)
		}
	}
	if w := p.get(ticket + "/" + id + ".p12"); w.Code != 410 || !strings.Contains(w.Body.String(), `href="/p/ru"`) {
		t.Errorf("the fourth fetch: %d", w.Code)
	}
	again := p.ticket(t, at)
	s.Advance(ra.TicketLife + time.Second)
	if w := p.get(again); w.Code != 410 {
		t.Errorf("after ten minutes: %d", w.Code)
	}
	if w := p.get(again[:len(again)-4] + "AAAA"); w.Code != 410 && w.Code != 404 {
		t.Errorf("a made-up ticket: %d", w.Code)
	}
	log := s.log.String() + s.Log.String()
	for _, secret := range []string{strings.TrimPrefix(ticket, "/p/ru/t/"), strings.TrimPrefix(public, "/p/rcd/t/"), "123456", ref.ReferenceID.Reveal()} {
		if holds(log, secret) {
			t.Error("the log holds a ticket, a PIN or a reference ID")
		}
	}
	if !strings.Contains(log, "/p/ru/t/…") {
		t.Error("no access to a ticket is logged: the test is blind")
	}
}

// TestThreatRS1Tickets: the page of a file is judged by the certificate now, too.
func TestThreatRS1Tickets(t *testing.T) {
	s, hs := openRenewals(t, 1)
	p := s.person(&hs[0])
	at := p.renewed(t)
	ticket := p.ticket(t, at)
	_, err := s.RA.Revoke(t.Context(), catest.Officer, hs[0].Serial, pki.KeyCompromise, "stolen")
	catest.Must(t, err)
	s.Advance(time.Second)
	file := ticket + "/" + strings.TrimPrefix(at, "/p/ru/r/") + ".p12"
	for _, path := range []string{"/p/ru", "/p/ru/apply", "/p/ru/list", at, ticket, file} {
		if w := p.get(path); w.Code != 410 || screen(w) != "RU-1R" {
			t.Errorf("%s: %d %s", path, w.Code, screen(w))
		}
	}
}

// TestThreatRS13: who is at the other end the TLS layer says, and no header.
func TestThreatRS13(t *testing.T) {
	s, hs := openRenewals(t, 1)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hs[0].Pair.Leaf.Raw}))
	for _, name := range []string{"X-SSL-Client-Cert", "X-SSL-CERT", "X-Client-Cert", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-ARR-ClientCert",
		"SSL_CLIENT_CERT", "Ssl-Client-Cert", "Client-Cert", "X-Amzn-Mtls-Clientcert", "X-Tls-Client-Cert", "X-SSL-Client-Serial"} {
		for _, value := range []string{url.QueryEscape(text), strings.ReplaceAll(strings.TrimSpace(text), "\n", " "), hs[0].Serial} {
			p := s.person(nil)
			p.header = map[string][]string{name: {value}, "X-Ssl-Client-Verify": {"SUCCESS"}}
			if w := p.get("/p/ru"); w.Code != 403 || screen(w) != "RU-1N" {
				t.Errorf("%s: %d %s", name, w.Code, screen(w))
			}
			if w := p.get("/p/check"); !strings.Contains(w.Body.String(), "電子証明書が届きませんでした") || strings.Contains(w.Body.String(), hs[0].ID) {
				t.Errorf("%s: the page that checks takes it for a certificate", name)
			}
		}
	}
}
