package notify_test

import (
	"strings"
	"testing"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// TestThreatRV4Mails: the mails to the address that was typed stop when somebody lets
// them name more than the number and the time; those that leave say what is done.
func TestThreatRV4Mails(t *testing.T) {
	for _, kind := range []string{"revocation_received", "revocation_done", "revocation_refused"} {
		for _, lang := range []string{"ja", "en"} {
			o := newOffice(t, storetest.Migrated(t, store.SQLite))
			m := revoked(kind)
			leak := m
			leak.ID, leak.Kind, leak.Language = "leak", kind, lang
			m.Kind, m.Language = kind, lang
			m.Args = map[string]string{"Number": "R-20261127-000007", "At": m.Args["At"]}
			o.add(leak, m)
			o.drain(1)
			if len(o.relay.sent) != 1 {
				t.Fatalf("%s: %d mails", kind, len(o.relay.sent))
			}
			text := o.relay.sent[0].Subject + o.relay.sent[0].Text
			if !strings.Contains(text, "R-20261127-000007") || strings.ContainsAny(text, "{}") || strings.Contains(text, leak.Args["Terminal"]) {
				t.Errorf("%s: %s", kind, text)
			}
		}
	}
}

// Every kind of mail about a revocation is written whole, in both languages.
func TestMailsOfRevocations(t *testing.T) {
	for _, kind := range []string{"lifted", "revocation_asked", "revocation_dated", "revocation_undated"} {
		for _, lang := range []string{"ja", "en"} {
			o := newOffice(t, storetest.Migrated(t, store.SQLite))
			m := revoked(kind)
			m.Kind, m.Language = kind, lang
			switch kind {
			case "lifted", "revocation_undated":
				delete(m.Args, "Reason")
			case "revocation_asked":
				m.Args["Number"] = "R-20261127-000007"
			}
			o.add(m)
			o.drain(1)
			if len(o.relay.sent) != 1 || strings.ContainsAny(o.relay.sent[0].Text, "{}") || !strings.Contains(o.relay.sent[0].Text, m.Args["Terminal"]) {
				t.Errorf("%s %s: %+v", kind, lang, o.relay.sent)
			}
		}
	}
}
