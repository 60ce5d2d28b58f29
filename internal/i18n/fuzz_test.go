package i18n_test

import (
	"slices"
	"testing"

	"inkan/internal/i18n"
)

// FuzzMatch: whatever a browser wishes, it gets a language that we speak, and the person's
// own choice goes first.
func FuzzMatch(f *testing.F) {
	f.Add("ja,en-US;q=0.7,en;q=0.3", "")
	f.Add("fr", "en")
	f.Add("en;q=NaN, ja;q=-1, *;q=1e999", "xx")
	f.Fuzz(func(t *testing.T, accept, cookie string) {
		if len(accept) > 16<<10 {
			return
		}
		got := i18n.Match(accept, cookie)
		if !slices.Contains(i18n.Languages, got) {
			t.Fatalf("%q", got)
		}
		if slices.Contains(i18n.Languages, cookie) && got != cookie {
			t.Fatalf("%q instead of the person's %q", got, cookie)
		}
	})
}
