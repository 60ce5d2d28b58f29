package ops_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/internal/ops"
)

var update = flag.Bool("update", false, "write what is not compared into docs/TRUST.md")

// TestListOfUncovered: docs/TRUST.md lists what a verification does not compare, all of it
// and nothing else.
func TestListOfUncovered(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "TRUST.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- uncovered -->\n", "<!-- /uncovered -->\n"
	before, rest, ok := strings.Cut(string(raw), begin)
	listed, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the list", path)
	}
	var want strings.Builder
	want.WriteString("| table | columns | why they are not compared |\n|---|---|---|\n")
	for _, g := range ops.Uncovered() {
		where := ""
		if g.Where != "" {
			where = fmt.Sprintf(", where `%s`", g.Where)
		}
		fmt.Fprintf(&want, "| `%s`%s | %s | %s |\n", g.Table, where, strings.Join(g.Columns, ", "), g.Reason)
	}
	if *update {
		err = os.WriteFile(path, []byte(before+begin+want.String()+end+after), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if listed != want.String() {
		t.Errorf("%s does not list what ops.Uncovered says (go test ./internal/ops -run ListOfUncovered -update)", path)
	}
}
