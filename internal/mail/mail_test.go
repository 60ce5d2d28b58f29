package mail_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"inkan/internal/mail"
	"inkan/internal/testkit"
)

// relay is an SMTP server that answers as a test wants and remembers what it heard.
type relay struct {
	refuseFrom, refuseTo, refuseData error
	dropAfterData                    bool // cut the line once the mail was taken
	auth                             bool

	mu    sync.Mutex
	mails [][]byte
	login string
}

type talk struct {
	r    *relay
	conn *smtp.Conn
}

// Reset is called once the answer to a mail was written.
func (s *talk) Reset() {
	if s.r.dropAfterData && len(s.r.heard()) > 0 {
		_ = s.conn.Conn().Close()
	}
}

func (s *talk) Logout() error                        { return nil }
func (s *talk) Mail(string, *smtp.MailOptions) error { return s.r.refuseFrom }
func (s *talk) Rcpt(string, *smtp.RcptOptions) error { return s.r.refuseTo }
func (s *talk) AuthMechanisms() []string             { return map[bool][]string{true: {"PLAIN"}}[s.r.auth] }
func (s *talk) Auth(mech string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		s.r.login = user + ":" + password
		return nil
	}), nil
}

func (s *talk) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.r.refuseData != nil {
		return s.r.refuseData
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.mails = append(s.r.mails, raw)
	return nil
}

// start serves the relay; cert may be nil.
func (r *relay) start(t *testing.T, cert *tls.Certificate) string {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &talk{r, c}, nil }))
	server.Domain = "localhost"
	server.AllowInsecureAuth = true // it is our sender that must refuse
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if cert != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

func (r *relay) heard() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mails
}

func sender(t *testing.T, address string) *mail.Sender {
	t.Helper()
	s, err := mail.New(mail.Config{Address: address, From: "no-reply@pki.example.jp", TLS: mail.TLSNone})
	must(t, err)
	return s
}

var must = testkit.Must

var good = mail.Message{To: "clinic@example.jp", Subject: "【クライアント証明書 失効完了の通知】", Text: "一行目\n.点で始まる行\n", ID: "revoked/00ab/keyCompromise"}

