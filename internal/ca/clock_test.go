package ca_test

import (
	"context"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/ca/catest"
	"inkan/internal/clock"
	"inkan/internal/i18n"
	"inkan/internal/issuance"
	"inkan/internal/mail"
	"inkan/internal/notify"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// relayed counts the mails that left.
type relayed int

func (r *relayed) Send(context.Context, mail.Message) error { *r++; return nil }

// site is an instance with a certificate that nobody has fetched, and everything that
// acts on it by itself.
type site struct {
	*catest.Office
	request pki.Request
	view    *ca.View
	answers answers
	mails   relayed
	office  *notify.Service
}

func newSite(t *testing.T, engine string) *site {
	o := catest.New(t, catest.Options{Engine: engine})
	s := &site{Office: o, request: o.Issued(catest.Application(1))}
	s.view = newView(t, o, o.Clock.Now)
	s.answers = newAnswers(t, o, s.view)
	s.office = notify.New(notify.Config{DB: o.DB, Sender: &s.mails, Text: i18n.Text, Now: o.Clock.Now, Log: o.Log.Logger()})
	must(t, s.DB.Update(t.Context(), func(tx *store.Tx) error {
		return tx.AddMessage(store.Message{ID: "waiting", Kind: "downloaded", Request: s.request.ID, Address: "a@example.jp", Language: "ja",
			Args: map[string]string{"HolderCode": "1", "Terminal": "2", "Source": "192.0.2.1", "At": tx.Now.Format(time.RFC3339)}})
	}))
	return s
}

func (s *site) drain(t *testing.T, code string) {
	t.Helper()
	_, err := s.office.Drain(t.Context())
	wantCode(t, err, code)
}

// facts are what must not change while the time is in doubt.
type facts struct {
	last                                  time.Time
	records, held, revoked, crls, intents int
}

func (s *site) facts() facts {
	var f facts
	s.View(func(tx *store.Tx) error { f.last = tx.Committed(); return nil })
	f.records, f.held = s.Count("audit"), s.Count("sealed_key WHERE stage = 'held'")
	f.revoked, f.crls, f.intents = s.Count("certificate WHERE revoked_at <> 0"), s.Count("crl"), s.Count("intent")
	return f
}

// stands checks that nothing happens, and that status is answered as of before.
func (s *site) stands(t *testing.T, code string) {
	t.Helper()
	before, calls := s.facts(), len(s.Signer.Calls())
	_, err := s.CA.Sweep(t.Context())
	wantCode(t, err, code)
	_, err = s.CA.PublishCRL(t.Context(), issuance.G1)
	wantCode(t, err, code)
	wantCode(t, s.CA.Recover(t.Context(), 0), "")
	s.drain(t, code)
	key := s.Keyed(pki.P256)
	_, err = s.CA.IssueOwn(t.Context(), issuance.ProfileOCSP, "OCSP Responder 9", key.Public(), nil, nil)
	wantCode(t, err, code)
	_, err = s.RA.Revoke(t.Context(), catest.Officer, s.request.Serial, pki.KeyCompromise, "")
	wantCode(t, err, code)
	wantCode(t, s.Clock.Doubt(), code)
	if after := s.facts(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	if s.mails != 0 {
		t.Errorf("%d mails left", s.mails)
	}
	if more := s.Signer.Calls()[calls:]; len(more) > 0 {
		t.Errorf("the signer was asked for %v", more)
	}
	if got := s.answers.ask(t, question(t, s.Office, s.request.Serial)); got.Status != 0 || got.ThisUpdate.After(before.last) {
		t.Errorf("status %d as of %s, last commit %s", got.Status, got.ThisUpdate, before.last)
	}
}

// goesOn checks that all is as it should be.
func (s *site) goesOn(t *testing.T) {
	t.Helper()
	publish(t, s.Office)
	must(t, s.view.Catch(t.Context()))
	wantCode(t, s.Clock.Doubt(), "")
	s.drain(t, "")
	if s.mails != 1 {
		t.Errorf("%d mails left, one was waiting", s.mails)
	}
}

// AU8: a clock that was put back stops everything that bears a time; nothing of the
// past is written again.
func TestThreatAU8(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Run("while running", func(t *testing.T) {
				s := newSite(t, engine)
				s.Jump(-time.Hour)
				s.stands(t, "clock.behind")
				s.Advance(time.Minute)
				s.stands(t, "clock.behind")
				s.Jump(time.Hour)
				s.goesOn(t)
			})
			t.Run("at start", func(t *testing.T) {
				s := newSite(t, engine)
				key := s.Keyed(pki.P256)
				cert, err := s.CA.IssueOwn(t.Context(), issuance.ProfileOCSP, "OCSP Responder 2", key.Public(), nil, nil)
				must(t, err)
				s.Jump(-time.Hour)
				started := s.Node(t, s.DSN)
				v := newView(t, started, started.Clock.Now) // status goes on
				a := answersWith(t, started, v, key, cert)
				if got := a.ask(t, question(t, started, s.request.Serial)); got.Status != 0 {
					t.Errorf("status %d", got.Status)
				}
				_, err = started.CA.PublishCRL(t.Context(), issuance.G1)
				wantCode(t, err, "clock.behind")
				s.Jump(time.Hour)
				publish(t, started)
			})
			t.Run("two nodes 3 s apart", func(t *testing.T) {
				s := newSite(t, engine)
				behind := clock.New(clock.Sources{Wall: func() time.Time { return s.Now().Add(-3 * time.Second) }, Elapsed: func() time.Duration { return 0 },
					Synchronised: func() bool { return false }, Running: func() bool { return false }})
				other := storetest.OpenWith(t, store.Options{DSN: s.DSN, Now: behind.Now, Believe: behind.Believe})
				var last time.Time
				for range 10 {
					for _, db := range []*store.DB{s.DB, other} {
						must(t, db.Update(t.Context(), func(tx *store.Tx) error {
							if !tx.Now.After(last) {
								t.Errorf("%s after %s", tx.Now, last)
							}
							last = tx.Now
							return nil
						}))
					}
				}
			})
		})
	}
}

