package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/mail"
	"inkan/internal/mail/sink/sinktest"
	"inkan/internal/notify"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// relay is a sender that answers as a test wants.
type relay struct {
	mu     sync.Mutex
	answer func(mail.Message) error
	sent   []mail.Message
	tries  int
}

func (r *relay) Send(_ context.Context, m mail.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.answer != nil {
		err := r.answer(m)
		if err != nil {
			return err
		}
	}
	r.sent = append(r.sent, m)
	return nil
}

type office struct {
	*notify.Service
	t     *testing.T
	db    *store.DB
	relay *relay
	clock *testkit.FakeClock
	log   *testkit.Log
}

func newOffice(t *testing.T, dsn string) *office {
	t.Helper()
	o := &office{t: t, relay: &relay{}, clock: testkit.NewClock(time.Date(2026, 11, 23, 5, 5, 0, 0, time.UTC)), log: &testkit.Log{}}
	o.db = storetest.Open(t, dsn, o.clock.Now)
	o.Service = notify.New(notify.Config{DB: o.db, Sender: o.relay, Text: i18n.Text, Now: o.clock.Now, Log: o.log.Logger()})
	return o
}

// run runs a test on each engine.
func run(t *testing.T, test func(t *testing.T, o *office)) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) { test(t, newOffice(t, storetest.Migrated(t, engine))) })
	}
}

var must = testkit.Must

func revoked(id string) store.Message {
	return store.Message{ID: "revoked/" + id, Kind: "revoked", Request: "202611230000001", Address: "clinic@example.jp", Language: "ja",
		Args: map[string]string{"HolderCode": "0110119153", "Terminal": "受付1号機", "Reason": "keyCompromise", "At": "2026-11-23T05:05:00Z"}}
}

func downloaded(id string) store.Message {
	return store.Message{ID: "downloaded/" + id, Kind: "downloaded", Request: "202611230000001", Address: "clinic@example.jp", Language: "en",
		Args: map[string]string{"HolderCode": "0110119153", "Terminal": "受付1号機", "Source": "192.0.2.7", "At": "2026-11-23T05:05:00Z"}}
}