func TestSend(t *testing.T) {
	r := &relay{}
	s := sender(t, r.start(t, nil))
	must(t, s.Send(t.Context(), good))
	must(t, s.Send(t.Context(), good))
	mails := r.heard()
	if len(mails) != 2 {
		t.Fatalf("%d mails", len(mails))
	}
	msg, err := netmail.ReadMessage(bytes.NewReader(mails[0]))
	must(t, err)
	for name, want := range map[string]string{
		"To":             "<clinic@example.jp>",
		"From":           "<no-reply@pki.example.jp>",
		"Auto-Submitted": "auto-generated",
		"Message-Id":     "<" + mail.MessageID(good.ID) + "@pki.example.jp>",
		"Content-Type":   "text/plain; charset=UTF-8",
		"User-Agent":     "",
		"X-Mailer":       "",
	} {
		if got := msg.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	second, err := netmail.ReadMessage(bytes.NewReader(mails[1]))
	must(t, err)
	if second.Header.Get("Message-Id") != msg.Header.Get("Message-Id") {
		t.Error("the same mail has two message IDs")
	}
	if bytes.Contains(mails[0], []byte("00ab")) {
		t.Error("a header names the certificate")
	}
}

func TestRefusedBeforeItLeaves(t *testing.T) {
	r := &relay{}
	s := sender(t, r.start(t, nil))
	for name, change := range map[string]func(*mail.Message){
		"line break in subject":  func(m *mail.Message) { m.Subject = "a\r\nBcc: b@example.jp" },
		"bare LF in subject":     func(m *mail.Message) { m.Subject = "a\nBcc: b@example.jp" },
		"NUL in subject":         func(m *mail.Message) { m.Subject = "a\x00" },
		"subject is not UTF-8":   func(m *mail.Message) { m.Subject = "\xff" },
		"empty subject":          func(m *mail.Message) { m.Subject = "" },
		"line break in address":  func(m *mail.Message) { m.To = "a@example.jp\r\nRCPT TO:<b@example.jp>" },
		"two addresses":          func(m *mail.Message) { m.To = "a@example.jp, b@example.jp" },
		"name and address":       func(m *mail.Message) { m.To = "A <a@example.jp>" },
		"quoted local part":      func(m *mail.Message) { m.To = `"a b"@example.jp` },
		"no address":             func(m *mail.Message) { m.To = "" },
		"no ID":                  func(m *mail.Message) { m.ID = "" },
		"text is not UTF-8":      func(m *mail.Message) { m.Text = "\xff" },
		"text as long as a book": func(m *mail.Message) { m.Text = strings.Repeat("a", 2<<20) },
	} {
		m := good
		change(&m)
		failure, ok := errors.AsType[*mail.Error](s.Send(t.Context(), m))
		if !ok || !failure.Permanent {
			t.Errorf("%s: %v, want a permanent *mail.Error", name, failure)
		}
	}
	if n := len(r.heard()); n > 0 {
		t.Errorf("%d mails left", n)
	}
}

func TestFailures(t *testing.T) {
	busy := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"}
	unknown := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	for name, c := range map[string]struct {
		relay     *relay
		permanent bool
		code      int
	}{
		"sender refused for now":    {&relay{refuseFrom: busy}, false, 451},
		"recipient refused for now": {&relay{refuseTo: busy}, false, 451},
		"recipient unknown":         {&relay{refuseTo: unknown}, true, 550},
		"content refused for now":   {&relay{refuseData: busy}, false, 451},
		"content refused":           {&relay{refuseData: unknown}, true, 550},
	} {
		t.Run(name, func(t *testing.T) {
			err := sender(t, c.relay.start(t, nil)).Send(t.Context(), good)
			failure, ok := errors.AsType[*mail.Error](err)
			if !ok || failure.Permanent != c.permanent || failure.Code != c.code {
				t.Errorf("failure %+v (%v)", failure, err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		must(t, l.Close())
		failure, ok := errors.AsType[*mail.Error](sender(t, l.Addr().String()).Send(t.Context(), good))
		if !ok || failure.Permanent || failure.Code != 0 {
			t.Errorf("failure %+v", failure)
		}
	})
	t.Run("caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := &relay{}
		failure, ok := errors.AsType[*mail.Error](sender(t, r.start(t, nil)).Send(ctx, good))
		if !ok || failure.Permanent {
			t.Errorf("failure %+v", failure)
		}
	})
	t.Run("line cut after the mail was taken", func(t *testing.T) {
		r := &relay{dropAfterData: true}
		must(t, sender(t, r.start(t, nil)).Send(t.Context(), good))
		if len(r.heard()) != 1 {
			t.Errorf("%d mails", len(r.heard()))
		}
	})
}

func TestTLS(t *testing.T) {
	cert, roots := newCertificate(t)
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte("correct horse\n"), 0o600))
	send := func(address string, c mail.Config) error {
		c.Address, c.From, c.TLS = address, "no-reply@pki.example.jp", mail.TLSRequired
		s, err := mail.New(c)
		must(t, err)
		return s.Send(t.Context(), good)
	}
	t.Run("with log-in", func(t *testing.T) {
		r := &relay{auth: true}
		must(t, send(r.start(t, &cert), mail.Config{Roots: roots, Username: "inkan", PasswordFile: password}))
		if len(r.heard()) != 1 || r.login != "inkan:correct horse" {
			t.Errorf("%d mails, log-in %q", len(r.heard()), r.login)
		}
	})
	t.Run("unknown certificate", func(t *testing.T) {
		r := &relay{}
		err := send(r.start(t, &cert), mail.Config{})
		if err == nil || len(r.heard()) > 0 {
			t.Errorf("sent to a relay that nobody vouches for: %v", err)
		}
	})
	// A relay in the middle drops STARTTLS (threat NO9): neither mail nor password
	// leaves in clear, and the mail waits.
	for name, c := range map[string]mail.Config{
		"STARTTLS stripped":              {Roots: roots},
		"STARTTLS stripped, with log-in": {Roots: roots, Username: "inkan", PasswordFile: password},
	} {
		t.Run(name, func(t *testing.T) {
			r := &relay{auth: true}
			failure, ok := errors.AsType[*mail.Error](send(r.start(t, nil), c))
			if !ok || failure.Permanent || len(r.heard()) > 0 || r.login != "" {
				t.Errorf("left in clear, or given up: %v, log-in %q", failure, r.login)
			}
		})
	}
}

func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	pair := testkit.SelfSigned(t, &x509.Certificate{NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}, testkit.Key(t))
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	return pair, roots
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg mail.Config
		ok  bool
	}{
		"loopback in clear":    {mail.Config{Address: "127.0.0.1:25", From: "a@example.jp", TLS: "none"}, true},
		"IPv6 loopback":        {mail.Config{Address: "[::1]:25", From: "a@example.jp", TLS: "none"}, true},
		"localhost":            {mail.Config{Address: "localhost:25", From: "a@example.jp", TLS: "none"}, true},
		"TLS":                  {mail.Config{Address: "mail.example.jp:587", From: "a@example.jp", TLS: "required"}, true},
		"elsewhere in clear":   {mail.Config{Address: "mail.example.jp:25", From: "a@example.jp", TLS: "none"}, false},
		"looks like localhost": {mail.Config{Address: "localhost.example.jp:25", From: "a@example.jp", TLS: "none"}, false},
		"private network":      {mail.Config{Address: "10.0.0.1:25", From: "a@example.jp", TLS: "none"}, false},
		"no policy":            {mail.Config{Address: "127.0.0.1:25", From: "a@example.jp"}, false},
		"no port":              {mail.Config{Address: "127.0.0.1", From: "a@example.jp", TLS: "none"}, false},
		"no host":              {mail.Config{Address: ":25", From: "a@example.jp", TLS: "required"}, false},
		"sender with a name":   {mail.Config{Address: "127.0.0.1:25", From: "A <a@example.jp>", TLS: "none"}, false},
		"no password file":     {mail.Config{Address: "127.0.0.1:25", From: "a@example.jp", TLS: "required", Username: "a", PasswordFile: "/nonexistent"}, false},
	} {
		_, err := mail.New(c.cfg)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
