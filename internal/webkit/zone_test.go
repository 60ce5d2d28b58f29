package webkit_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inkan/internal/webkit"
)

// TestZones is the matrix of threat RS3: only where SNI and Host name the same zone is
// anything served, on HTTP/1.1 and on HTTP/2.
func TestThreatRS3Zones(t *testing.T) {
	log, _ := logged()
	rep := webkit.NewReporter(log, nil)
	mux := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	var server *httptest.Server
	zone := &webkit.Zone{Name: "portal"}
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		webkit.Stack{Zone: *zone, Report: rep}.Wrap(mux).ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	address := server.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	zone.Hosts = []string{"a.test", "alias.test:" + port, address}

	const served = 204
	tests := []struct {
		sni, host string
		want      int
	}{
		{"a.test", "a.test", served},
		{"a.test", "alias.test:" + port, served}, // two names of one zone
		{"alias.test", "a.test", served},
		{"", address, served}, // an address is never sent as SNI
		{"a.test", "b.test", 421},
		{"b.test", "a.test", 421},
		{"b.test", "b.test", 421},
		{"a.test", address, 421},
		{"", "a.test", 421},
		{"a.test", "a.test.", 421},
		{"a.test", "A.test", 421},
		{"a.test", "a.test:" + port, 421}, // the list is exact
		{"a.test", "alias.test", 421},
		{"a.test", "a.test:443", 421},
		{"a.test", "a.test@b.test", 421},
		{"a.test", "127.0.0.1", 421},
	}
	for _, tt := range tests {
		for _, proto := range []string{"http/1.1", "h2"} {
			if proto == "http/1.1" || !strings.Contains(tt.host, "@") { // Go's h2 client refuses to send it
				status := roundTrip(t, address, tt.sni, tt.host, proto)
				if status != tt.want && (status != 400 || tt.want == served) { // net/http may refuse first
					t.Errorf("%s SNI %q Host %q: status %d, want %d", proto, tt.sni, tt.host, status, tt.want)
				}
			}
		}
	}

	raw := []struct {
		name, text string
		want       int
	}{
		{"absolute form of the zone", "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400},
		{"absolute form of another", "GET https://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400},
		{"no Host", "GET / HTTP/1.0\r\n\r\n", 400},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400},
		{"length and chunks", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"chunks", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"two lengths", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\nx", 400},
		{"authority form", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 200}, // answered by net/http itself, without us
		{"plain", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", served},
	}
	for _, tt := range raw {
		status := rawTrip(t, address, tt.text)
		if status != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, status, tt.want)
		}
	}
}

func roundTrip(t *testing.T, address, sni, host, proto string) int {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: sni, NextProtos: []string{proto}} //nolint:gosec // the test's own server
	transport := &http.Transport{
		ForceAttemptHTTP2: proto == "h2", DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest("GET", "https://placeholder.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s/%s: %v", proto, sni, host, err)
	}
	defer resp.Body.Close()
	if proto == "h2" && resp.ProtoMajor != 2 {
		t.Fatalf("asked for h2, got %s", resp.Proto)
	}
	return resp.StatusCode
}

func rawTrip(t *testing.T, address, text string) int {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", NextProtos: []string{"http/1.1"}}) //nolint:gosec // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprint(conn, text)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read answer to %q: %v", text, err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
