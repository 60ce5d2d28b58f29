package e2e

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/mail/sink"
	"inkan/internal/testkit"
)

// TestFaultsMail: the mail relay is away, then refuses for now, then hangs. Everything
// else goes on, health tells of it, and when the relay takes mail again each one
// leaves by itself, once.
func TestFaultsMail(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	bin, err := buildOnce()
	testkit.Must(t, err)
	relay := &relay{address: fmt.Sprintf("127.0.0.1:%d", freePorts(t)+25), end: func() {}}
	f := &faulty{Live: NewLive(t, bin, LiveOptions{CAKey: "p-256",
		Config: fmt.Sprintf("holder_key = \"p-256\"\n[mail]\nsmtp = %q\ntls = \"none\"\n", relay.address)})}
	f.operator(t, "uketsuke", "intake,officer")
	f.Serve(t)
	f.client = testkit.HTTP(t, f.clientTLS(t), false)

	for _, row := range []struct {
		name  string
		begin func(*testing.T) // nil: nothing listens
	}{
		{"away", nil},
		{"refuses for now", relay.refuse},
		{"hangs", relay.hang},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.begin != nil {
				row.begin(t)
			}
			f.revokeOne(t, row.name)
			if row.begin != nil {
				testkit.Await(t, "mail at the relay", func() bool { return relay.called.Load() > 0 })
			}
			f.tells(t, "relay")
			f.issues(t)
			if waiting := f.outbox(t); waiting == "0" {
				t.Error("no mail waits")
			}
			relay.end()
		})
	}

	mails := sink.New(time.Now, testkit.Quiet)
	back := relay.listen(t)
	go func() { _ = mails.Serve(back) }()
	t.Cleanup(func() { _ = mails.Close() })
	for began := time.Now(); f.outbox(t) != "0"; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 3*testkit.Patience { // a mail that was refused waits a minute and more
			t.Fatalf("mails still wait\n%s", tail(f.log, 3000))
		}
	}
	testkit.Await(t, "health", func() bool { return len(f.wrong(t)) == 0 })
	seen := map[string]int{}
	for _, m := range mails.Mails() {
		seen[m.MessageID]++
	}
	if len(seen) != 3 || len(mails.Mails()) != 3 {
		t.Errorf("three mails were to leave, each once: %v", seen)
	}
	f.Stop(t)
}

// revokeOne has a certificate issued for somebody with a mail address, and revokes it.
func (f *faulty) revokeOne(t *testing.T, terminal string) {
	t.Helper()
	var r Request
	f.asks(t, &r, "uketsuke", "request", "submit", "--kind", "medical", "--code", "0110119153", "--terminal", terminal, "--email", "clinic@example.jp")
	f.decides(t, "shonin", "request", "approve", r.RequestID)
	testkit.Await(t, "certificate", func() bool {
		f.asks(t, &r, "uketsuke", "request", "show", r.RequestID)
		return r.Serial != ""
	})
	f.as(t, "uketsuke", "revoke", r.Serial, "--reason", "keyCompromise")
}

var waitingMails = regexp.MustCompile(`(?m)^inkan_outbox_mails\{state="waiting"\} (\d+)$`)

// outbox says how many mails wait.
func (f *faulty) outbox(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(f.URL(90) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	m := waitingMails.FindSubmatch(body(t, resp))
	if m == nil {
		t.Fatal("no metric of the outbox")
	}
	return string(m[1])
}

// relay is a mail relay that does not do its work.
type relay struct {
	address string
	called  atomic.Int64
	end     func()
}

func (r *relay) listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve takes each connection and lets greet do what it will.
func (r *relay) serve(t *testing.T, greet func(net.Conn)) {
	l := r.listen(t)
	var conns []net.Conn
	over := make(chan struct{})
	r.called.Store(0)
	go func() {
		defer close(over)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			greet(conn)
			r.called.Add(1)
		}
	}()
	r.end = func() {
		_ = l.Close()
		<-over
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

func (r *relay) refuse(t *testing.T) {
	r.serve(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte("421 4.3.2 relay.example.jp is not taking mail now\r\n"))
		_ = conn.Close()
	})
}

func (r *relay) hang(t *testing.T) { r.serve(t, func(net.Conn) {}) }
