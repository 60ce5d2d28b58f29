package app

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/testkit"
)

// openZone serves a TLS configuration at a loopback port until the test ends.
func openZone(t *testing.T, config *tls.Config) string {
	t.Helper()
	l := testkit.Listen(t)
	s := httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "resumed=%t", r.TLS.DidResume)
	}), config, testkit.Quiet)
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// selfSigned makes a certificate for both sides of a connection.
func selfSigned(t *testing.T, key *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	return testkit.SelfSigned(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, key)
}

// zones are a portal and an api zone with the product's own TLS, and what a client needs.
type zones struct {
	portal, api string
	own         tls.Certificate // of a client of the api zone
}

func newZones(t *testing.T) zones {
	t.Helper()
	pair := func() tls.Certificate {
		key := testkit.Key(t)
		return selfSigned(t, key)
	}
	z := zones{own: pair()}
	s := &server{instance: newInstance("", Config{}, testkit.Quiet)}
	s.cas = map[string]*x509.Certificate{issuance.Operations: z.own.Leaf}
	for _, name := range []string{"portal", "api"} {
		l, serving := &leaf{zone: name}, pair()
		l.current.Store(&serving)
		s.leaves = append(s.leaves, l)
	}
	z.portal, z.api = openZone(t, serverTLS(s.leaves[0])), openZone(t, s.apiTLS())
	return z
}

// TestThreatRS5: no session is ever resumed, in its own zone or another, by either
// version: every connection is judged by its own handshake.
func TestThreatRS5(t *testing.T) {
	z := newZones(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, from := range []string{z.portal, z.api} {
			for _, to := range []string{z.portal, z.api} {
				cache := &tickets{}
				client := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ClientSessionCache: cache,
					ServerName: "one.test", Certificates: []tls.Certificate{z.own}}
				for _, at := range []string{from, from, to, to} {
					conn, err := tls.Dial("tcp", at, client)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
					answer, err := io.ReadAll(conn) // a ticket of TLS 1.3 comes with the answer
					if err != nil || !strings.Contains(string(answer), "resumed=false") || conn.ConnectionState().DidResume {
						t.Errorf("%x, %s to %s: %q, %v", version, from, at, answer, err)
					}
					_ = conn.Close()
				}
				if cache.put != 0 {
					t.Errorf("%x: %d tickets were given out", version, cache.put)
				}
			}
		}
	}
	// The test would see a session that is resumed.
	open := openZone(t, &tls.Config{Certificates: []tls.Certificate{z.own}})
	client := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "one.test"}
	resumed := false
	for range 2 {
		conn, err := tls.Dial("tcp", open, client)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		_, _ = io.ReadAll(conn)
		resumed = conn.ConnectionState().DidResume
		_ = conn.Close()
	}
	if !resumed {
		t.Error("a careless server resumes nothing: the test is blind")
	}
}

// tickets counts the sessions that a server offers to resume; it offers the last one back.
type tickets struct {
	put  int
	last *tls.ClientSessionState
}

func (c *tickets) Get(string) (*tls.ClientSessionState, bool) { return c.last, c.last != nil }

func (c *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.put++
	}
	c.last = s
}

