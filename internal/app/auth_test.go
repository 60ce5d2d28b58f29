package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
	"inkan/internal/testkit"
)

// authSite is the portal with the product's own listeners' TLS, on a real office.
type authSite struct {
	*catest.Office
	plain, auth string // addresses
}

func openAuthSite(t *testing.T, o *catest.Office) authSite {
	t.Helper()
	s := &server{instance: newInstance("", Config{}, o.Log.Logger()), metrics: newMetrics()}
	s.clock, s.db, s.ra, s.cas = o.Clock, o.DB, o.RA, o.CAs
	var listeners []net.Listener
	for _, name := range []string{"portal", "api", "portal_auth"} {
		l, pair := &leaf{zone: name}, selfSigned(t, testkit.Key(t))
		l.current.Store(&pair)
		s.leaves = append(s.leaves, l)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		catest.Must(t, err)
		listeners = append(listeners, listener)
	}
	_ = listeners[1].Close()
	site := authSite{o, listeners[0].Addr().String(), listeners[2].Addr().String()}
	s.config.Portal.Hosts, s.config.PortalAuth.Hosts = []string{site.plain, "plain.test"}, []string{site.auth, "auth.test"}
	s.config.Policy.SessionIdle = duration{15 * time.Minute}
	pages, err := s.portal()
	catest.Must(t, err)
	for n, server := range map[int]*http.Server{0: httpServer(pages.Handler(), serverTLS(s.leaves[0]), s.log), 2: httpServer(pages.AuthHandler(), s.askingTLS(), s.log)} {
		go func() { _ = server.ServeTLS(listeners[n], "", "") }()
		t.Cleanup(func() { _ = server.Close() })
	}
	return site
}

// visitor is a browser on a protocol that answers the server's wish for a certificate.
type visitor struct {
	*http.Client
	TLS     *tls.Config // of its connections
	tickets *tickets
	asked   int  // how often the server wished for a certificate
	reused  bool // the last request went over a connection that was there
}

func newVisitor(t *testing.T, proto string, version uint16, choose func(asked int) *tls.Certificate) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	catest.Must(t, err)
	v := &visitor{tickets: &tickets{}}
	v.TLS = &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{proto}, ClientSessionCache: v.tickets, MinVersion: version, MaxVersion: version, //nolint:gosec // the test's own server
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			v.asked++
			chosen := choose(v.asked)
			if chosen == nil {
				chosen = &tls.Certificate{}
			}
			return chosen, nil
		}}
	v.Client = testkit.HTTP(t, v.TLS, proto == "h2")
	v.Jar = jar
	v.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return v
}

// with always presents one certificate.
func with(pair *tls.Certificate) func(int) *tls.Certificate {
	return func(int) *tls.Certificate { return pair }
}

type answered struct {
	*http.Response
	page, screen string
}

func (v *visitor) do(t *testing.T, method, url string, form url.Values) answered {
	t.Helper()
	a, err := v.try(t.Context(), method, url, form)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

func (v *visitor) try(ctx context.Context, method, url string, form url.Values) (answered, error) {
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { v.reused = i.Reused }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), method, url, strings.NewReader(form.Encode()))
	if err != nil {
		return answered{}, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.Do(r)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answered{Response: resp, page: string(body), screen: portaltest.Screen(string(body))}, err
}

// eachProto are the ways in which a browser of today, and of yesterday, connects.
func eachProto(t *testing.T, test func(t *testing.T, proto string, version uint16)) {
	for _, proto := range []string{"http/1.1", "h2"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(proto+" "+tls.VersionName(version), func(t *testing.T) { test(t, proto, version) })
		}
	}
}

