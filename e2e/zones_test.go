package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"inkan/internal/testkit"

	"software.sslmate.com/src/go-pkcs12"
)

// The two names of a site, as a browser sees them at one address.
const (
	plainName = "portal.example.jp"
	authName  = "cert.example.jp"
)

// switchboard is one address and port in front of several listeners: it reads the name
// in a ClientHello and passes the connection on as it is, as a balancer in front of
// zones does. It counts connections by name.
type switchboard struct {
	port int

	mu    sync.Mutex
	to    map[string]string // name → address
	calls map[string]int
}

func newSwitchboard(t *testing.T) *switchboard {
	t.Helper()
	l := testkit.Listen(t)
	b := &switchboard{port: l.Addr().(*net.TCPAddr).Port, to: map[string]string{}, calls: map[string]int{}}
	go testkit.Accept(l, b.connect)
	return b
}

// lead passes connections for a name on to an address.
func (b *switchboard) lead(name, to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to[name] = to
}

// counted gives the connections so far.
func (b *switchboard) counted() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.calls)
}

func (b *switchboard) host(name string) string { return fmt.Sprintf("%s:%d", name, b.port) }

func (b *switchboard) connect(conn net.Conn) {
	defer conn.Close()
	var hello bytes.Buffer
	name := nameIn(reading{conn, io.TeeReader(conn, &hello)})
	b.mu.Lock()
	b.calls[name]++
	to := b.to[name]
	b.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(conn, server)
		_ = conn.Close()
	}()
	_, err = server.Write(hello.Bytes())
	if err == nil {
		_, _ = io.Copy(server, conn)
	}
}

// nameIn reads a ClientHello and gives the name in it.
func nameIn(conn net.Conn) string {
	name, stop := "", errors.New("read enough")
	_ = tls.Server(conn, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, stop
	}}).Handshake()
	return name
}

// reading is a connection that is read from and answers nothing.
type reading struct {
	net.Conn
	io.Reader
}

func (r reading) Read(p []byte) (int, error) { return r.Reader.Read(p) }
func (reading) Write(p []byte) (int, error)  { return len(p), nil }

// TestThreatRS4: two zones with a name each at one address and one port. A browser goes
// from /p/ to /p/ru and back and forth, over HTTP/2: each zone has connections of its own,
// the certificate is asked for and used, nothing is answered with 421.
// TestThreatRS4SharedCertificate shows that this browser would share a connection.
func TestThreatRS4(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	testkit.Tool(t, "chromium", "certutil", "node", "unshare")
	bin, err := buildOnce()
	testkit.Must(t, err)
	board := newSwitchboard(t)
	l := NewLive(t, bin, LiveOptions{CAKey: "p-256", Portal: board.host(plainName), PortalAuth: board.host(authName)})
	board.lead(plainName, fmt.Sprintf("127.0.0.1:%d", l.PortBase+443))
	board.lead(authName, fmt.Sprintf("127.0.0.1:%d", l.PortBase+444))
	l.run(t, "check-config")
	l.Serve(t)
	plain, auth := "https://"+board.host(plainName), "https://"+board.host(authName)

	b := NewBrowser(t, filepath.Join(l.Dir, "ca", "tls.pem"))
	b.Own(t, l.holderFile(t, "0000"), "0000")
	b.Choose(t, auth)
	walk := b.zones(t, [][]string{{"goto", plain + "/p/"}, {"goto", auth + "/p/ru"}, {"back"}, {"forward"}, {"reload"},
		{"goto", plain + "/p/rx"}, {"click", auth + "/p/rx"}, {"click", plain + "/p/rx"}, {"back"}, {"back"}, {"forward"},
		{"goto", auth + "/p/check"}, {"goto", plain + "/p/"}, {"goto", auth + "/p/ru"}})
	for _, a := range walk.Answers {
		if a.Status != http.StatusOK && a.Status != http.StatusSeeOther && a.Status != http.StatusNotModified {
			t.Errorf("%s answers %d", a.URL, a.Status)
		}
	}
	asked := 0
	for _, page := range walk.Seen {
		t.Logf("%s: %s, %s %q", page.What, page.URL, page.Protocol, page.Heading)
		if page.Protocol != "h2" && page.Protocol != "" { // "": from the browser's memory of the page
			t.Errorf("%s: over %q", page.What, page.Protocol)
		}
		mine := strings.Contains(page.Text, "振分1号機")
		if mine != strings.HasPrefix(page.URL, auth) {
			t.Errorf("%s: the page at %s shows the presented certificate: %t", page.What, page.URL, mine)
		}
		if mine {
			asked++
		}
	}
	calls := board.counted()
	if asked < 6 || calls[plainName] == 0 || calls[authName] == 0 || len(calls) != 2 {
		t.Errorf("%d pages with the certificate, connections %v", asked, calls)
	}
	log, err := os.ReadFile(l.log)
	if err != nil || bytes.Contains(log, []byte(`"code":"http.zone"`)) {
		t.Errorf("a request came to another zone's listener: %v\n%s", err, tail(l.log, 2000))
	}
	l.Stop(t)
}

