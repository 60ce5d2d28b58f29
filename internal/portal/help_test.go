package portal_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/portal/portaltest"
	"inkan/internal/ra"
	"inkan/internal/release"
	"inkan/internal/testkit"
	"inkan/internal/webkit"
)

const (
	plainHost = "portal.test"
	authHost  = "auth.test" // of the zone that asks for a certificate

	// pin is a canary: it must appear nowhere but where the person put it.
	pin = "7391"
	// wrongReference has the form of a reference ID, and is nobody's.
	wrongReference = "AAAAAAAAAA"
	issuerName     = "Test Root CA - G1"
)

// start is 14:00:30 in Japan.
var start = time.Date(2026, 11, 24, 5, 0, 30, 0, time.UTC)

// site is the portal with its zones over a real office.
type site struct {
	*catest.Office
	portal      *portal.Portal
	plain, auth http.Handler
	aboutRoot   http.Handler // on plain http
	office      *office
	timers      *timers
	log         *testkit.Log // of the portal, in JSON

	letter pki.Request // whose letter was sent; see openLetter
	ref    pki.Secret
}

// office is the real registration authority. It keeps what the download form asked.
type office struct {
	*ra.Service
	mu    sync.Mutex
	asked []ra.PickupInput
	// refusal is answered instead: for a state that the real one cannot be brought to.
	refusal error
}

// PreparePickup passes the question on.
func (o *office) PreparePickup(ctx context.Context, in ra.PickupInput) (pki.Secret, error) {
	o.mu.Lock()
	o.asked = append(o.asked, in)
	refusal := o.refusal
	o.mu.Unlock()
	if refusal != nil {
		return "", refusal
	}
	return o.Service.PreparePickup(ctx, in)
}

// count says how often it was asked.
func (o *office) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

// timers are waits that end at once. They tell how long each was to be, and how much the
// office had been asked when it began.
type timers struct {
	office *office
	mu     sync.Mutex
	made   []timer
	begun  []int
}

type timer struct {
	length time.Duration
	end    chan time.Time
}

func (t *timers) start(length time.Duration) <-chan time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun = append(t.begun, t.office.count())
	made := timer{length, make(chan time.Time, 1)}
	made.end <- time.Time{}
	t.made = append(t.made, made)
	return made.end
}

// waited gives the lengths of the waits that somebody has waited for, since the last call.
func (t *timers) waited() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lengths []time.Duration
	for _, m := range t.made {
		if len(m.end) == 0 {
			lengths = append(lengths, m.length)
		}
	}
	t.made = nil
	return lengths
}

// open makes a site over an office of its own.
func open(t testing.TB, change ...func(*portal.Config)) *site {
	t.Helper()
	return openOver(catest.New(t, catest.Options{}), change...)
}

