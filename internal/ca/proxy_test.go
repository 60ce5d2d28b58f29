package ca_test

import (
	"bytes"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"inkan/internal/testkit"
)

// proxy stands between the store and PostgreSQL and cuts the line at a COMMIT.
type proxy struct {
	dsn  string
	real string

	mu    sync.Mutex
	at    int // the COMMIT to come at which the line is cut; 0: none
	took  bool
	fired bool
}

func newProxy(t *testing.T, dsn string) *proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	q := u.Query()
	dir := testkit.ShortDir(t)
	const name = ".s.PGSQL.5432"
	p := &proxy{real: filepath.Join(q.Get("host"), name)}
	q.Set("host", dir)
	p.dsn = strings.SplitN(dsn, "?", 2)[0] + "?" + q.Encode()
	l, err := net.Listen("unix", filepath.Join(dir, name))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go testkit.Accept(l, p.serve)
	return p
}

// arm cuts the line at the nth COMMIT from now, before it arrives or after it took
// effect.
func (p *proxy) arm(nth int, took bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.took, p.fired = nth, took, false
}

// disarm says whether the line was cut.
func (p *proxy) disarm() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = 0
	return p.fired
}

func (p *proxy) due() (cut, took bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == 0 {
		return false, false
	}
	p.at--
	p.fired = p.at == 0
	return p.fired, p.took
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.real)
	if err != nil {
		_ = client.Close()
		return
	}
	over := func() { _ = client.Close(); _ = server.Close() }
	defer over()
	deaf := make(chan struct{})
	go func() { // answers
		defer over()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-deaf:
				return // the answer to the COMMIT is here, so it took effect; nobody hears of it
			default:
			}
			if err == nil {
				_, err = client.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			cut, took := p.due()
			switch {
			case cut && !took:
				return
			case cut:
				close(deaf)
			}
		}
		_, err = server.Write(buf[:n])
		if err != nil {
			return
		}
	}
}
