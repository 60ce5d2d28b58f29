// Package mail writes a text as a MIME message and hands it to an SMTP relay.
//
// It owns the form of a message, the safety of the connection and the judgement
// whether a failure passes. It does not own what is said to whom, or when to try again
// (notify). The catching mail server of a demo is in mail/sink.
package mail

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

// How a connection to the relay is protected.
const (
	TLSRequired = "required" // STARTTLS, or TLS from the start on port 465; the name is checked
	TLSNone     = "none"     // in clear; only to this machine
)

// Config is how mail leaves.
type Config struct {
	Address      string // of the relay, "host:port"
	From         string // "no-reply@example.jp"
	TLS          string // TLSRequired or TLSNone
	Username     string // "" where the relay wants no proof
	PasswordFile string
	Roots        *x509.CertPool // of the relay's certificate; nil: those of the system
}

// Message is one mail to one address.
type Message struct {
	To      string
	Subject string
	Text    string
	ID      string // the same mail sent twice has the same ID, so that mailboxes can tell
}

// Limits of a message.
const (
	maxSubject = 200     // runes
	maxText    = 1 << 20 // bytes
	timeout    = 30 * time.Second
)

// Error is a mail that did not leave.
type Error struct {
	Permanent bool   // the relay or we would refuse it again
	Code      int    // of the relay's answer; 0 where there was none
	text      string // for operators; may repeat the address
}

// Error gives the text for operators.
func (e *Error) Error() string { return e.text }

// Sender hands mails to one relay.
type Sender struct {
	cfg    Config
	domain string // of From, right of the @ in message IDs
	host   string
	opts   []gomail.Option
}

// New checks the configuration and reads the password. It does not connect.
func New(cfg Config) (*Sender, error) {
	if !validAddress(cfg.From) {
		return nil, fmt.Errorf("mail from %q: want one plain address", cfg.From)
	}
	host, portText, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("mail relay: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || host == "" {
		return nil, fmt.Errorf("mail relay %q: want host:port", cfg.Address)
	}
	s := &Sender{cfg: cfg, host: host, domain: cfg.From[strings.LastIndexByte(cfg.From, '@')+1:]}
	s.opts = []gomail.Option{gomail.WithPort(int(port)), gomail.WithTimeout(timeout), gomail.WithoutNoop(),
		gomail.WithTLSConfig(&tls.Config{ServerName: host, RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12})}
	switch {
	case cfg.TLS == TLSNone && loopback(host):
		s.opts = append(s.opts, gomail.WithTLSPolicy(gomail.NoTLS))
	case cfg.TLS == TLSNone:
		return nil, fmt.Errorf("mail relay %q: without TLS only on this machine's own address", cfg.Address)
	case cfg.TLS != TLSRequired:
		return nil, fmt.Errorf("mail tls %q: want %q or %q", cfg.TLS, TLSRequired, TLSNone)
	case port == 465:
		s.opts = append(s.opts, gomail.WithSSL())
	default:
		s.opts = append(s.opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if cfg.Username != "" {
		password, err := os.ReadFile(cfg.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read mail password: %w", err)
		}
		s.opts = append(s.opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(cfg.Username),
			gomail.WithPassword(strings.TrimRight(string(password), "\r\n")))
	}
	return s, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Send hands one mail to the relay. Errors are *Error. When the relay took the mail,
// what breaks afterwards is no failure: the mail would be sent twice.
func (s *Sender) Send(ctx context.Context, m Message) error {
	msg, err := s.compose(m)
	if err != nil {
		return &Error{Permanent: true, text: err.Error()}
	}
	client, err := gomail.NewClient(s.host, s.opts...)
	if err != nil {
		return &Error{text: fmt.Sprintf("set up mail client: %v", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*timeout)
	defer cancel()
	err = client.DialAndSendWithContext(ctx, msg)
	if err == nil || msg.IsDelivered() {
		return nil
	}
	return judge(err)
}

// judge finds out whether a failure passes. A refusal of this very mail (5xx) does
// not; everything before it (name, connection, TLS, log-in) is the relay's or ours to
// mend, so the mail waits.
func judge(err error) *Error {
	refusal, ok := errors.AsType[*gomail.SendError](err)
	if !ok {
		return &Error{text: "reach mail relay: " + err.Error()}
	}
	code := refusal.ErrorCode()
	return &Error{Permanent: code >= 500, Code: code, text: "send mail: " + refusal.Error()}
}

// compose makes the MIME message. What could change the structure of the header is
// refused, not repaired (threat NO6).
func (s *Sender) compose(m Message) (*gomail.Msg, error) {
	switch {
	case !validAddress(m.To):
		return nil, errors.New("mail address is not one plain address")
	case m.Subject == "", utf8.RuneCountInString(m.Subject) > maxSubject, !utf8.ValidString(m.Subject),
		strings.ContainsFunc(m.Subject, unicode.IsControl):
		return nil, errors.New("mail subject is empty, too long or holds control characters")
	case m.ID == "":
		return nil, errors.New("mail has no ID")
	case len(m.Text) > maxText || !utf8.ValidString(m.Text):
		return nil, errors.New("mail text is too long or not UTF-8")
	}
	msg := gomail.NewMsg(gomail.WithEncoding(gomail.EncodingB64), gomail.WithNoDefaultUserAgent())
	err := errors.Join(msg.From(s.cfg.From), msg.To(m.To))
	if err != nil {
		return nil, fmt.Errorf("address mail: %w", err)
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(MessageID(m.ID) + "@" + s.domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday notice answers
	msg.SetBodyString(gomail.TypeTextPlain, strings.ReplaceAll(m.Text, "\r\n", "\n"))
	return msg, nil
}

// MessageID is the left side of a mail's Message-ID. It is a hash because an ID may
// name a certificate, and headers are copied into the logs of strangers.
func MessageID(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// validAddress accepts one bare address of ASCII without quoting tricks.
func validAddress(s string) bool {
	if len(s) > 254 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
		return false
	}
	addr, err := netmail.ParseAddress(s)
	return err == nil && addr.Address == s && addr.Name == ""
}
