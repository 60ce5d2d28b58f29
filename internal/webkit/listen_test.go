package webkit_test

import (
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/testkit"
	"inkan/internal/webkit"
)

// TestThreatAU11IdleSockets opens far more connections than one source may have, says
// nothing on any, and sees that another source is served and that closing makes room.
func TestThreatAU11IdleSockets(t *testing.T) {
	const most, idle = 50, 1500
	inner := testkit.Listen(t)
	var passed atomic.Int32
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Hour,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				passed.Add(1)
			}
		}}
	bound := webkit.PerSource{Most: most, MostShared: 2 * most, Shared: []netip.Prefix{netip.MustParsePrefix("127.0.3.0/24")}}
	go func() { _ = server.Serve(bound.Limit(inner)) }()
	defer server.Close()
	address := inner.Addr().String()

	first := hoard(t, "127.0.0.1", address, idle, idle-most)
	if passed.Load() != most {
		t.Errorf("of %d idle connections %d passed, want %d", idle, passed.Load(), most)
	}
	if asks("127.0.0.1", address) == nil {
		t.Error("the full source gets one more connection")
	}
	err := asks("127.0.0.2", address)
	if err != nil {
		t.Errorf("another source is not served: %v", err)
	}
	passed.Store(0)
	hoard(t, "127.0.3.1", address, most+10, 0)
	hoard(t, "127.0.3.2", address, most, 10)
	if passed.Load() != 2*most {
		t.Errorf("a shared network has %d connections, want %d over all its addresses", passed.Load(), 2*most)
	}
	_ = first[0].Close()
	testkit.Await(t, "room where a connection was closed", func() bool { return asks("127.0.0.1", address) == nil })
}

// hoard opens connections from one address, waits until the server has closed as many of
// them as it should, and gives those that came first.
func hoard(t *testing.T, source, address string, count, refused int) []net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	var conns []net.Conn
	closed := make(chan struct{}, count)
	for range count {
		conn, err := dialer.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // nobody writes: it ends with the connection
			closed <- struct{}{}
		}()
	}
	for n := range refused {
		select {
		case <-closed:
		case <-time.After(testkit.Patience):
			t.Fatalf("the server closed %d of %d connections, want %d", n, count, refused)
		}
	}
	return conns
}

// asks makes one request on a connection of its own.
func asks(source, address string) error {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + address + "/")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func TestSourceNetwork(t *testing.T) {
	shared := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	tests := []struct {
		address, source string
		shared          bool
	}{
		{"192.0.2.1", "192.0.2.1", false},
		{"198.51.100.77", "198.51.100.0", true},
		{"2001:db8:2:3:4:5:6:7", "2001:db8:2:3::", false},
		{"2001:db8:1:3:4:5:6:7", "2001:db8:1::", true},
	}
	for _, tt := range tests {
		source, is := webkit.SourceNetwork(netip.MustParseAddr(tt.address), shared)
		if source.String() != tt.source || is != tt.shared {
			t.Errorf("%s is of source %s, shared %t; want %s, %t", tt.address, source, is, tt.source, tt.shared)
		}
	}
}
