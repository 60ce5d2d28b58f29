package e2e

import (
	"strings"
	"testing"

	"inkan/internal/testkit"
)

// says wants a line of a tool's output to be there.
func says(t *testing.T, out, want string) {
	t.Helper()
	if !strings.Contains(out, want) {
		t.Errorf("want %q in what the tool says:\n%s", want, out)
	}
}

// bundle puts certificate files into one, as tools want their trust anchors.
func bundle(t *testing.T, dir, name string, files ...string) string {
	t.Helper()
	var all []byte
	for _, f := range files {
		all = append(all, testkit.ReadFile(t, f)...)
	}
	return testkit.WriteFile(t, dir, name, all)
}
