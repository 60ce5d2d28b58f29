package app

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/i18n"
)

// TestEveryPartHasWords: whatever can be wrong is told in both languages: what, what it
// means, what to do. The jobs are read from where they are started.
func TestEveryPartHasWords(t *testing.T) {
	raw, err := os.ReadFile("jobs.go")
	if err != nil {
		t.Fatal(err)
	}
	parts := []string{partDraining, partStatus, partRoot, partClock, partRelay, partUndecided, partUnheld, partUnlisted, partSignerSilent, partEvidence}
	for _, m := range regexp.MustCompile(`s\.every\(ctx, running, "(\w+)"`).FindAllStringSubmatch(string(raw), -1) {
		parts = append(parts, m[1])
	}
	if len(parts) < 10 {
		t.Errorf("only the parts %v: the scan is blind", parts)
	}
	for _, part := range stopping {
		if !slices.Contains(parts, part) {
			t.Errorf("no part %q can fail", part)
		}
	}
	for _, part := range parts {
		w := newWrong(part, time.Now(), map[string]any{"Until": time.Now(), "Issuer": "g1"})
		for _, words := range []map[string]string{w.What, w.Means, w.Do} {
			for _, lang := range i18n.Languages {
				if words[lang] == "" || strings.HasPrefix(words[lang], "health.") || strings.Contains(words[lang], "{") {
					t.Errorf("%s in %s: %q", part, lang, words[lang])
				}
			}
		}
	}
}

func TestHealthRemembersSince(t *testing.T) {
	h := health{since: map[string]time.Time{}}
	if !h.set("mail", true) || h.set("mail", true) {
		t.Error("a failure is new once")
	}
	since := h.since["mail"]
	h.set("mail", true)
	if h.since["mail"] != since {
		t.Error("the second failure moved the time of the first")
	}
	if !h.set("mail", false) || h.set("mail", false) || len(h.since) != 0 {
		t.Error("that it works is new once")
	}
	if !ready([]wrong{newWrong("mail", since, nil), newWrong("crl", since, nil)}) || ready([]wrong{newWrong("mail", since, nil), newWrong("signer", since, nil)}) {
		t.Error("a node serves without mail, and does not without its signer")
	}
}