// TestThreatRS1: each request is judged now, not the handshake: after the revocation the
// same connection and a saved session open nothing.
func TestThreatRS1(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true, Grace: 30})
	var holders []catest.Held
	for n := range 4 {
		holders = append(holders, o.Holding(catest.Application(n)))
	}
	o.DaysBefore(holders[0], 60)
	s := openAuthSite(t, o)
	eachProto(t, func(t *testing.T, proto string, version uint16) {
		h := holders[0]
		holders = holders[1:]
		v := newVisitor(t, proto, version, with(&h.Pair))
		v.do(t, "GET", "https://"+s.auth+"/p/ru", nil)
		apply := v.do(t, "GET", "https://"+s.auth+"/p/ru/apply", nil)
		seal := portaltest.Seal(apply.page)
		if apply.StatusCode != 200 || seal == "" || !v.reused {
			t.Fatalf("apply: %d %s, the same connection: %t", apply.StatusCode, apply.screen, v.reused)
		}
		before := o.Count("request WHERE kind = 'renewal'")
		_, err := o.RA.Revoke(t.Context(), catest.Officer, h.Serial, pki.KeyCompromise, "stolen")
		catest.Must(t, err)
		o.Advance(time.Second)
		for _, connection := range []string{"the same", "another"} {
			got := v.do(t, "POST", "https://"+s.auth+"/p/ru/apply", url.Values{"form": {seal}, "action": {"submit"}})
			home := v.do(t, "GET", "https://"+s.auth+"/p/ru", nil)
			if got.StatusCode != 410 || got.screen != "RU-1R" || home.screen != "RU-1R" {
				t.Errorf("%s connection: %d %s, home %s", connection, got.StatusCode, got.screen, home.screen)
			}
			if v.reused != true {
				t.Errorf("%s connection was not kept: the test is blind", connection)
			}
			v.CloseIdleConnections()
		}
		if n := o.Count("request WHERE kind = 'renewal'"); n != before {
			t.Error("a revoked certificate renewed")
		}
		if v.tickets.put != 0 {
			t.Errorf("%d sessions were given out", v.tickets.put)
		}
	})
}

// TestThreatRS2: who cancelled the picker is asked again at the next page: nothing keeps
// the connection without a certificate.
func TestThreatRS2(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	h := o.Holding(catest.Application(1))
	s := openAuthSite(t, o)
	eachProto(t, func(t *testing.T, proto string, version uint16) {
		v := newVisitor(t, proto, version, func(asked int) *tls.Certificate {
			if asked == 1 {
				return nil // 「キャンセル」
			}
			return &h.Pair
		})
		first := v.do(t, "GET", "https://"+s.auth+"/p/check", nil)
		again := regexp.MustCompile(`href="(https://[^"]*/p/check)"`).FindStringSubmatch(first.page)
		if first.StatusCode != 200 || !strings.Contains(first.page, "電子証明書が届きませんでした") || again == nil || again[1] != "https://auth.test/p/check" {
			t.Fatalf("cancelled: %d, ask again at %v", first.StatusCode, again)
		}
		second := v.do(t, "GET", "https://"+s.auth+"/p/check", nil)
		if v.asked != 2 || v.reused || !strings.Contains(second.page, "使える電子証明書です") {
			t.Errorf("asked %d times, on the same connection: %t", v.asked, v.reused)
		}
		if v.tickets.put != 0 {
			t.Errorf("%d sessions were given out", v.tickets.put)
		}
	})
}

// TestThreatRS7Pages: whatever a browser presents, it gets a page that says what it is,
// never an alert of TLS and never an internal error; our CA's signature outside the
// register is an alarm.
func TestThreatRS7Pages(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true, Grace: 30})
	good, expired, revoked, suspended := o.Holding(catest.Application(1)), o.Holding(catest.Application(2)), o.Holding(catest.Application(3)), o.Holding(catest.Application(4))
	own := testkit.Key(t)
	ours, err := o.CA.IssueOwn(t.Context(), issuance.ProfileAPIClient, "API client vendor", own.Public(), nil, nil)
	catest.Must(t, err)
	o.DaysBefore(good, 60)
	renewed, err := o.RA.Renew(t.Context(), catest.Wish(good))
	catest.Must(t, err)
	fresh := o.Fetch(good, renewed.ID)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, revoked.Serial, pki.KeyCompromise, "")
	catest.Must(t, err)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, suspended.Serial, pki.CertificateHold, "")
	catest.Must(t, err)
	o.Set(expired.Pair.Leaf.NotAfter.Add(time.Hour))
	s := openAuthSite(t, o)
	type shown struct{ verdict, screen string }
	pairs := map[string]tls.Certificate{"none": {}, "renewed": fresh.Pair, "expired": expired.Pair, "revoked": revoked.Pair, "suspended": suspended.Pair,
		"an API client's": {Certificate: [][]byte{ours.Raw}, PrivateKey: own}}
	wants := map[string]shown{"none": {"電子証明書が届きませんでした", "RU-1N"}, "renewed": {"使える電子証明書です", "RU-1"}, "expired": {"期限の切れた", "RU-1"},
		"revoked": {"失効した電子証明書です", "RU-1R"}, "suspended": {"一時停止", "RU-1S"}, "an API client's": {"端末用ではない", "RU-1O"}}
	for name, pair := range o.Strangers(good) {
		pairs[name], wants[name] = pair, shown{"ほかの認証局の証明書です", "RU-1O"}
		if strings.HasPrefix(name, "stolen key") {
			wants[name] = shown{"登録のない電子証明書です", "RU-1O"}
		}
	}
	for name, pair := range pairs {
		eachProto(t, func(t *testing.T, proto string, version uint16) {
			const alarm = "alarm: certificate outside the register"
			before := strings.Count(o.Log.String(), alarm)
			v := newVisitor(t, proto, version, with(&pair))
			check, home := v.do(t, "GET", "https://"+s.auth+"/p/check", nil), v.do(t, "GET", "https://"+s.auth+"/p/ru", nil)
			if check.StatusCode != 200 || check.screen != "CHK-1" || !strings.Contains(check.page, wants[name].verdict) {
				t.Errorf("%s: /p/check %d %s", name, check.StatusCode, check.screen)
			}
			if home.StatusCode >= 500 || home.screen != wants[name].screen {
				t.Errorf("%s: /p/ru %d %s, want %s", name, home.StatusCode, home.screen, wants[name].screen)
			}
			if after := strings.Count(o.Log.String(), alarm); (after > before) != strings.HasPrefix(name, "stolen key") {
				t.Errorf("%s: %d alarms", name, after-before)
			}
		})
	}
}