func (o *office) add(messages ...store.Message) {
	o.t.Helper()
	must(o.t, o.db.Update(o.t.Context(), func(tx *store.Tx) error {
		for _, m := range messages {
			err := tx.AddMessage(m)
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

func (o *office) drain(want int) {
	o.t.Helper()
	n, err := o.Drain(o.t.Context())
	must(o.t, err)
	if n != want {
		o.t.Errorf("%d mails left, want %d", n, want)
	}
}

func (o *office) delayed(want int) {
	o.t.Helper()
	n, err := o.Delayed(o.t.Context())
	must(o.t, err)
	if n != want {
		o.t.Errorf("%d mails are delayed, want %d", n, want)
	}
}

func (o *office) audit() []audit.AuditRecord {
	o.t.Helper()
	var all []audit.AuditRecord
	must(o.t, o.db.View(o.t.Context(), func(tx *store.Tx) error {
		var err error
		all, err = storetest.Records(tx, 0)
		return err
	}))
	return all
}

func (o *office) kinds() string {
	o.t.Helper()
	var out []string
	for _, r := range o.audit() {
		out = append(out, r.Kind)
	}
	return strings.Join(out, " ")
}

func TestSendsOnce(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.add(revoked("1"), downloaded("1"), revoked("1"))
		o.drain(2)
		o.drain(0)
		o.clock.Advance(1000 * time.Hour)
		o.drain(0)
		for _, r := range o.audit() {
			if r.Kind != "mail.sent" || r.Subject != "202611230000001" || r.Actor != "system/notify" ||
				strings.Contains(string(r.Body), "example.jp") || strings.Contains(string(r.Body), "0110119153") {
				t.Errorf("audit record %+v %s", r, r.Body)
			}
		}
		if o.kinds() != "mail.sent mail.sent" {
			t.Errorf("audit: %s", o.kinds())
		}
	})
}

func TestWords(t *testing.T) {
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	hold := revoked("hold")
	hold.Args["Reason"] = "certificateHold"
	english := revoked("en")
	english.Language = "en"
	japanese := downloaded("ja")
	japanese.Language = "ja"
	o.HelpDesk = map[string]string{"en": "0120-000-000 (Mon-Fri 8:00-18:00)"}
	o.add(revoked("1"), downloaded("1"), hold, english, japanese)
	o.drain(5)
	want := map[string][]string{
		"revoked/1":     {"【クライアント証明書 失効完了の通知】", "0110119153", "「受付1号機」", "2026年11月23日 14時05分", "ほかの人の手に渡った", "発行通知書に書いてある窓口"},
		"revoked/hold":  {"【クライアント証明書 一時停止のお知らせ】", "0110119153", "停止は解くことができます"},
		"revoked/en":    {"Your client certificate was revoked", "0110119153", "23 November 2026, 14:05 (Japan time)", "somebody else's hands", "0120-000-000 (Mon-Fri"},
		"downloaded/1":  {"Your client certificate was downloaded", "0110119153", "受付1号機", "23 November 2026, 14:05 (Japan time)", "192.0.2.7", "not you"},
		"downloaded/ja": {"【クライアント証明書 ダウンロードのお知らせ】", "0110119153", "2026年11月23日 14時05分", "お心当たりがないとき"},
	}
	for _, m := range o.relay.sent {
		whole := m.Subject + "\n" + m.Text
		for _, words := range want[m.ID] {
			if !strings.Contains(whole, words) {
				t.Errorf("%s does not say %q:\n%s", m.ID, words, whole)
			}
		}
		if strings.ContainsAny(whole, "{}") || strings.Contains(whole, "mail.r") || strings.Contains(whole, "mail.h") || m.To != "clinic@example.jp" {
			t.Errorf("%s has a hole:\n%s", m.ID, whole)
		}
		delete(want, m.ID)
	}
	if len(want) > 0 {
		t.Errorf("not sent: %v", want)
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	for reason := pki.Reason(0); reason < 16; reason++ {
		for _, lang := range i18n.Languages {
			key := "mail.reason." + reason.String()
			if reason.String() != "" && i18n.Text(lang, key, nil) == key {
				t.Errorf("no words for %s in %s", reason, lang)
			}
		}
	}
}

func TestTriesAgain(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.relay.answer = func(mail.Message) error { return fmt.Errorf("relay: %w", &mail.Error{Code: 451}) }
		o.add(revoked("1"))
		waits := []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 3 * time.Minute, 10 * time.Minute, 30 * time.Minute, 90 * time.Minute, 4 * time.Hour, 6 * time.Hour, 24 * time.Hour, 24 * time.Hour}
		o.drain(0)
		for i, wait := range waits {
			o.clock.Advance(wait - time.Second)
			o.drain(0)
			if o.relay.tries != i+1 {
				t.Fatalf("tried %d times a second before pause %d was over, want %d", o.relay.tries, i, i+1)
			}
			o.delayed(1)
			o.clock.Advance(2 * time.Second)
			o.drain(0)
			if o.relay.tries != i+2 {
				t.Fatalf("tried %d times after pause %d, want %d", o.relay.tries, i, i+2)
			}
		}
		o.relay.answer = nil
		o.clock.Advance(10000 * time.Hour)
		o.drain(0)
		o.delayed(0) // given up
		if o.relay.tries != 12 || o.kinds() != "mail.given_up" {
			t.Errorf("tried %d times, audit %s", o.relay.tries, o.kinds())
		}
		if strings.Contains(o.log.String(), "example.jp") {
			t.Error("an address is in the log")
		}
	})
}

func TestComesThroughAtLast(t *testing.T) {
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	o.relay.answer = func(mail.Message) error { return errors.New("something") }
	o.add(revoked("1"))
	o.drain(0)
	o.relay.answer = nil
	o.clock.Advance(2 * time.Minute)
	o.drain(1)
	o.delayed(0)
	if o.kinds() != "mail.sent" {
		t.Errorf("audit: %s", o.kinds())
	}
}

// One mail that is refused does not keep the next one waiting; a relay that is away is
// not asked once for each mail.
func TestOneForAll(t *testing.T) {
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	o.relay.answer = func(m mail.Message) error {
		if m.ID == "revoked/1" {
			return &mail.Error{Permanent: true, Code: 550}
		}
		return nil
	}
	o.add(revoked("1"), revoked("2"), revoked("3"))
	o.drain(2)
	if o.kinds() != "mail.given_up mail.sent mail.sent" && o.kinds() != "mail.sent mail.given_up mail.sent" && o.kinds() != "mail.sent mail.sent mail.given_up" {
		t.Errorf("audit: %s", o.kinds())
	}

	o.relay.answer = func(mail.Message) error { return &mail.Error{} }
	o.relay.tries = 0
	for i := range 20 {
		o.add(revoked(fmt.Sprint("away", i)))
	}
	o.drain(0)
	if o.relay.tries != 1 {
		t.Errorf("a relay that is away was asked %d times", o.relay.tries)
	}
	o.relay.answer = nil
	o.drain(0) // the pause holds for all
	o.clock.Advance(2 * time.Minute)
	o.drain(20)
}

func TestManyInOneGo(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		var all []store.Message
		for i := range 120 {
			all = append(all, revoked(fmt.Sprint(i)))
		}
		o.add(all...)
		o.drain(120)
	})
}

