package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What a comment or a document may name by a number.
var (
	adrName       = regexp.MustCompile(`\bADRs? ([0-9]+)(?:(?:, | and | to )([0-9]+))*`)
	number        = regexp.MustCompile(`[0-9]+`)
	threatName    = regexp.MustCompile(`\b` + threatID + `\b`)
	invariantName = regexp.MustCompile(`(?i)\binvariants? ([0-9]+)\b`)
	testName      = regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]+\b`)
)

// TestReferencesResolve: whoever reads a comment finds the decision, the threat, the
// invariant and the test that it names.
func TestReferencesResolve(t *testing.T) {
	root := repo(t).root
	invariants := map[string]bool{}
	raw, err := os.ReadFile(filepath.Join(root, "docs/INVARIANTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([0-9]+)\. \*\*`).FindAllStringSubmatch(string(raw), -1) {
		invariants[m[1]] = true
	}
	threats := map[string]bool{}
	raw, err = os.ReadFile(filepath.Join(root, threatFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		m := threatRow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m != nil {
			threats[m[1]] = true
		}
	}
	texts := map[string]string{}
	tests := map[string]bool{}
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, ".sql") && !strings.HasSuffix(name, ".txtar") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(raw)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(raw), -1) {
			tests[m[1]] = true
		}
	}
	seen := map[string]int{}
	for name, text := range texts {
		for _, m := range adrName.FindAllString(text, -1) {
			for _, n := range number.FindAllString(m, -1) {
				seen["ADR"]++
				found, err := filepath.Glob(filepath.Join(root, "docs/adr", fmt.Sprintf("%04d-*.md", atoi(n))))
				if err != nil || len(found) != 1 {
					t.Errorf("%s: there is no ADR %s", name, n)
				}
			}
		}
		for _, m := range invariantName.FindAllStringSubmatch(text, -1) {
			seen["invariant"]++
			if !invariants[m[1]] {
				t.Errorf("%s: docs/INVARIANTS.md has no invariant %s", name, m[1])
			}
		}
		for _, id := range threatName.FindAllString(text, -1) {
			seen["threat"]++
			if !threats[id] {
				t.Errorf("%s: %s has no row %s", name, threatFile, id)
			}
		}
		if !strings.HasPrefix(name, "docs/") {
			continue
		}
		for _, test := range testName.FindAllString(text, -1) {
			seen["test"]++
			if !hasTest(tests, test) {
				t.Errorf("%s: there is no %s", name, test)
			}
		}
	}
	for what, least := range map[string]int{"ADR": 60, "invariant": 15, "threat": 300, "test": 60} {
		if seen[what] < least {
			t.Errorf("%d times %s: the test is blind", seen[what], what)
		}
	}
}

// hasTest says whether there is a test, or where a document ends the name with a star or a
// word of several, one that begins so.
func hasTest(tests map[string]bool, name string) bool {
	if tests[name] {
		return true
	}
	for test := range tests {
		if strings.HasPrefix(test, name) {
			return true
		}
	}
	return false
}

func atoi(digits string) int {
	n, _ := strconv.Atoi(digits) // digits, by the expression
	return n
}
