package notify_test

import (
	"strings"
	"testing"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// TestHoldersMails writes each mail that a holder's own acts cause, in both languages:
// links are whole and on our site, and a digest waits and has its lines in words.
func TestHoldersMails(t *testing.T) {
	const token = "AAAAAAAAAAAAAAAAAAAAAA"
	at := map[string]string{"At": "2026-11-23T05:05:00Z", "HolderCode": "0110119153"}
	with := func(more map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{at, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	kinds := map[string]struct {
		args map[string]string
		want []string
	}{
		"confirm": {with(map[string]string{"Path": "/p/rcr/c/" + token}), []string{"https://portal.test/p/rcr/c/" + token + "\n", "0110119153"}},
		"receipt": {with(map[string]string{"Path": "/p/status/l/" + token, "RequestID": "202611230000001", "Terminal": "受付1号機"}),
			[]string{"https://portal.test/p/status/l/" + token + "\n", "202611230000001", "受付1号機"}},
		"applied": {with(map[string]string{"RequestID": "202611230000001"}), []string{"202611230000001", "0110119153"}},
		"renewed": {with(map[string]string{"RequestID": "202611230000001", "Terminal": "受付1号機", "Source": "192.0.2.7"}), []string{"202611230000001", "192.0.2.7"}},
		"digest": {map[string]string{"At": at["At"], "Lines": "confirm 0110119153 /p/rcr/c/" + token + "\napplied 0110119153 202611230000002"},
			[]string{"https://portal.test/p/rcr/c/" + token + "\n", "202611230000002"}},
	}
	for _, lang := range i18n.Languages {
		for kind, k := range kinds {
			o := newOffice(t, storetest.Migrated(t, store.SQLite))
			o.Site = "https://portal.test"
			o.add(store.Message{ID: kind, Kind: kind, Address: "clinic@example.jp", Language: lang, Args: k.args, Due: o.clock.Now().Add(time.Hour)})
			o.drain(0)
			o.clock.Advance(time.Hour)
			o.drain(1)
			if len(o.relay.sent) != 1 {
				t.Errorf("%s %s: did not leave", lang, kind)
				continue
			}
			m := o.relay.sent[0]
			for _, want := range k.want {
				if !strings.Contains(m.Text, want) {
					t.Errorf("%s %s does not say %q:\n%s", lang, kind, want, m.Text)
				}
			}
			if strings.ContainsAny(m.Subject+m.Text, "{}") || strings.Contains(m.Subject, "mail.") {
				t.Errorf("%s %s has a hole: %s\n%s", lang, kind, m.Subject, m.Text)
			}
		}
	}
}
