// Package notify is the office of notices (通知): it takes mails from the outbox, where
// they were put in the transaction of the change they tell of, and sends them.
//
// It owns which facts a mail may name, when a failed mail is tried again, and the
// record that it left. It does not own the words (i18n), the wire (mail), or why there
// is something to tell (ra, ca).
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"inkan/internal/crash"
	"inkan/internal/mail"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// Sender hands one mail to the relay; *mail.Sender is one.
type Sender interface {
	Send(ctx context.Context, m mail.Message) error
}

// Config is what the office is made of.
type Config struct {
	DB     *store.DB
	Sender Sender
	Text   func(lang, key string, args map[string]any) string
	// HelpDesk is what mails say about whom to call, by language: a number and its
	// hours, one line. Where there is none, mails point at the letter.
	HelpDesk map[string]string
	// Site is where the holders' site is, "https://host": what stands before the paths
	// of links.
	Site string
	Now  func() time.Time
	Log  *slog.Logger
}

// Service is the office.
type Service struct{ Config }

// New makes the office.
func New(c Config) *Service { return &Service{c} }

// facts are the kinds of mail and what each may name. A fact that is not here stops
// the mail: whoever puts a reference ID into an outbox row finds it unsent (threats
// RS10, CO9).
var facts = map[string][]string{
	"downloaded": {"HolderCode", "Terminal", "At", "Source"},
	"revoked":    {"HolderCode", "Terminal", "At", "Reason"},
	// To everybody whom the application named: a thief must not renew unseen (threat RS9).
	"renewed": {"HolderCode", "Terminal", "At", "Source", "RequestID"},
	"lifted":  {"HolderCode", "Terminal", "At"},
	// An officer dated a revocation forward, or two took it back before its day.
	"revocation_dated":   {"HolderCode", "Terminal", "At", "Reason"},
	"revocation_undated": {"HolderCode", "Terminal", "At"},
	// Somebody asked for a revocation: to those whom the application named.
	"revocation_asked": {"HolderCode", "Terminal", "At", "Reason", "Number"},
	// To the address that was typed on the page, which may be anybody's (threat RV4).
	"revocation_received": {"Number", "At"},
	"revocation_done":     {"Number", "At"},
	"revocation_refused":  {"Number", "At"},
	// What anybody can cause names nothing that was typed freely: a stranger's words
	// would reach whom he likes (threat AP4). A receipt goes to who confirmed.
	"confirm": {"HolderCode", "At", "Path"},
	"digest":  {"At", "Lines"},
	"applied": {"HolderCode", "At", "RequestID"},
	"receipt": {"HolderCode", "Terminal", "At", "RequestID", "Path"},
}

// waits are the pauses after each failed attempt: short at first, because a relay that
// is started anew is away for a moment. After the last one the mail is given
// up: two and a half days is longer than any weekend of a relay that people look after.
var waits = []time.Duration{
	10 * time.Second, 30 * time.Second, time.Minute, 3 * time.Minute, 10 * time.Minute, 30 * time.Minute, 90 * time.Minute,
	4 * time.Hour, 6 * time.Hour, 24 * time.Hour, 24 * time.Hour,
}

const (
	batch = 50
	hold  = 10 * time.Minute
	// working is the part of the hold in which a batch is sent. What is left then
	// is put back: after the hold another node would send it, too.
	working = 8 * time.Minute
)

// never is the next attempt of a mail that was given up. The row stays, with its
// failure, for the people who look after it.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

var actor = pki.System("notify")

// Drain sends what is due and says how many mails left. Mails that fail are no error
// of Drain: they wait in the outbox. A mail leaves at most once, but for a process
// that dies, or a database that is away, between the relay's yes and our record; both
// copies then have one Message-ID.
func (s *Service) Drain(ctx context.Context) (int, error) {
	sent := 0
	for {
		var due []store.Message
		err := s.DB.Update(ctx, func(tx *store.Tx) error {
			var err error
			due, err = tx.ClaimMessages(batch, hold)
			return err
		})
		if err != nil {
			return sent, fmt.Errorf("claim messages: %w", err)
		}
		if len(due) == 0 {
			return sent, nil
		}
		claimed := s.Now()
		for i, m := range due {
			if ctx.Err() != nil || s.Now().Sub(claimed) > working {
				return sent, errors.Join(ctx.Err(), s.putBack(ctx, due[i:]))
			}
			crash.At("issue.8 before the mail")
			failure := s.send(ctx, m)
			crash.At("issue.8 after the mail")
			err = s.record(ctx, m, failure)
			if err != nil {
				return sent, errors.Join(err, s.putBack(ctx, due[i+1:]))
			}
			if failure == nil {
				sent++
			}
			if away(failure) {
				return sent, s.recordAll(ctx, due[i+1:], failure)
			}
		}
	}
}

// Delayed says how many mails were tried in vain and will be tried again.
func (s *Service) Delayed(ctx context.Context) (int, error) {
	n := 0
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		n, err = tx.DelayedMessages(never)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count delayed mails: %w", err)
	}
	return n, nil
}

func (s *Service) send(ctx context.Context, m store.Message) error {
	letter, err := s.compose(m)
	if err != nil {
		return err
	}
	return s.Sender.Send(ctx, letter)
}

