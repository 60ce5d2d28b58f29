package webkit

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// header writes a header of version 2.
func header(command, family byte, rest ...byte) string {
	return string(proxySignature) + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + string(rest)
}

var (
	fromFour = []byte{198, 51, 100, 7, 203, 0, 113, 1, 0x30, 0x39, 1, 0xbb}
	fromSix  = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x30, 0x39, 1, 0xbb)
	mapped   = append(append(netip.MustParseAddr("::ffff:198.51.100.7").AsSlice(), netip.MustParseAddr("::ffff:203.0.113.1").AsSlice()...), 0x30, 0x39, 1, 0xbb)
)

func TestReadProxyHeader(t *testing.T) {
	for name, row := range map[string]struct {
		sent, want string // want "": refused
	}{
		"IPv4":               {header(0x21, 0x11, fromFour...), "198.51.100.7:12345"},
		"IPv6":               {header(0x21, 0x21, fromSix...), "[2001:db8::7]:12345"},
		"IPv4 in IPv6":       {header(0x21, 0x21, mapped...), "198.51.100.7:12345"},
		"with more about it": {header(0x21, 0x11, append(fromFour[:12:12], 4, 0, 2, 'x', 'y')...), "198.51.100.7:12345"},
		"its own":            {header(0x20, 0x00), "invalid AddrPort"},
		"its own, addressed": {header(0x20, 0x11, fromFour...), "invalid AddrPort"},
		"no family":          {header(0x21, 0x00), ""},
		"UDP":                {header(0x21, 0x12, fromFour...), ""},
		"unix socket":        {header(0x21, 0x31, make([]byte, 216)...), ""},
		"too short for IPv4": {header(0x21, 0x11, fromFour[:11]...), ""},
		"too short for IPv6": {header(0x21, 0x21, fromFour...), ""},
		"other command":      {header(0x22, 0x11, fromFour...), ""},
		"other version":      {header(0x11, 0x11, fromFour...), ""},
		"too long":           {header(0x21, 0x11, make([]byte, proxyMaxLength+1)...), ""},
		"cut off":            {header(0x21, 0x11, fromFour...)[:20], ""},
		"version 1":          {"PROXY TCP4 198.51.100.7 203.0.113.1 12345 443\r\n", ""},
		"a request":          {"GET / HTTP/1.1\r\nHost: example.jp\r\n\r\n", ""},
		"nothing":            {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := bytes.NewBufferString(row.sent + "next")
			if row.want == "" {
				r = bytes.NewBufferString(row.sent)
			}
			source, err := readProxyHeader(r)
			if (err != nil) != (row.want == "") || err == nil && (source.String() != row.want || r.String() != "next") {
				t.Errorf("%s, %v, %q is left; want %q", source, err, r, row.want)
			}
		})
	}
}

// FuzzReadProxyHeader: whatever a proxy sends, not an octet behind its header is taken,
// and there is a source or a refusal.
func FuzzReadProxyHeader(f *testing.F) {
	f.Add([]byte(header(0x21, 0x11, fromFour...) + "\x16\x03\x01"))
	f.Add([]byte(header(0x21, 0x21, fromSix...)))
	f.Add([]byte(header(0x20, 0)))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 2*proxyMaxLength {
			return
		}
		r := bytes.NewReader(sent)
		source, err := readProxyHeader(r)
		if err != nil {
			if source.IsValid() {
				t.Errorf("%s and %v", source, err)
			}
			return
		}
		taken := len(sent) - r.Len()
		if want := proxyFixed + int(sent[14])<<8 + int(sent[15]); taken != want {
			t.Errorf("%d octets taken, the header has %d", taken, want)
		}
		if source.IsValid() && source.Addr().Is4In6() {
			t.Errorf("%s", source)
		}
	})
}

// TestThreatDL3Proxies: the source is the one that a trusted proxy names, for handlers and
// for the bound of connections; nobody else can name one, and neither can a header of a
// request. A trusted proxy that says nothing, or something else, is not served, and keeps
// nobody waiting.
func TestThreatDL3Proxies(t *testing.T) {
	inner := testkit.Listen(t)
	const most = 3
	trusted := Proxies{netip.MustParsePrefix("127.0.0.2/32")}
	server := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, Source(r))
	})}
	go func() { _ = server.Serve(PerSource{Most: most}.Limit(trusted.Listen(inner))) }()
	defer server.Close()
	const ask = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\n\r\n"
	dial := func(source, say string) net.Conn {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: time.Minute}
		conn, err := dialer.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, err = conn.Write([]byte(say))
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	mute := dial("127.0.0.2", "")
	for name, row := range map[string]struct{ from, say, want string }{
		"trusted":            {"127.0.0.2", header(0x21, 0x11, fromFour...) + ask, "198.51.100.7"},
		"trusted, IPv6":      {"127.0.0.2", header(0x21, 0x21, fromSix...) + ask, "2001:db8::7"},
		"its own":            {"127.0.0.2", header(0x20, 0) + ask, "127.0.0.2"},
		"without a header":   {"127.0.0.2", ask, ""},
		"version 1":          {"127.0.0.2", "PROXY TCP4 198.51.100.7 203.0.113.1 12345 443\r\n" + ask, ""},
		"untrusted":          {"127.0.0.3", ask, "127.0.0.3"},
		"untrusted claiming": {"127.0.0.3", header(0x21, 0x11, fromFour...) + ask, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text, _ := io.ReadAll(dial(row.from, row.say)) // reset where we are refused
			served := bytes.HasPrefix(text, []byte("HTTP/1.1 200"))
			if served != (row.want != "") || served && !bytes.HasSuffix(text, []byte("\r\n\r\n"+row.want)) {
				t.Errorf("answer %q, want source %q", text, row.want)
			}
		})
	}
	for range most { // they say nothing more, and are counted
		dial("127.0.0.2", header(0x21, 0x11, fromFour...))
	}
	for n, what := range map[int]string{0: "the full source", 1: "another source"} {
		full := [12]byte(fromFour)
		full[3] += byte(n)
		served := func() bool {
			text, _ := io.ReadAll(dial("127.0.0.2", header(0x21, 0x11, full[:]...)+ask))
			return bytes.HasPrefix(text, []byte("HTTP/1.1 200"))
		}
		want := n == 1
		testkit.Await(t, fmt.Sprintf("%s is served: %t", what, want), func() bool { return served() == want }) // those before are on their way yet
	}
	if testing.Short() {
		return // without waiting for the end of the server's testkit.Patience
	}
	text, err := io.ReadAll(mute)
	if err != nil || len(text) > 0 {
		t.Errorf("a proxy that says nothing got %q, %v", text, err)
	}
}

// TestProxiesClose: a listener that is closed gives up what still waits.
func TestProxiesClose(t *testing.T) {
	inner := testkit.Listen(t)
	l := Proxies{netip.MustParsePrefix("127.0.0.0/8")}.Listen(inner)
	conn, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte(header(0x20, 0)))
	if err != nil {
		t.Fatal(err)
	}
	err = l.Close()
	if err != nil {
		t.Error(err)
	}
	_, err = io.ReadAll(conn)
	for err == nil {
		var again net.Conn
		again, err = l.Accept()
		if err == nil {
			_ = again.Close()
		}
	}
}
