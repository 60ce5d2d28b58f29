package archtest

import (
	"go/ast"
	"go/types"
	"slices"
	"testing"
)

// mayMakeActors are the packages that write the fields of a pki.Actor: pki itself for those
// without a role, ops, which checks the proofs, and the kit of tests.
var mayMakeActors = []string{"internal/pki", "internal/ops", "internal/ca/catest"}

// TestActorsAreMadeByOps: who acts, and what he may, is said where the proof of it is
// checked. Any other package gets an actor, and changes nothing of it (threat CO1).
func TestActorsAreMadeByOps(t *testing.T) {
	seen := 0
	for _, s := range sources(t) {
		allowed := slices.Contains(mayMakeActors, s.Short())
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				for _, at := range s.makesActor(n) {
					seen++
					if !allowed {
						t.Errorf("%s: makes an actor", s.where(at.Pos()))
					}
				}
				return true
			})
		}
	}
	if seen < 8 {
		t.Errorf("%d places found: the test is blind", seen)
	}
}

// makesActor gives the places of a node that write into an actor: a literal with fields, or
// a field that is assigned to, or whose address is taken.
func (s *source) makesActor(n ast.Node) []ast.Expr {
	field := func(e ast.Expr) bool {
		sel, ok := ast.Unparen(e).(*ast.SelectorExpr)
		if !ok {
			return false
		}
		selection := s.info.Selections[sel]
		return selection != nil && selection.Kind() == types.FieldVal && isActor(selection.Recv())
	}
	switch n := n.(type) {
	case *ast.CompositeLit:
		if len(n.Elts) > 0 && isActor(s.info.Types[n].Type) {
			return []ast.Expr{n}
		}
	case *ast.AssignStmt:
		return slices.DeleteFunc(slices.Clone(n.Lhs), func(e ast.Expr) bool { return !field(e) })
	case *ast.UnaryExpr:
		if field(n.X) {
			return []ast.Expr{n}
		}
	}
	return nil
}

func isActor(t types.Type) bool {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Name() == "Actor" && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == module+"/internal/pki"
}