// TestThreatRS6 offers one old way after another, and the same to a careless server that
// takes it.
func TestThreatRS6(t *testing.T) {
	z := newZones(t)
	key := testkit.Key(t)
	everything := []uint16{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		everything = append(everything, s.ID)
	}
	careless := openZone(t, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, key)}, MinVersion: tls.VersionTLS10, CipherSuites: everything})
	dial := func(at string, version uint16, suites ...uint16) error {
		conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version, CipherSuites: suites,
			Certificates: []tls.Certificate{z.own}})
		if err == nil {
			err = conn.Handshake()
			_ = conn.Close()
		}
		return err
	}
	for _, at := range []string{z.portal, z.api} {
		for _, old := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
			if dial(at, old, everything...) == nil {
				t.Errorf("%s speaks %s", at, tls.VersionName(old))
			}
		}
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			aead := strings.Contains(s.Name, "_GCM_") || strings.Contains(s.Name, "_CHACHA20_")
			good := strings.HasPrefix(s.Name, "TLS_ECDHE_ECDSA_") && aead
			if strings.HasPrefix(s.Name, "TLS_AES_") || strings.HasPrefix(s.Name, "TLS_CHACHA20_") {
				continue // of TLS 1.3, which has no others
			}
			if err := dial(at, tls.VersionTLS12, s.ID); (err == nil) != good {
				t.Errorf("%s, %s: %v", at, s.Name, err)
			}
		}
		if err := dial(at, tls.VersionTLS13); err != nil {
			t.Errorf("%s, TLS 1.3: %v", at, err)
		}
	}
	for version, suite := range map[uint16]uint16{tls.VersionTLS10: tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.VersionTLS11: tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.VersionTLS12: tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256} {
		if err := dial(careless, version, suite); err != nil {
			t.Errorf("a careless server refuses, too: the test is blind: %v", err)
		}
	}
}

// TestThreatRS6OpenSSL has openssl ask what Go's client cannot: renegotiation and early
// data.
func TestThreatRS6OpenSSL(t *testing.T) {
	testkit.Tool(t, "openssl")
	at := newZones(t).portal
	client := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", at}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	says := func(name, out string, want bool, words ...string) {
		t.Helper()
		for _, w := range words {
			if strings.Contains(out, w) != want {
				t.Errorf("%s: %q is there: %t\n%s", name, w, !want, out)
			}
		}
	}
	request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	twelve := client(request, "-tls1_2", "-ign_eof")
	says("TLS 1.2", twelve, true, "Extended master secret: yes", "resumed=false")
	says("TLS 1.2", twelve, false, "TLS session ticket:")
	says("renegotiation", client("R\n", "-tls1_2"), true, "RENEGOTIATING", "SSL alert number") // and no second handshake
	for _, old := range []string{"-tls1", "-tls1_1"} {
		says(old, client("", old, "-cipher", "ALL:@SECLEVEL=0"), true, "alert protocol version")
	}
	for _, cipher := range []string{"AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "DHE-RSA-AES128-GCM-SHA256"} {
		out := client("", "-tls1_2", "-cipher", cipher+":@SECLEVEL=0")
		if !strings.Contains(out, "alert handshake failure") {
			t.Errorf("%s: %s", cipher, out)
		}
	}
	session := filepath.Join(t.TempDir(), "session")
	thirteen := client(request, "-tls1_3", "-ign_eof", "-sess_out", session)
	says("TLS 1.3", thirteen, true, "resumed=false")
	says("TLS 1.3", thirteen, false, "Post-Handshake New Session Ticket", "Max Early Data: 1")
	_, err := os.Stat(session)
	if err == nil { // without a ticket there is nothing to send early data with
		early := testkit.WriteFile(t, t.TempDir(), "early", []byte(request))
		says("early data", client("", "-tls1_3", "-sess_in", session, "-early_data", early), false, "Early data was accepted")
	}
}

// TestThreatDL3ProxyHeader: who claims to be a proxy is not believed: the connection ends
// without an answer.
func TestThreatDL3ProxyHeader(t *testing.T) {
	z := newZones(t)
	second := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x01\xcb\x00\x71\x01\x30\x39\x01\xbb"
	for name, header := range map[string]string{"version 1": "PROXY TCP4 198.51.100.1 203.0.113.1 12345 443\r\n", "version 2": second} {
		conn, err := net.Dial("tcp", z.portal)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write([]byte(header))
		if err != nil {
			t.Fatal(err)
		}
		client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		err = client.Handshake()
		if err == nil {
			t.Errorf("%s: served behind a claimed address", name)
		}
		_ = conn.Close()
	}
}
