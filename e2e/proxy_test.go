package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// TestThreatDL3TrustedProxy: behind a trusted balancer each public zone has the source
// that the PROXY header names, and none that a header of a request does; a balancer that
// sends no header, and anybody else who sends one, is not served.
func TestThreatDL3TrustedProxy(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	bin, err := buildOnce()
	testkit.Must(t, err)
	l := NewLive(t, bin, LiveOptions{CAKey: "p-256", Config: "[limits]\ntrusted_proxies = [\"127.0.0.2/32\"]\n"})
	l.run(t, "check-config")
	l.Serve(t)
	header := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string([]byte{198, 51, 100, 7, 203, 0, 113, 1, 0x30, 0x39, 1, 0xbb})
	for _, zone := range []struct {
		name, path string
		offset     int
		tls        *tls.Config // nil: plain
	}{
		{"portal", "/p/rcd", 443, l.clientTLS(t)},
		{"portal_auth", "/p/ru", 444, l.clientTLS(t)},
		{"api", "/api/v1/nothing", 446, l.clientTLS(t)},
		{"status", "/crl/g1.crl", 80, nil},
	} {
		for _, row := range []struct {
			name, from, say string
			served          bool
		}{
			{"trusted", "127.0.0.2", header, true},
			{"trusted, without the header", "127.0.0.2", "", false},
			{"untrusted", "127.0.0.3", "", true},
			{"untrusted, with the header", "127.0.0.3", header, false},
		} {
			t.Run(zone.name+" "+row.name, func(t *testing.T) {
				host := fmt.Sprintf("127.0.0.1:%d", l.PortBase+zone.offset)
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(row.from)}, Timeout: time.Minute}
				conn, err := dialer.Dial("tcp", host)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, err = conn.Write([]byte(row.say))
				if err != nil {
					t.Fatal(err)
				}
				if zone.tls != nil {
					own := zone.tls.Clone()
					own.ServerName = "127.0.0.1"
					conn = tls.Client(conn, own)
				}
				_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\n\r\n", zone.path, host)
				text, _ := io.ReadAll(conn) // an error where we are refused
				answered := strings.HasPrefix(string(text), "HTTP/1.1 ") && !strings.HasPrefix(string(text), "HTTP/1.1 400")
				if answered != row.served {
					t.Errorf("%.200q", text)
				}
			})
		}
	}
	resp, err := http.Get(l.URL(90) + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	l.Stop(t)

	log := string(testkit.ReadFile(t, l.log))
	if strings.Contains(log, "192.0.2.9") {
		t.Error("a header of a request was believed")
	}
	for _, zone := range []string{"portal", "api"} { // of status nothing is logged
		for source, want := range map[string]int{"198.51.100.7": 1, "127.0.0.3": 1, "127.0.0.2": 0} {
			got := 0
			for line := range strings.Lines(log) {
				if strings.Contains(line, `"msg":"access"`) && strings.Contains(line, `"zone":"`+zone+`"`) && strings.Contains(line, `"source":"`+source+`"`) {
					got++
				}
			}
			if got != want {
				t.Errorf("%s: %d requests from %s in the log, want %d", zone, got, source, want)
			}
		}
	}
}
