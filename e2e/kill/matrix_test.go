package kill

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// row is a point that the code names, and the step in which somebody comes to it.
type row struct{ point, step string }

// rows is the matrix.
var rows = []row{
	{"api.4 before commit", "api"},
	{"api.4 after commit", "api"},
	{"issue.5 before the signer", "api"},
	{"signer.sign admitted", "api"},
	{"signer.journal before sync", "api"},
	{"signer.sign journaled", "api"},
	{"signer.sign signed", "api"},
	{"issue.5 after the signer", "api"},
	{"issue.6 assembled", "api"},
	{"issue.7 before commit", "api"},
	{"issue.7 after commit", "api"},
	{"issue.9 before the view learns", "api"},

	{"renew.1 before commit", "renew"},
	{"renew.1 after commit", "renew"},
	{"renew.2 before commit", "renew"},
	{"renew.2 after commit", "renew"},
	{"issue.4 after commit", "renew"},

	{"approve before commit", "approve"},
	{"approve after commit", "approve"},
	{"issue.1 before commit", "approve"},
	{"issue.1 after commit", "approve"},
	{"issue.2 before the signer", "approve"},
	{"signer.hold sealed", "approve"},
	{"issue.2 after the signer", "approve"},
	{"issue.3 linted", "approve"},
	{"issue.4 before commit", "approve"},
	{"issue.4 after commit", "approve"},
	{"issue.5 after the signer", "approve"},
	{"issue.7 before commit", "approve"},
	{"issue.7 after commit", "approve"},

	{"download.1 before the signer", "download"},
	{"signer.open opened", "download"},
	{"download.1 after the signer", "download"},
	{"download.2 before commit", "download"},
	{"download.2 after commit", "download"},
	{"download.3 before commit", "download"},
	{"download.3 after commit", "download"},
	{"issue.8 before the mail", "mail"},
	{"issue.8 after the mail", "mail"},

	{"revoke before commit", "revoke"},
	{"revoke after commit", "revoke"},
	{"crl.1 before the signer", "revoke"},
	{"signer.crl admitted", "revoke"},
	{"signer.crl journaled", "revoke"},
	{"signer.crl signed", "revoke"},
	{"crl.1 after the signer", "revoke"},
	{"crl.2 before commit", "revoke"},
	{"crl.2 after commit", "revoke"},

	{"flow.1 before commit", "draft"},
	{"flow.2 after commit", "draft"},
	{"apply.1 before commit", "draft"},
	{"apply.1 after commit", "draft"},
	{"apply.2 before commit", "apply"},
	{"apply.2 after commit", "apply"},
	{"issue.8 after the mail", "apply"},
	{"apply.3 before commit", "withdraw"},
	{"apply.3 after commit", "withdraw"},

	{"flow.1 after commit", "wish"},
	{"flow.2 before commit", "wish"},
	{"revocation.1 before commit", "report"},
	{"revocation.1 after commit", "report"},
	{"crl.1 after the signer", "report"},
	{"revocation.2 before commit", "final"},
	{"revocation.2 after commit", "final"},
	{"revocation.3 before commit", "reject"},
	{"revocation.3 after commit", "reject"},
	{"revocation.3 before commit", "lift"},
	{"revocation.3 after commit", "lift"},
	{"revocation.4 before commit", "timeout"},
	{"revocation.4 after commit", "timeout"},
	{"revocation.5 before commit", "dated"},
	{"revocation.5 after commit", "dated"},

	{"checkpoint.1 before the signer", "checkpoint"},
	{"signer.tree admitted", "checkpoint"},
	{"signer.tree journaled", "checkpoint"},
	{"signer.tree signed", "checkpoint"},
	{"checkpoint.1 after the signer", "checkpoint"},
	{"checkpoint.2 before commit", "checkpoint"},
	{"checkpoint.2 after commit", "checkpoint"},

	{"pool.1 before the signer", "pool"},
	{"signer.pool sealed", "pool"},
	{"pool.1 after the signer", "pool"},
	{"pool.2 before commit", "pool"},
	{"pool.2 after commit", "pool"},

	{"own.4 before commit", "own"},
	{"own.4 after commit", "own"},
	{"issue.5 after the signer", "own"},
	{"issue.7 after commit", "own"},
	{"own.8 before the file", "own"},
	{"own.8 before the file is in place", "own"},

	{"sweep.1 before commit", "sweep"},
	{"sweep.1 after commit", "sweep"},
	{"sweep.2 before the signer", "epochs"},
	{"signer.epochs before the journal", "epochs"},
	{"signer.epochs journaled", "epochs"},
	{"shred.1 overwritten", "epochs"},
	{"signer.epochs destroyed", "epochs"},
	{"sweep.2 after the signer", "epochs"},

	{"signer.rotate head written", "rotate"},
	{"signer.rotate closed", "rotate"},
	{"signer.rotate in place", "rotate"},
}

