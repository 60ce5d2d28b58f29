package app

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"inkan/internal/webkit"
)

// TestThreatAU11RapidReset opens and resets streams of one connection without waiting
// while every handler is held. The server works on a bounded number of them, ends that
// connection before long, and another client is served.
func TestThreatAU11RapidReset(t *testing.T) {
	var running, peak atomic.Int32
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(nil)
	server.Config = httpServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/held" {
			return
		}
		now := running.Add(1)
		for seen := peak.Load(); now > seen && !peak.CompareAndSwap(seen, now); seen = peak.Load() {
			continue
		}
		<-release
		running.Add(-1)
	}), nil, newLog(&bytes.Buffer{}, 8))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	defer close(release)

	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	told := make(chan http2.ErrCode, 1)
	framer := http2.NewFramer(conn, conn)
	go func() { told <- listenForGoAway(framer) }()
	sent := resetStreams(t, conn, framer, 20_000)
	code := <-told
	if code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("after %d streams the server said %v", sent, code)
	}
	if peak.Load() > maxStreams || peak.Load() == 0 {
		t.Errorf("%d handlers ran at once, want at most %d", peak.Load(), maxStreams)
	}
	resp, err := server.Client().Get(server.URL + "/")
	if err != nil {
		t.Fatalf("another client: %v", err)
	}
	_ = resp.Body.Close()
}

// resetStreams opens and resets streams until the connection breaks, and says how many.
func resetStreams(t *testing.T, conn net.Conn, framer *http2.Framer, most int) int {
	t.Helper()
	_, err := conn.Write([]byte(http2.ClientPreface))
	if err != nil {
		t.Fatal(err)
	}
	err = framer.WriteSettings()
	if err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for n := range most {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/held"}} {
			err = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			if err != nil {
				t.Fatal(err)
			}
		}
		id := uint32(2*n + 1)
		err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		if err == nil {
			err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			return n
		}
	}
	return most
}

func listenForGoAway(framer *http2.Framer) http2.ErrCode {
	code := http2.ErrCodeNo
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return code
		}
		away, ok := frame.(*http2.GoAwayFrame)
		if ok {
			code = away.ErrCode
		}
	}
}

// TestThreatPL4Host: the internal listener answers to names of this machine alone, so
// that no page of a browser can ask by DNS rebinding.
func TestThreatPL4Host(t *testing.T) {
	s := &server{metrics: newMetrics()}
	h := s.internal()
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8090": 200, "127.0.0.1:8090": 200, "[::1]:8090": 200, "evil.example": 403, "evil.example:8090": 403,
		"127.0.0.1.evil.example": 403, "localhost.evil.example:8090": 403, "localhost.": 403, "0.0.0.0:8090": 403, "127.0.0.2:8090": 403, "inkan.internal": 403, "": 400,
	} {
		for _, path := range []string{"/live", "/metrics"} {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s of Host %q: %d, want %d", path, host, w.Code, want)
			}
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 404 {
			t.Errorf("%s answers %d", path, w.Code)
		}
	}
}

// TestThreatPL4Metrics sends requests full of what is secret or personal through a zone:
// nothing of it is a label, and a thousand of them make no more series than one.
func TestThreatPL4Metrics(t *testing.T) {
	m := newMetrics()
	report := webkit.NewReporter(newLog(&bytes.Buffer{}, 8), nil)
	mux := http.NewServeMux()
	mux.Handle("GET /p/rcd/t/{ticket}", report.Handle(webkit.NotFound))
	mux.Handle("/", report.Handle(webkit.NotFound))
	h := webkit.Stack{Zone: webkit.Zone{Name: "portal", Hosts: []string{"a.test"}}, Report: report, Count: m.recorder()}.Wrap(mux)
	const canary = "CANARY"
	ask := func(n int) {
		for _, path := range []string{"/p/rcd/t/%s%d", "/%s%d", "/x?requestId=%s%d"} {
			for _, host := range []string{"a.test", "evil" + canary} {
				r := httptest.NewRequest("GET", fmt.Sprintf(path, canary, n), nil)
				r.Host = host
				r.Header.Set("User-Agent", canary)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		}
		m.answered("good", n%2 == 0)
		m.jobs.WithLabelValues("crl").Inc()
	}
	ask(0)
	ask(1)
	series := strings.Count(scrape(m), "\ninkan_")
	for n := range 1000 {
		ask(n)
	}
	text := scrape(m)
	if after := strings.Count(text, "\ninkan_"); series == 0 || after != series {
		t.Errorf("%d series became %d", series, after)
	}
	if !strings.Contains(text, `inkan_http_refusals_total{code="not_found",zone="portal"}`) {
		t.Errorf("metrics:\n%s", text)
	}
	if strings.Contains(text, canary) {
		t.Error("a canary is in the metrics")
	}
	known := []string{"zone", "route", "class", "le", "code", "says", "from", "job", "version", "go", "quantile"}
	for _, m := range regexp.MustCompile(`(?:[{,])([a-z_]+)="`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("label %s is not one of %v: does it grow?", m[1], known)
		}
	}
}

func scrape(m *metrics) string {
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}