func openOver(o *catest.Office, change ...func(*portal.Config)) *site {
	o.T.Helper()
	s := &site{Office: o, office: &office{Service: o.RA}, log: &testkit.Log{}}
	s.timers = &timers{office: s.office}
	c := portal.Config{
		Hosts: []string{plainHost}, AuthHosts: []string{authHost}, Floor: -1, Issuer: issuerName, SiteRoot: o.CAs[issuance.TLS], StatusURL: "http://status.test",
		Releases: func() (release.Offer, bool) { return release.Offer{}, false },
		Help:     portal.HelpDesk{Phone: "0570-123-456", Free: true, Hours: map[string]string{"ja": "月〜金 9:00〜17:00", "en": "Mon-Fri 9:00-17:00"}},
		Flows:    webkit.Flows{DB: o.DB, Idle: 30 * time.Minute},
		Now:      o.Now, Timer: s.timers.start, Log: slog.New(slog.NewJSONHandler(s.log, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	s.portal, err = portal.New(c, s.office)
	testkit.Must(o.T, err)
	s.plain, s.auth, s.aboutRoot = s.portal.Handler(), s.portal.AuthHandler(), s.portal.AboutRoot()
	return s
}

// openLetter is open, with a request whose letter was sent.
func openLetter(t testing.TB, change ...func(*portal.Config)) *site {
	t.Helper()
	s := open(t, change...)
	s.Set(start)
	s.letter, s.ref = s.sent(11915) // 0110119153
	return s
}

// sent issues the request of the n-th institution and sends its letter.
func (s *site) sent(n int) (pki.Request, pki.Secret) {
	s.T.Helper()
	r := s.Issued(catest.Application(n))
	ref := s.Reference(r.ID)
	s.Dispatch(r.ID)
	return r, ref
}

// typed is what the holder of the letter types.
func (s *site) typed() url.Values { return typedFor(s.letter, s.ref) }

func typedFor(r pki.Request, ref pki.Secret) url.Values {
	return url.Values{"requestId": {r.ID}, "referenceId": {ref.Reveal()}, "password": {pin}, "passwordConfirm": {pin}}
}

// browser keeps cookies and a language, as browsers do, and has the certificate that its
// person chose.
type browser struct {
	site    *site
	host    string
	leaf    *x509.Certificate
	lang    string
	agent   string
	from    string
	header  http.Header
	cookies map[string]string
	all     bytes.Buffer // every page it saw
}

// browser opens one at the zone for everybody.
func (s *site) browser() *browser {
	return &browser{site: s, host: plainHost, lang: "ja", from: "192.0.2.7", cookies: map[string]string{}, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
}

// person opens a browser at the zone that asks for a certificate; nil: with none.
func (s *site) person(h *catest.Held) *browser {
	b := s.browser()
	b.host = authHost
	if h != nil {
		b.leaf = h.Pair.Leaf
	}
	return b
}

// as is person, with a certificate; nil: the zone for everybody.
func (s *site) as(leaf *x509.Certificate) *browser {
	b := s.browser()
	if leaf != nil {
		b.host, b.leaf = authHost, leaf
	}
	return b
}

func (b *browser) do(method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Host, r.RemoteAddr, r.TLS = b.host, b.from+":40000", &tls.ConnectionState{ServerName: b.host}
	h := b.site.plain
	if b.host == authHost {
		h = b.site.auth
		if b.leaf != nil {
			r.TLS.PeerCertificates = []*x509.Certificate{b.leaf}
		}
	}
	r.Header.Set("Accept-Language", b.lang)
	r.Header.Set("User-Agent", b.agent)
	for name, values := range b.header {
		r.Header[name] = values
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookies[c.Name] = c.Value
	}
	b.all.Write(w.Body.Bytes())
	return w
}

func (b *browser) get(path string) *httptest.ResponseRecorder {
	return b.do(http.MethodGet, path, nil)
}

// page is what a path shows.
func (b *browser) page(path string) string { return b.get(path).Body.String() }

// post sends the form of the download site.
func (b *browser) post(form url.Values) *httptest.ResponseRecorder {
	return b.do(http.MethodPost, "/p/rcd", form)
}

// ticketFor sends the form of the download site, and gives the path of the file's page.
func (b *browser) ticketFor(form url.Values) string {
	b.site.T.Helper()
	w := b.post(form)
	to := w.Header().Get("Location")
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(to, "/p/rcd/t/") {
		b.site.T.Fatalf("post: %d to %q, screen %s", w.Code, to, screen(w))
	}
	return to
}

// press sends the form of a page with what is typed.
func (b *browser) press(path, page string, typed url.Values) *httptest.ResponseRecorder {
	return b.do(http.MethodPost, path, portaltest.Sealed(typed, page))
}

// pressed sends the form of a page with one of its buttons.
func (b *browser) pressed(path string, page *httptest.ResponseRecorder, action string) *httptest.ResponseRecorder {
	return b.press(path, page.Body.String(), url.Values{"action": {action}})
}

// next presses, wants to be led on, and gives the page.
func (b *browser) next(path, page string, typed url.Values) (string, string) {
	b.site.T.Helper()
	w := b.press(path, page, typed)
	if w.Code != http.StatusSeeOther {
		b.site.T.Fatalf("%s %v: %d\n%s", path, typed, w.Code, w.Body)
	}
	to := w.Header().Get("Location")
	return to, b.page(to)
}

// screen gives the number that is told on the telephone.
func screen(w *httptest.ResponseRecorder) string { return portaltest.Screen(w.Body.String()) }

// has wants words to be on a page.
func has(t testing.TB, page string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(page, word) {
			t.Errorf("the page does not say %q:\n%s", word, page)
		}
	}
}

// holds says whether a text holds a secret as a word of its own: its letters may stand
// by chance inside a time or a hash.
func holds(text, secret string) bool {
	return regexp.MustCompile(`(^|[^0-9A-Za-z])` + regexp.QuoteMeta(secret) + `($|[^0-9A-Za-z])`).MatchString(text)
}

// lookup gives the look-up code of the last refusal in the log.
func (s *site) lookup() string {
	s.T.Helper()
	last := ""
	for line := range strings.Lines(s.log.String()) {
		var record struct{ Lookup string }
		err := json.Unmarshal([]byte(line), &record)
		if err != nil {
			s.T.Fatalf("log line %q: %v", line, err)
		}
		if record.Lookup != "" {
			last = record.Lookup
		}
	}
	if last == "" {
		s.T.Fatal("the log holds no look-up code")
	}
	return last[:4] + " " + last[4:]
}
