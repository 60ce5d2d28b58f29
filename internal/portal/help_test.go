package portal_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/ra"
	"inkan/internal/release"
)

// Canaries: they must appear nowhere but where the person put them.
const (
	goodRequest   = "202611230000123"
	goodReference = "hT7kWm4Qzr"
	canaryPIN     = "7391"
	goodTicket    = "VElDS0VUQ0FOQVJZ"
)

var start = time.Date(2026, 11, 24, 5, 0, 30, 0, time.UTC) // 14:00:30 in Japan

// pickups is a registration authority of one request.
type pickups struct {
	mu      sync.Mutex
	prepare func(ra.PickupInput) (pki.Secret, error)
	asked   []ra.PickupInput
	cookie  [32]byte
	left    int
	ended   bool
	err     error // of page and file
}

func (p *pickups) EndPickup(_ context.Context, ticket pki.Secret, cookie [32]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.view(ticket, cookie)
	if err == nil && p.left == ra.TicketUses {
		err = pki.E(pki.Conflict, "pickup.not_saved")
	}
	p.ended = p.ended || err == nil
	return err
}

func (p *pickups) PreparePickup(_ context.Context, in ra.PickupInput) (pki.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, in)
	if p.prepare != nil {
		return p.prepare(in)
	}
	p.cookie, p.left = in.CookieHash, 3
	return goodTicket, nil
}

func (p *pickups) view(ticket pki.Secret, cookie [32]byte) error {
	switch {
	case p.err != nil:
		return p.err
	case ticket != goodTicket:
		return pki.E(pki.NotFound, "ticket.unknown")
	case cookie != p.cookie:
		return pki.E(pki.Forbidden, "ticket.foreign")
	}
	return nil
}

func (p *pickups) PickupPage(_ context.Context, ticket pki.Secret, cookie [32]byte) (ra.PickupView, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ra.PickupView{
		RequestID: goodRequest, Holder: pki.Holder{Kind: pki.Medical, Code: "0110119153"}, TerminalName: "受付1号機",
		Issuer: "Test CA - G1", NotBefore: start, NotAfter: pki.AddMonths(start, pki.ValidityMonths).Add(-time.Second),
		Deadline: pki.DownloadDeadline(start), TicketUntil: start.Add(10 * time.Minute), FileName: goodRequest + ".p12",
		SHA256: strings.Repeat("ec864fe9", 8), Size: len(theFile), FetchesLeft: p.left, KeyHere: !p.ended,
	}, p.view(ticket, cookie)
}

var theFile = []byte("0\x82 a file of PKCS#12")

func (p *pickups) PickupFile(_ context.Context, ticket pki.Secret, cookie [32]byte) (string, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.view(ticket, cookie)
	if err != nil {
		return "", nil, err
	}
	if p.left == 0 {
		return "", nil, pki.E(pki.Gone, "ticket.over")
	}
	p.left--
	return goodRequest + ".p12", theFile, nil
}

// site is a portal with what a test wants to look at.
type site struct {
	t         testing.TB
	h         http.Handler
	aboutRoot http.Handler // on plain http
	auth      http.Handler // the zone that asks for a certificate
	pickups   *pickups
	log       *bytes.Buffer
	now       *time.Time
}

func open(t testing.TB, change ...func(*portal.Config)) *site {
	t.Helper()
	s := &site{t: t, pickups: &pickups{}, log: &bytes.Buffer{}}
	now := start
	s.now = &now
	c := portal.Config{
		Hosts: []string{"portal.test"}, AuthHosts: []string{"auth.test"}, Floor: -1, Issuer: "Test CA - G1", SiteRoot: siteRoot(t), StatusURL: "http://status.test",
		Releases: func() (release.Offer, bool) { return release.Offer{}, false },
		Help:     portal.HelpDesk{Phone: "0570-123-456", Free: true, Hours: map[string]string{"ja": "月〜金 9:00〜17:00", "en": "Mon-Fri 9:00-17:00"}},
		Now:      func() time.Time { return now }, Log: slog.New(slog.NewJSONHandler(&guarded{out: s.log}, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	p, err := portal.New(c, struct {
		*pickups
		portal.Renewals
		portal.Revocations
		portal.Applications
	}{pickups: s.pickups})
	if err != nil {
		t.Fatal(err)
	}
	s.h, s.aboutRoot, s.auth = p.Handler(), p.AboutRoot(), p.AuthHandler()
	return s
}

var madeRoot = sync.OnceValues(func() (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	like := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Site Root"}, NotBefore: start, NotAfter: start.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, PermittedDNSDomains: []string{"portal.test"},
		PermittedIPRanges: []*net.IPNet{{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(32, 32)}}}
	der, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
})

func siteRoot(t testing.TB) *x509.Certificate {
	t.Helper()
	root, err := madeRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

type guarded struct {
	mu  sync.Mutex
	out *bytes.Buffer
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.Write(p)
}

// browser keeps cookies and a language, as browsers do.
type browser struct {
	site    *site
	lang    string
	agent   string
	from    string
	cookies map[string]string
}

func (s *site) browser() *browser {
	return &browser{site: s, lang: "ja", from: "192.0.2.7", cookies: map[string]string{}}
}

func (b *browser) do(method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Host = "portal.test"
	r.RemoteAddr = b.from + ":40000"
	r.Header.Set("Accept-Language", b.lang)
	r.Header.Set("User-Agent", b.agent)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.site.h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookies[c.Name] = c.Value
	}
	return w
}

func (b *browser) get(path string) *httptest.ResponseRecorder {
	return b.do(http.MethodGet, path, nil)
}

func typed() url.Values {
	return url.Values{"requestId": {goodRequest}, "referenceId": {goodReference}, "password": {canaryPIN}, "passwordConfirm": {canaryPIN}}
}

func (b *browser) post(form url.Values) *httptest.ResponseRecorder {
	return b.do(http.MethodPost, "/p/rcd", form)
}

// holds says whether a text holds a secret as a word of its own: its letters may stand
// by chance inside a time or a hash.
func holds(text, secret string) bool {
	return regexp.MustCompile(`(^|[^0-9A-Za-z])` + regexp.QuoteMeta(secret) + `($|[^0-9A-Za-z])`).MatchString(text)
}

// lookup gives the look-up code of the last refusal in the log.
func (s *site) lookup() string {
	s.t.Helper()
	last := ""
	for line := range bytes.Lines(s.log.Bytes()) {
		var record struct{ Lookup string }
		err := json.Unmarshal(line, &record)
		if err != nil {
			s.t.Fatalf("log line %q: %v", line, err)
		}
		if record.Lookup != "" {
			last = record.Lookup
		}
	}
	if last == "" {
		s.t.Fatal("the log holds no look-up code")
	}
	return last[:4] + " " + last[4:]
}