// first are the points that an instance passes when it starts for the first time in a
// month: the epoch's key is made.
var first = []row{{"secret.1 before it is in place", "first"}, {"secret.2 in place", "first"}}

// points reads the names of the points from the source.
func points(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, root := range []string{"../../internal", "../../cmd"} {
		must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !isPoint(call.Fun) {
					return true
				}
				literal, ok := call.Args[0].(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: a point's name is not a literal", path)
					return true
				}
				name, err := strconv.Unquote(literal.Value)
				if err != nil || found[name] {
					t.Errorf("%s: the point %s is not of one place: %v", path, literal.Value, err)
				}
				found[name] = true
				return true
			})
			return nil
		}))
	}
	return found
}

// isPoint says whether an expression is crash.At.
func isPoint(e ast.Expr) bool {
	at, ok := e.(*ast.SelectorExpr)
	if !ok || at.Sel.Name != "At" {
		return false
	}
	pkg, ok := at.X.(*ast.Ident)
	return ok && pkg.Name == "crash"
}

// Every point has a row, and every row a point; docs/ISSUANCE.md says what is true after
// each.
func TestPointsAndRows(t *testing.T) {
	inCode := points(t)
	if len(inCode) < 50 {
		t.Fatalf("found %d points only", len(inCode))
	}
	inMatrix := map[string]bool{}
	for _, row := range slices.Concat(first, rows) {
		inMatrix[row.point] = true
	}
	page, err := os.ReadFile("../../docs/ISSUANCE.md")
	must(t, err)
	for point := range inCode {
		if !bytes.Contains(page, []byte("`"+point+"`")) {
			t.Errorf("docs/ISSUANCE.md does not name the point %q", point)
		}
		if !inMatrix[point] {
			t.Errorf("the point %q has no row: nobody knows what is true after a death there", point)
		}
	}
	for _, row := range signerless {
		if row.point != beforehand {
			inMatrix[row.point] = true
		}
	}
	for point := range inMatrix {
		if !inCode[point] {
			t.Errorf("the row %q has no point in the code", point)
		}
	}
}

// second gives the rows of an engine for the second round: each point once, on one of
// the engines.
func second(turn int) []row {
	var out []row
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.point] && len(seen)%len(storetest.Engines) == turn {
			out = append(out, r)
		}
		seen[r.point] = true
	}
	return out
}

// The crash matrix: on each engine, one instance is killed at every point and started
// again. In the first round one process dies. In the second edge and signer die
// together, so that neither remembers for the other. Then officers decide while the signer
// alone is away.
func TestCrashMatrix(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	for turn, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			p := newPlant(t, engine, false)
			must(t, p.revive())
			began := time.Now()
			for n, round := range [][]row{rows, second(turn)} {
				all := n == 1
				for _, r := range round {
					if !t.Run(r.name(all), func(t *testing.T) { p.die(t, r, all) }) {
						return // what follows would tell of the same
					}
				}
				t.Logf("killed %d times in %v", len(round), time.Since(began).Round(time.Second))
			}
			p.withoutSigner(t, turn)
			must(t, p.checkPromises())
			must(t, p.checkMails())
			p.stop()
			must(t, p.checkFiles())
		})
	}
	t.Run("first start", func(t *testing.T) {
		t.Parallel()
		p := newPlant(t, store.SQLite, false)
		fresh := p.dir + ".fresh"
		copyOf(t, p.dir, fresh)
		for _, r := range first {
			for _, all := range []bool{false, true} {
				t.Run(r.name(all), func(t *testing.T) { p.die(t, r, all) })
				p.stop()
				must(t, p.checkFiles())
				must(t, p.db.Close())
				copyOf(t, fresh, p.dir)
				p.open(t)
				p.memory.list = new(big.Int)
			}
		}
	})
}

// copyOf puts a copy of an instance in the place of another.
func copyOf(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.RemoveAll(to))
	must(t, exec.Command("cp", "-a", from, to).Run())
}

func (r row) name(all bool) string {
	if all {
		return r.point + " (" + r.step + ", all)"
	}
	return r.point + " (" + r.step + ")"
}

// die lets one death happen, and checks what is true when all is started again.
func (p *plant) die(t *testing.T, r row, all bool) {
	p.note("row %s", t.Name())
	if all {
		must(t, p.oneGroup())
	}
	a, err := steps[r.step](p)
	if err != nil {
		t.Fatalf("before: %v", err)
	}
	must(t, p.arm(r.point, all))
	p.note("attempt: %v", a.attempt())
	err = p.fired(all)
	if err != nil {
		t.Fatal(err)
	}
	err = p.revive()
	if err != nil {
		t.Fatalf("start again: %v", err)
	}
	err = a.finish()
	if err != nil {
		t.Fatalf("done again: %v", err)
	}
	err = p.check()
	if err != nil {
		t.Fatalf("invariants: %v", err)
	}
}
