package notify_test

import (
	"strings"
	"testing"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// TestThreatRS9RS10RenewalIsTold: the mail about a renewal leaves in both languages, and
// a row that brought a reference ID along would not.
func TestThreatRS9RS10RenewalIsTold(t *testing.T) {
	for _, lang := range []string{"ja", "en"} {
		o := newOffice(t, storetest.Migrated(t, store.SQLite))
		m := downloaded("renewed")
		m.Kind, m.Language = "renewed", lang
		m.Args["RequestID"] = m.Request
		leak := m
		leak.ID, leak.Args = "leak", map[string]string{"ReferenceID": "hT7kWm4Qzr"}
		for name, value := range m.Args {
			leak.Args[name] = value
		}
		o.add(m, leak)
		o.drain(1)
		if len(o.relay.sent) != 1 || strings.ContainsAny(o.relay.sent[0].Text, "{}") || !strings.Contains(o.relay.sent[0].Text, m.Request) ||
			strings.Contains(o.relay.sent[0].Text, "hT7kWm4Qzr") {
			t.Errorf("%s: %+v", lang, o.relay.sent)
		}
	}
}