// What Go cannot parse as a certificate ends the handshake, before anything of ours is
// asked: docs/ARCHITECTURE.md says so. When this fails, Go has a door, and a page can be
// shown here, too.
func TestUnreadableCertificateIsAnAlert(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	held := o.Holding(catest.Application(1))
	s := openAuthSite(t, o)
	pair := held.Pair
	pair.Certificate = [][]byte{held.Pair.Leaf.Raw[:len(held.Pair.Leaf.Raw)-1]}
	eachProto(t, func(t *testing.T, proto string, version uint16) {
		get := func(site string, present *tls.Certificate) error {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+site+"/p/help", nil)
			catest.Must(t, err)
			resp, err := newVisitor(t, proto, version, with(present)).Do(r)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		}
		// The alert is read, and nothing is written: in TLS 1.3 the client has ended its handshake
		// when the server looks at the certificate, and a request could meet a connection that is
		// closed already.
		conn, err := net.Dial("tcp", s.auth)
		catest.Must(t, err)
		defer conn.Close()
		_, err = tls.Client(conn, newVisitor(t, proto, version, with(&pair)).TLS).Read(make([]byte, 1))
		if err == nil || !strings.Contains(err.Error(), "error decoding message") {
			t.Errorf("unreadable: %v", err)
		}
		catest.Must(t, get(s.auth, &tls.Certificate{})) // who presents none, and who goes where none is asked for
		catest.Must(t, get(s.plain, &pair))
	})
}

// TestThreatRS3Auth: the zone that asks for a certificate and the one that does not are
// told apart by listener, SNI and Host together, on HTTP/1.1 and 2.
func TestThreatRS3Auth(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	s := openAuthSite(t, o)
	const served = 200
	for _, tt := range []struct {
		address, sni, host string
		want               int
	}{
		{s.auth, "auth.test", "auth.test", served}, {s.auth, "", s.auth, served}, {s.plain, "plain.test", "plain.test", served}, {s.plain, "", s.plain, served},
		{s.auth, "plain.test", "plain.test", 421}, {s.auth, "plain.test", "auth.test", 421}, {s.auth, "auth.test", "plain.test", 421},
		{s.auth, "auth.test", s.auth, 421}, {s.auth, "", s.plain, 421}, {s.auth, "", "auth.test", 421}, {s.auth, "auth.test", "auth.test.", 421},
		{s.plain, "auth.test", "auth.test", 421}, {s.plain, "plain.test", "auth.test", 421}, {s.plain, "auth.test", "plain.test", 421}, {s.plain, "", s.auth, 421},
	} {
		for _, proto := range []string{"http/1.1", "h2"} {
			path := "/p/check"
			if tt.address == s.plain {
				path = "/p/rcd"
			}
			got := hostTrip(t, tt.address, tt.sni, tt.host, proto, path)
			if got != tt.want {
				t.Errorf("%s, SNI %q, Host %q, %s: %d, want %d", tt.address, tt.sni, tt.host, proto, got, tt.want)
			}
		}
	}
}

func hostTrip(t *testing.T, address, sni, host, proto, path string) int {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: sni, NextProtos: []string{proto}} //nolint:gosec // the test's own server
	transport := &http.Transport{ForceAttemptHTTP2: proto == "h2", DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("https://%s%s", address, path), nil)
	catest.Must(t, err)
	r.Host = host
	resp, err := transport.RoundTrip(r)
	catest.Must(t, err)
	_ = resp.Body.Close()
	return resp.StatusCode
}