// Two nodes drain one outbox: each mail leaves once.
func TestTwoNodes(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		var all []store.Message
		for i := range 80 {
			all = append(all, revoked(fmt.Sprint(i)))
		}
		o.add(all...)
		other := notify.New(o.Config)
		var group sync.WaitGroup
		for _, s := range []*notify.Service{o.Service, other} {
			group.Go(func() {
				_, err := s.Drain(t.Context())
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		seen := map[string]int{}
		for _, m := range o.relay.sent {
			seen[m.ID]++
		}
		if len(seen) != 80 || len(o.relay.sent) != 80 {
			t.Errorf("%d mails left, %d different ones", len(o.relay.sent), len(seen))
		}
	})
}

// A stop in the middle of a batch records what left and puts the rest back.
func TestStop(t *testing.T) {
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	ctx, cancel := context.WithCancel(t.Context())
	o.relay.answer = func(mail.Message) error {
		cancel()
		return nil
	}
	o.add(revoked("1"), revoked("2"), revoked("3"))
	n, err := o.Drain(ctx)
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("stopped with %d mails and %v", n, err)
	}
	o.drain(2) // at once: they did not wait for the end of the hold
}

// The hold is over before the batch is: another node may have the rest by now.
func TestSlowRelay(t *testing.T) {
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	o.relay.answer = func(mail.Message) error {
		o.clock.Advance(5 * time.Minute)
		return nil
	}
	o.add(revoked("1"), revoked("2"), revoked("3"))
	o.drain(2)
	o.drain(1)
}

// A mail names what its kind may name and nothing else, so no row of the outbox can
// carry a reference ID to a mailbox (threat RS10).
func TestNoReferenceID(t *testing.T) {
	reference := pki.NewReferenceID().Reveal()
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	for i, name := range []string{"ReferenceID", "referenceId", "Reference", "Password", "Serial"} {
		m := revoked(fmt.Sprint(i))
		m.Args[name] = reference
		o.add(m)
	}
	o.drain(0)
	if o.relay.tries > 0 || strings.Contains(o.log.String(), reference) {
		t.Errorf("%d mails were handed over, log %s", o.relay.tries, o.log)
	}
	for _, r := range o.audit() {
		if r.Kind != "mail.given_up" || strings.Contains(string(r.Body), reference) {
			t.Errorf("audit record %s %s", r.Kind, r.Body)
		}
	}
	o.relay.answer = nil
	o.clock.Advance(10000 * time.Hour)
	o.drain(0)
}

// TestArgumentsOfTheTree reads every store.Message that the program makes: the names
// of its facts are those that a mail may name.
func TestArgumentsOfTheTree(t *testing.T) {
	allowed := strings.Fields("HolderCode Terminal At Source Reason Number RequestID Path Lines")
	found := 0
	files, err := filepath.Glob("../*/*.go")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		if strings.HasSuffix(file, "_test.go") || !bytes.Contains(text, []byte("store.Message{")) {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		must(t, err)
		ast.Inspect(tree, func(n ast.Node) bool {
			pair, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			name, ok := pair.Key.(*ast.Ident)
			args, isMap := pair.Value.(*ast.CompositeLit)
			if !ok || !isMap || name.Name != "Args" {
				return true
			}
			found++
			for _, e := range args.Elts {
				key := strings.Trim(e.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value, `"`)
				if !slices.Contains(allowed, key) {
					t.Errorf("%s puts %q into a mail", file, key)
				}
			}
			return true
		})
	}
	if found < 2 {
		t.Errorf("only %d messages found: the scan is blind", found)
	}
}

func TestUnsendable(t *testing.T) {
	for name, change := range map[string]func(*store.Message){
		"no address":     func(m *store.Message) { m.Address = "" },
		"unknown kind":   func(m *store.Message) { m.Kind = "lottery" },
		"no time":        func(m *store.Message) { m.Args["At"] = "yesterday" },
		"unknown reason": func(m *store.Message) { m.Args["Reason"] = "removeFromCRL" },
		"fact missing":   func(m *store.Message) { delete(m.Args, "Terminal") },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, storetest.Migrated(t, store.SQLite))
			m := revoked("1")
			change(&m)
			o.add(m, revoked("2"))
			o.drain(1)
			o.clock.Advance(10000 * time.Hour)
			o.drain(0)
			if o.relay.tries != 1 || !strings.Contains(o.kinds(), "mail.given_up") {
				t.Errorf("%d tries, audit %s", o.relay.tries, o.kinds())
			}
		})
	}
}

// The whole way: outbox, MIME, SMTP, the demo's sink.
func TestThroughSMTP(t *testing.T) {
	o := newOffice(t, storetest.Migrated(t, store.SQLite))
	s, address := sinktest.Start(t)
	var err error
	o.Sender, err = mail.New(mail.Config{Address: address, From: "no-reply@pki.example.jp", TLS: mail.TLSNone})
	must(t, err)
	o.add(revoked("1"))
	o.drain(1)
	mails := s.Mails()
	if len(mails) != 1 || mails[0].Subject != "【クライアント証明書 失効完了の通知】" || !strings.Contains(mails[0].Text, "端末「受付1号機」の電子証明書を失効しました。") {
		t.Errorf("caught %+v", mails)
	}
}
