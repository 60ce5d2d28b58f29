package webkit_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/testkit"
	"inkan/internal/webkit"
)

// TestThreatAU10 sends what two readers of HTTP could take for different requests, each
// followed by a request that must not be answered: one refusal, then the end of the
// connection. The zones with names and those without hold to the same.
func TestThreatAU10Smuggling(t *testing.T) {
	log, _ := logged()
	var smuggled atomic.Int32
	routes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/smuggled" {
			smuggled.Add(1)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	zone := webkit.Zone{Name: "portal", Hosts: []string{"a.test"}}
	stacks := map[string]http.Handler{
		"with names":    webkit.Stack{Zone: zone, Report: webkit.NewReporter(log, nil)}.Wrap(routes),
		"without names": webkit.OneMeaning(routes),
	}
	const host, chunks, hidden = "Host: a.test\r\n", "0\r\n\r\n", "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
	post := func(headers ...string) string {
		return "POST / HTTP/1.1\r\n" + host + strings.Join(headers, "\r\n") + "\r\n\r\n"
	}
	const length, chunked = "Content-Length: 5", "Transfer-Encoding: chunked"
	vectors := map[string]string{
		"length, then chunked":               post(length, chunked) + chunks,
		"chunked, then length":               post(chunked, length) + chunks,
		"length of nothing and chunked":      post("Content-Length: 0", chunked) + chunks,
		"chunked alone":                      post(chunked) + chunks,
		"chunked in capitals":                post("Transfer-Encoding: CHUNKED") + chunks,
		"chunked twice in one line":          post("Transfer-Encoding: chunked, chunked") + chunks,
		"chunked twice in two":               post(chunked, chunked) + chunks,
		"identity and chunked":               post("Transfer-Encoding: identity", chunked) + chunks,
		"chunked and identity":               post("Transfer-Encoding: chunked, identity") + chunks,
		"gzip, chunked":                      post("Transfer-Encoding: gzip, chunked") + chunks,
		"unknown coding":                     post("Transfer-Encoding: xchunked", length) + chunks,
		"identity with length":               post("Transfer-Encoding: identity", length) + chunks,
		"empty coding":                       post("Transfer-Encoding: ", length) + chunks,
		"quoted coding":                      post(`Transfer-Encoding: "chunked"`, length) + chunks,
		"vertical tab before coding":         post("Transfer-Encoding:\vchunked", length) + chunks,
		"coding after a fold":                post("Transfer-Encoding:\r\n chunked", length) + chunks,
		"blank before the colon":             post("Transfer-Encoding : chunked", length) + chunks,
		"blank before the name":              post(" Transfer-Encoding: chunked", length) + chunks,
		"null in the name":                   post("Transfer-Encoding\x00: chunked", length) + chunks,
		"bare CR in a value":                 post("X: y\rTransfer-Encoding: chunked", length) + chunks,
		"two lengths":                        post("Content-Length: 0", length) + "abcde",
		"two lengths in one line":            post("Content-Length: 0, 5") + "abcde",
		"length with plus":                   post("Content-Length: +5") + "abcde",
		"negative length":                    post("Content-Length: -5") + "abcde",
		"hexadecimal length":                 post("Content-Length: 0x5") + "abcde",
		"length with a blank inside":         post("Content-Length: 5 0") + "abcde",
		"length beyond 64 bits":              post("Content-Length: 18446744073709551621") + "abcde",
		"empty length":                       post("Content-Length:") + "abcde",
		"two Hosts":                          "GET / HTTP/1.1\r\n" + host + "Host: b.test\r\n\r\n",
		"no Host":                            "GET / HTTP/1.1\r\n\r\n",
		"Host with a blank":                  "GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n",
		"absolute form":                      "GET http://a.test/ HTTP/1.1\r\n" + host + "\r\n",
		"absolute form of another":           "GET http://b.test/ HTTP/1.1\r\n" + host + "\r\n",
		"authority form":                     "CONNECT a.test:443 HTTP/1.1\r\n" + host + "\r\n",
		"authority form with another method": "GET a.test:443 HTTP/1.1\r\n" + host + "\r\n",
		"asterisk with another method":       "GET * HTTP/1.1\r\n" + host + "\r\n",
		"target without a slash":             "GET smuggled HTTP/1.1\r\n" + host + "\r\n",
		"blank in the target":                "GET / x HTTP/1.1\r\n" + host + "\r\n",
		"tab in the request line":            "GET\t/ HTTP/1.1\r\n" + host + "\r\n",
		"version of HTTP/2":                  "GET / HTTP/2.0\r\n" + host + "\r\n",
	}
	for name, handler := range stacks {
		address := serveRaw(t, handler)
		if status, ended := exchange(t, address, post(length)+"abcde"); status != http.StatusNoContent || ended {
			t.Errorf("%s: a plain request gets %d, connection ended %t", name, status, ended)
		}
		// HTTP/1.0 has no codings, so net/http goes by the length; whoever went by the coding
		// finds that nothing follows: such a connection carries one request.
		old := "POST / HTTP/1.0\r\nConnection: keep-alive\r\n" + host + length + "\r\n" + chunked + "\r\n\r\n" + chunks
		before := smuggled.Load()
		if _, ended := exchange(t, address, old+hidden); !ended || smuggled.Load() != before {
			t.Errorf("%s: length and chunked on HTTP/1.0: connection ended %t", name, ended)
		}
		for vector, text := range vectors {
			before := smuggled.Load()
			status, ended := exchange(t, address, text+hidden)
			if status < 400 || !ended || smuggled.Load() != before {
				t.Errorf("%s: %s: status %d, connection ended %t, %d smuggled requests", name, vector, status, ended, smuggled.Load()-before)
			}
		}
	}
}

func serveRaw(t *testing.T, h http.Handler) string {
	t.Helper()
	l := testkit.Listen(t)
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// exchange sends raw text and gives the status of the first answer, and whether the
// connection ended behind it. What is told apart is an end and an answer to a second
// request that is sent as a probe, so nothing is waited for in vain.
func exchange(t *testing.T, address, text string) (int, bool) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	_, err = io.WriteString(conn, text+"GET /probe HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("no answer to %q: %v", text, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	_, err = in.ReadByte()
	return resp.StatusCode, err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}
