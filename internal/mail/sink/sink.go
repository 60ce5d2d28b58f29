// Package sink is the mail server of a demo: it takes every mail, delivers none, and
// shows them on a page.
//
// It owns what was caught, in memory, the last of it only. It does not own which mails
// are sent (notify). It listens on this machine alone and sets no cookies, because
// cookies do not tell ports apart (threat RS12).
package sink

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Limits of what is kept.
const (
	Keep          = 500
	maxMail       = 1 << 20
	maxRecipients = 10
)

// Mail is one caught mail.
type Mail struct {
	ID        int       `json:"id"` // counts from 1
	At        time.Time `json:"at"`
	From      string    `json:"from"` // of the envelope
	To        []string  `json:"to"`
	Subject   string    `json:"subject"`
	MessageID string    `json:"messageId"`
	Text      string    `json:"text"`
	Raw       string    `json:"raw"`
}

// Sink catches mail.
type Sink struct {
	now  func() time.Time
	smtp *smtp.Server

	mu    sync.Mutex
	last  int
	mails []Mail // oldest first
}

// New makes a sink.
func New(now func() time.Time, log *slog.Logger) *Sink {
	s := &Sink{now: now}
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{sink: s}, nil }))
	s.smtp.Domain = "localhost"
	s.smtp.MaxMessageBytes = maxMail
	s.smtp.MaxRecipients = maxRecipients
	s.smtp.ReadTimeout = time.Minute
	s.smtp.WriteTimeout = time.Minute
	s.smtp.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	return s
}

// Serve catches mail on a listener of this machine until Close.
func (s *Sink) Serve(l net.Listener) error {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("mail sink on %s: only on this machine's own address", l.Addr()), l.Close())
	}
	err := s.smtp.Serve(l)
	if errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Close ends Serve.
func (s *Sink) Close() error { return s.smtp.Close() }

// Mails gives what was caught, newest first.
func (s *Sink) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]Mail{}, s.mails...) // never nil: an empty list in JSON
	slices.Reverse(out)
	return out
}

func (s *Sink) mail(id int) (Mail, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.mails, func(m Mail) bool { return m.ID == id })
	if i < 0 {
		return Mail{}, false
	}
	return s.mails[i], true
}

func (s *Sink) keep(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	m.ID = s.last
	s.mails = append(s.mails, m)
	if len(s.mails) > Keep {
		s.mails = slices.Clone(s.mails[len(s.mails)-Keep:])
	}
}

// session is one SMTP conversation.
type session struct {
	sink *Sink
	from string
	to   []string
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := read(raw)
	m.At, m.From, m.To = s.sink.now().UTC(), s.from, s.to
	s.sink.keep(m)
	return nil
}

// read takes a mail apart as far as our own mails need it. What it cannot read it
// shows as it came.
func read(raw []byte) Mail {
	m := Mail{Raw: strings.ToValidUTF8(string(raw), "\uFFFD")}
	m.Text = m.Raw
	msg, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return m
	}
	var words mime.WordDecoder
	m.Subject, err = words.DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		m.Subject = msg.Header.Get("Subject")
	}
	m.MessageID = strings.Trim(msg.Header.Get("Message-Id"), "<>")
	kind, _, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "text/plain" {
		return m
	}
	body := msg.Body
	switch strings.ToLower(msg.Header.Get("Content-Transfer-Encoding")) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err == nil {
		m.Text = strings.ReplaceAll(strings.ToValidUTF8(string(text), "\uFFFD"), "\r\n", "\n")
	}
	return m
}
