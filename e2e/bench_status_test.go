package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// ocspClients is how many connections ask the responder.
const ocspClients = 64

// ocsp measures the responder beside a bare net/http server that answers with a body
// of the same size.
func (b *bench) ocsp(l *Live) {
	questions := b.questions(l, 1000)
	first, err := http.Post(l.URL(80)+"/ocsp", "application/ocsp-request", bytes.NewReader(questions[0]))
	if err != nil {
		b.Fatal(err)
	}
	size := int(first.ContentLength)
	_ = first.Body.Close()
	bare := b.bareServer(size)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		asked := l.asked(method, questions)
		middle := inTurns(turns, func() rate { return b.ask(bare, asked) }, func() rate { return b.ask(l.status(), asked) })
		b.rates("OCSP answers, "+method, middle.got, middle.limit.perSecond, "limit: a bare net/http server, same requests, body of the same size")
	}
}

// status is where an instance answers everybody.
func (l *Live) status() string { return fmt.Sprintf("127.0.0.1:%d", l.PortBase+80) }

// asked writes questions as requests.
func (l *Live) asked(method string, questions [][]byte) [][]byte {
	out := make([][]byte, len(questions))
	for i, q := range questions {
		if method == http.MethodPost {
			out[i] = request(method, l.status(), "/ocsp", "application/ocsp-request", q)
		} else {
			out[i] = request(method, l.status(), "/ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(q)), "", nil)
		}
	}
	return out
}

// ask sends requests in turn over many connections.
func (b *bench) ask(address string, asked [][]byte) rate {
	var open lines
	defer open.close()
	return load(b, ocspClients, b.lasts/turns, func(int) (func(int64) error, error) {
		c, err := open.dial(address, nil)
		if err != nil {
			return nil, err
		}
		return func(n int64) error {
			status, _, err := c.roundTrip(asked[n%int64(len(asked))], false)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d", status)
			}
			return err
		}, nil
	})
}

// questions are OCSP requests about certificates of the instance.
func (b *bench) questions(l *Live, n int) [][]byte {
	issuer := testkit.CertificateFile(b, l.Dir, "ca", "g1.pem")
	serials := l.serials(b, n)
	out := make([][]byte, len(serials))
	for i, s := range serials {
		out[i] = question(b, issuer, s)
	}
	return out
}

// bareServer starts a net/http server in a process of its own, as the product's is.
func (b *bench) bareServer(size int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBareServer$")
	cmd.Env = append(os.Environ(), "INKAN_BARE="+address, fmt.Sprint("INKAN_BARE_SIZE=", size))
	err = cmd.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			return address
		}
	}
	b.Fatal("the bare server does not start")
	return ""
}

// TestBareServer is the other process of bareServer.
func TestBareServer(t *testing.T) {
	address := testkit.Asked(t, "INKAN_BARE", "make bench")
	var size int
	_, err := fmt.Sscan(os.Getenv("INKAN_BARE_SIZE"), &size)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, size)
	t.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(body)
	})))
}