// AU9: a clock that jumps ahead destroys, revokes and sends nothing, and leaves no
// trace in the time of the database; put right, all goes on. What a person accepts as
// the time is the time.
func TestThreatAU9(t *testing.T) {
	const jump = 200 * 24 * time.Hour
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Run("put right again", func(t *testing.T) {
				s := newSite(t, engine)
				s.Jump(jump)
				s.stands(t, "clock.ahead")
				s.Advance(30 * time.Minute)
				s.stands(t, "clock.ahead")
				s.Jump(-jump)
				s.goesOn(t)
				if s.facts().held != 1 {
					t.Error("the key is gone")
				}
			})
			t.Run("after an hour the status is not believed either", func(t *testing.T) {
				s := newSite(t, engine)
				s.Jump(jump)
				s.Advance(time.Hour + time.Second)
				answer, err := s.answers.Answer(t.Context(), question(t, s.Office, s.request.Serial), always)
				must(t, err)
				if string(answer.Body) != string(issuance.OCSPTryLater) {
					t.Error("no tryLater")
				}
			})
			t.Run("at start", func(t *testing.T) {
				s := newSite(t, engine)
				s.Jump(jump)
				started := s.Node(t, s.DSN)
				_, err := started.CA.Sweep(t.Context())
				wantCode(t, err, "clock.ahead")
				if s.facts().held != 1 {
					t.Error("the key is gone")
				}
			})
			t.Run("accepted", func(t *testing.T) {
				s := newSite(t, engine)
				s.Jump(jump)
				s.stands(t, "clock.ahead")
				command := s.Node(t, s.DSN) // another process
				command.Clock.Accept()
				_, err := command.Ops.AcceptClock(t.Context(), catest.Officer)
				wantCode(t, err, "actor.forbidden")
				at, err := command.Ops.AcceptClock(t.Context(), catest.Actor("head", pki.RoleAdmin))
				must(t, err)
				if !at.Equal(s.Now()) {
					t.Errorf("accepted %s, the clock says %s", at, s.Now())
				}
				s.goesOn(t)
				_, err = s.CA.Sweep(t.Context())
				must(t, err)
				if f := s.facts(); f.held != 0 || f.revoked != 1 {
					t.Errorf("at the deadline: %+v", f)
				}
			})
			t.Run("the database was away for two hours", func(t *testing.T) {
				s := newSite(t, engine)
				s.Advance(2 * time.Hour)
				s.goesOn(t)
			})
		})
	}
}