// away says whether the relay did not answer at all: the next mail would only wait for
// the same time-out, so it shares the failure.
func away(failure error) bool {
	e, ok := errors.AsType[*mail.Error](failure)
	return ok && e.Code == 0 && !e.Permanent
}

func (s *Service) recordAll(ctx context.Context, rest []store.Message, failure error) error {
	for i, m := range rest {
		err := s.record(ctx, m, failure)
		if err != nil {
			return errors.Join(err, s.putBack(ctx, rest[i+1:]))
		}
	}
	return nil
}

// record writes down what became of a mail, also when the server is stopping.
func (s *Service) record(ctx context.Context, m store.Message, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if failure == nil {
		return s.finish(ctx, m)
	}
	return s.delay(ctx, m, failure)
}

func (s *Service) finish(ctx context.Context, m store.Message) error {
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(actor, "mail.sent", m.Request, map[string]any{"kind": m.Kind})
		if err != nil {
			return err
		}
		return tx.FinishMessage(m.ID)
	})
	if err != nil {
		return fmt.Errorf("record that a mail left: %w", err)
	}
	return nil
}

// delay records a failure, and the end of trying where there is no hope.
func (s *Service) delay(ctx context.Context, m store.Message, cause error) error {
	code := 0
	final := m.Attempts > len(waits)
	refusal, ok := errors.AsType[*mail.Error](cause)
	if ok {
		code, final = refusal.Code, final || refusal.Permanent
	}
	final = final || errors.Is(cause, errUnsendable)
	s.Log.Warn("mail did not leave", "request", m.Request, "kind", m.Kind, "attempt", m.Attempts, "code", code, "final", final)
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		if !final {
			return tx.DelayMessage(m.ID, cause.Error(), tx.Now.Add(waits[max(m.Attempts, 1)-1]))
		}
		_, _, err := tx.Audit(actor, "mail.given_up", m.Request, map[string]any{"kind": m.Kind, "code": code})
		if err != nil {
			return err
		}
		return tx.DelayMessage(m.ID, cause.Error(), never)
	})
	if err != nil {
		return fmt.Errorf("record that a mail did not leave: %w", err)
	}
	return nil
}

// putBack makes messages due again that were claimed and not tried.
func (s *Service) putBack(ctx context.Context, rest []store.Message) error {
	if len(rest) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		for _, m := range rest {
			err := tx.DelayMessage(m.ID, "", tx.Now)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// errUnsendable marks a message that no attempt can send.
var errUnsendable = errors.New("message cannot be sent")

// compose writes the mail of a message.
func (s *Service) compose(m store.Message) (mail.Message, error) {
	allowed, ok := facts[m.Kind]
	if !ok {
		return mail.Message{}, fmt.Errorf("%w: no such kind %q", errUnsendable, m.Kind)
	}
	if m.Address == "" {
		return mail.Message{}, fmt.Errorf("%w: no address is known", errUnsendable)
	}
	args := map[string]any{}
	for name, value := range m.Args {
		if !slices.Contains(allowed, name) {
			return mail.Message{}, fmt.Errorf("%w: a mail of kind %q does not name %q", errUnsendable, m.Kind, name)
		}
		args[name] = value
	}
	for _, name := range allowed {
		_, given := args[name]
		if !given {
			return mail.Message{}, fmt.Errorf("%w: %q is missing", errUnsendable, name)
		}
	}
	at, err := time.Parse(time.RFC3339, m.Args["At"])
	if err != nil {
		return mail.Message{}, fmt.Errorf("%w: time of the event: %v", errUnsendable, err)
	}
	args["At"] = at
	stem := "mail." + m.Kind
	if m.Args["Reason"] != "" {
		_, err = pki.ParseReason(m.Args["Reason"])
		if err != nil {
			return mail.Message{}, fmt.Errorf("%w: %v", errUnsendable, err)
		}
		args["Reason"] = s.Text(m.Language, "mail.reason."+m.Args["Reason"], nil)
		if m.Kind == "revoked" && m.Args["Reason"] == pki.CertificateHold.String() {
			stem = "mail.suspended" // not the end: other words
		}
	}
	args["Link"] = s.Site + m.Args["Path"]
	args["Lines"] = s.digest(m)
	args["HelpDesk"] = s.HelpDesk[m.Language]
	if s.HelpDesk[m.Language] == "" {
		args["HelpDesk"] = s.Text(m.Language, "mail.help_desk", nil)
	}
	return mail.Message{
		To: m.Address, ID: m.ID,
		Subject: s.Text(m.Language, stem+".subject", args),
		Text:    s.Text(m.Language, stem+".body", args) + "\n" + s.Text(m.Language, "mail.foot", args) + "\n",
	}, nil
}

// digest gives the lines of a digest in words. Each says a kind of mail, an institution's
// code, and a path or a request ID.
func (s *Service) digest(m store.Message) string {
	var out []string
	for line := range strings.SplitSeq(m.Args["Lines"], "\n") {
		f := strings.Fields(line)
		if len(f) == 3 {
			out = append(out, s.Text(m.Language, "mail.digest."+f[0], map[string]any{"HolderCode": f[1], "Link": s.Site + f[2], "RequestID": f[2]}))
		}
	}
	return strings.Join(out, "\n")
}
