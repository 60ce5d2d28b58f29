package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// leafKit is the kit of everybody: it needs nothing of ours.
const leafKit = "internal/testkit"

// isKit says whether a package is there for tests alone: the leaf kit, or the kit of the
// package in its parent directory, as internal/store/storetest. Program code never
// imports it.
func isKit(short string) bool { return short == leafKit || kitOf(short) != "" }

// kitOf gives the package whose tests a kit helps; "" where it is no kit of a package.
func kitOf(short string) string {
	parent := strings.TrimSuffix(short, "/"+filepath.Base(short))
	if filepath.Base(short) != filepath.Base(parent)+"test" {
		return ""
	}
	return parent
}

// levelForTests gives the line of a package or kit. The leaf kit stands below line 0; the
// kit of a package stands on the line of that package.
func levelForTests(short string) (int, bool) {
	if short == leafKit {
		return -1, true
	}
	if of := kitOf(short); of != "" {
		short = of
	}
	_, level, ok := row(short)
	return level, ok
}

// TestKitsImportDown: a kit imports packages of its own line or lower, and kits of lower
// lines. So the tests of a package can use every kit below it without a circle, and
// nothing is a reason to write a helper again.
func TestKitsImportDown(t *testing.T) {
	kits := 0
	for _, p := range repo(t).ours {
		from := p.Short()
		if !isKit(from) {
			continue
		}
		kits++
		level, ok := levelForTests(from)
		if !ok {
			t.Errorf("%s is the kit of a package that has no line", from)
		}
		for _, path := range p.Imports {
			if !strings.HasPrefix(path, module+"/") {
				if from == leafKit && !standard(t, path) {
					t.Errorf("%s imports %s: it uses the standard library alone", from, path)
				}
				continue
			}
			to := strings.TrimPrefix(path, module+"/")
			target, ok := levelForTests(to)
			if !ok || target > level || isKit(to) && target == level {
				t.Errorf("%s (line %d) imports %s: a kit imports down", from, level, to)
			}
		}
	}
	if kits < 5 {
		t.Errorf("found %d kits: the rule looks at nothing", kits)
	}
}

// TestTestsImportDown: the tests of a package import nothing that stands above it, as the
// package itself.
func TestTestsImportDown(t *testing.T) {
	for _, p := range repo(t).ours {
		from := p.Short()
		if slices.Contains(testsOnly, from) || isKit(from) {
			continue
		}
		level, _ := levelForTests(from) // one without is told by TestImportsGoDown
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if !strings.HasPrefix(path, module+"/") {
				continue
			}
			to := strings.TrimPrefix(path, module+"/")
			target, ok := levelForTests(to)
			if from == "internal/lint" && (to == "internal/issuance" || kitOf(to) == "internal/issuance") {
				continue // what is linted is what issuance makes
			}
			if !ok || target > level {
				t.Errorf("the tests of %s (line %d) import %s", from, level, to)
			}
		}
	}
}

// skips are the calls that leave a test out, and those by which a test would decide that
// by itself. They stand in the leaf kit alone, which fails in CI where something is
// missing.
var skips = []string{"Skip", "Skipf", "SkipNow", "LookPath"}

// skipWords are the only words before skip in a script: the quick run, and a machine on
// which nobody may say who logged in, which is an error in CI.
var skipWords = []string{"[short]", "[!login]"}

func TestOnlyTheKitSkips(t *testing.T) {
	fset, found := token.NewFileSet(), 0
	for _, name := range tracked(t) {
		path := filepath.Join(repo(t).root, name)
		if filepath.Ext(name) == ".txtar" {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(raw)) {
				words := strings.Fields(line)
				at := slices.Index(words, "skip")
				if at == 0 || at == 1 && !slices.Contains(skipWords, words[0]) {
					t.Errorf("%s: %s", name, line)
				}
			}
			continue
		}
		dir := filepath.Dir(name)
		if !strings.HasSuffix(name, "_test.go") && !isKit(dir) {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			what, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains(skips, what.Sel.Name) {
				return true
			}
			if dir == leafKit {
				found++
			} else {
				t.Errorf("%s:%d calls %s: testkit has Tool, Missing, Long and Asked for that", name, fset.Position(call.Pos()).Line, what.Sel.Name)
			}
			return true
		})
	}
	if found != 4 {
		t.Errorf("%s skips or looks for programs at %d places, want 4", leafKit, found)
	}
}
