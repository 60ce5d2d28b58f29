package archtest

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tests into the table of docs/THREATS.md")

const threatFile = "docs/THREATS.md"

// The flows of the threat list, in its order, and a test's name: the rows it tries to
// break, then words.
var (
	flows      = []string{"AP", "LE", "DL", "RS", "AG", "RV", "ST", "CO", "BI", "NO", "CK", "AU", "PL"}
	threatID   = `(?:` + strings.Join(flows, "|") + `)[1-9][0-9]?`
	threatTest = regexp.MustCompile(`^TestThreat((?:` + threatID + `)+)(?:[A-Z][A-Za-z0-9]*)?$`)
	eachID     = regexp.MustCompile(threatID)
	threatRow  = regexp.MustCompile(`^\| (` + threatID + `) \| ([^|]+) \| ([^|]+) \| ([^|]*) \| ([^|]*) \|$`)
)

// threatTests gives the tests of each row, as the table names them.
func threatTests(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	fset := token.NewFileSet()
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, filepath.Join(repo(t).root, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "TestThreat") {
				continue
			}
			m := threatTest.FindStringSubmatch(f.Name.Name)
			if m == nil {
				t.Errorf("%s: %s does not begin with the rows of the threat list that it tries to break", name, f.Name.Name)
				continue
			}
			for _, id := range eachID.FindAllString(m[1], -1) {
				out[id] = append(out[id], fmt.Sprintf("%s %s", strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "internal/"), strings.TrimPrefix(f.Name.Name, "TestThreat")))
			}
		}
	}
	for id := range out {
		slices.Sort(out[id])
	}
	return out
}

// TestListOfThreats: the table of docs/THREATS.md names every test of the security
// suite on the rows that its name names, and no test that does not exist.
func TestListOfThreats(t *testing.T) {
	path := filepath.Join(repo(t).root, threatFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tests := threatTests(t)
	var before, after []string
	texts, remarks, listed := map[string]string{}, map[string]string{}, map[string]string{}
	table := &before
	for line := range strings.SplitSeq(strings.TrimSuffix(string(raw), "\n"), "\n") {
		m := threatRow.FindStringSubmatch(line)
		if m == nil {
			*table = append(*table, line)
			continue
		}
		table = &after
		texts[m[1]], listed[m[1]], remarks[m[1]] = m[2]+" | "+m[3], m[4], m[5]
	}
	ids := []string{}
	for _, of := range []map[string]string{listed, named(tests)} {
		for id := range of {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return place(a) - place(b) })
	for _, id := range ids {
		want, ok := named(tests)[id]
		if !ok {
			want = "–"
		}
		if want == "–" && strings.TrimSpace(remarks[id]) == "" {
			t.Errorf("%s: neither a test nor a word why there is none", id)
		}
		if listed[id] != want && !*update {
			t.Errorf("%s: %s lists %q, the tests are %q (go test ./internal/archtest -run ListOfThreats -update)", id, threatFile, listed[id], want)
		}
		if texts[id] == "" {
			t.Errorf("%s: %s does not say what can go wrong and what must hold", id, threatFile)
		}
		before = append(before, fmt.Sprintf("| %s | %s | %s | %s |", id, texts[id], want, remarks[id]))
	}
	if *update {
		err = os.WriteFile(path, []byte(strings.Join(append(before, after...), "\n")+"\n"), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(tests) < 40 {
		t.Errorf("tests of %d rows found: the test is blind", len(tests))
	}
}

// named gives the text of the tests' column.
func named(tests map[string][]string) map[string]string {
	out := map[string]string{}
	for id, list := range tests {
		out[id] = "`" + strings.Join(list, "` `") + "`"
	}
	return out
}

// place orders rows as the threat list does.
func place(id string) int {
	n, _ := strconv.Atoi(id[2:])
	return 100*slices.Index(flows, id[:2]) + n
}
