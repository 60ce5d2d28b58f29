package pki_test

import (
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
)

func aRelease() pki.Release {
	return pki.Release{Version: pki.Version{1, 10, 0}, Minimum: pki.Version{1, 2, 0}, Until: time.Date(2027, 2, 25, 0, 0, 0, 0, time.UTC),
		Files: []pki.ReleaseFile{{Name: "agent.msi", Size: 7, SHA256: [32]byte{1}}, {Name: "agent.tar.gz", Size: 8, SHA256: [32]byte{2}}}}
}

// What is read is what was written, and nothing else reads as a release.
func TestRelease(t *testing.T) {
	text := aRelease().Text()
	got, err := pki.ParseRelease(text)
	if err != nil || got.Text() != text || got.Version.Compare(got.Minimum) <= 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(string) string{
		"empty":             func(string) string { return "" },
		"another head":      func(s string) string { return strings.Replace(s, "v1", "v2", 1) },
		"no end of line":    func(s string) string { return strings.TrimSuffix(s, "\n") },
		"a line more":       func(s string) string { return s + "\n" },
		"an unknown line":   func(s string) string { return s + "run agent.msi\n" },
		"version of two":    func(s string) string { return strings.Replace(s, "1.10.0", "1.10", 1) },
		"version with zero": func(s string) string { return strings.Replace(s, "1.10.0", "01.10.0", 1) },
		"no label":          func(s string) string { return strings.Replace(s, "version ", "", 1) },
		"local time":        func(s string) string { return strings.Replace(s, "00:00Z", "00:00+09:00", 1) },
		"capital hash":      func(s string) string { return strings.Replace(s, "file 01", "file 0A", 1) },
		"short hash":        func(s string) string { return strings.Replace(s, "file 01", "file 1", 1) },
		"size with a plus":  func(s string) string { return strings.Replace(s, " 7 ", " +7 ", 1) },
		"negative size":     func(s string) string { return strings.Replace(s, " 7 ", " -7 ", 1) },
		"a path":            func(s string) string { return strings.Replace(s, "agent.msi", "../agent.msi", 1) },
		"old minimum":       func(s string) string { return strings.Replace(s, "minimum 1.2.0", "minimum 1.11.0", 1) },
	} {
		broken := change(text)
		if broken == text {
			t.Errorf("%s: nothing changed", name)
		}
		_, err := pki.ParseRelease(broken)
		if pki.ClassOf(err) != pki.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add(aRelease().Text())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := pki.ParseRelease(text)
		if err == nil && r.Text() != text {
			t.Errorf("%q reads as %q", text, r.Text())
		}
	})
}