// TestThreatRS4SharedCertificate: the same browser at the same kind of address, where one
// certificate has both names, sends the one name's request on the other's connection.
func TestThreatRS4SharedCertificate(t *testing.T) {
	testkit.Long(t, "starts a browser")
	root, rootKey := authority(t, "E2E Server Root")
	leaf := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "both"}, DNSNames: []string{plainName, authName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}, root, rootKey)
	board := newSwitchboard(t)
	var mu sync.Mutex
	strays := 0
	for _, name := range []string{plainName, authName} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.TLS.ServerName+fmt.Sprintf(":%d", board.port) != r.Host {
				strays++
			}
			_, _ = io.WriteString(w, "<!doctype html><title>page</title><h1>page</h1>")
		}))
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
		server.StartTLS()
		t.Cleanup(server.Close)
		board.lead(name, server.Listener.Addr().String())
	}
	b := NewBrowser(t, testkit.WriteFile(t, t.TempDir(), "root.pem", testkit.CertificateText(root)))
	b.zones(t, [][]string{{"goto", "https://" + board.host(plainName) + "/p/"}, {"goto", "https://" + board.host(authName) + "/p/ru"}})
	mu.Lock()
	defer mu.Unlock()
	if strays == 0 { // it may open a connection for the second name, too, and not use it
		t.Errorf("this browser shares no connection (%v): the test of the zones is blind", board.counted())
	}
}

type zoneWalk struct {
	Seen    []struct{ What, URL, Heading, Protocol, Text string }
	Answers []struct {
		URL    string
		Status int
	}
}

func (b *Browser) zones(t *testing.T, steps [][]string) zoneWalk {
	t.Helper()
	var walk zoneWalk
	b.Run(t, "zones.mjs", map[string]any{"names": []string{plainName, authName}, "steps": steps}, &walk)
	return walk
}

// holderFile orders a holder's certificate from the API and writes it with its key as a
// PKCS#12 file.
func (l *Live) holderFile(t *testing.T, password string) string {
	t.Helper()
	key := testkit.Key(t)
	client := testkit.HTTP(t, l.clientTLS(t), false)
	status, body := post(t, client, fmt.Sprintf("https://127.0.0.1:%d", l.PortBase+446), map[string]string{
		"holderKind": "medical", "holderCode": "0110119153", "terminalName": "振分1号機", "csr": testkit.CSRText(t, key), "idempotencyKey": "zones"})
	var answer issued
	err := json.Unmarshal(body, &answer)
	if status != http.StatusCreated || err != nil {
		t.Fatalf("%d %v %s", status, err, body)
	}
	cert := testkit.Certificate(t, testkit.DecodePEM(t, []byte(answer.Certificate)))
	file, err := pkcs12.Modern2023.Encode(key, cert, nil, password)
	if err != nil {
		t.Fatal(err)
	}
	return testkit.WriteFile(t, t.TempDir(), "holder.p12", file)
}
