package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"

	"inkan/internal/testkit"
)

// sendsSQL are the types of the engine by which a statement reaches the database.
var sendsSQL = []string{"Tx", "DB", "Row"}

// TestStoreHandsOutNoStatement: a package outside of the store cannot name the engine's
// types (TestFewImporters), but a result, a closure or a field of the store could give it
// one, and an embedded one would give it the methods. So no exported declaration does.
func TestStoreHandsOutNoStatement(t *testing.T) {
	looked := 0
	for _, short := range []string{"internal/store", "internal/store/audit"} {
		p := repo(t).packages[module+"/"+short]
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			testkit.Must(t, err)
			for _, decl := range file.Decls {
				for what, given := range handedOut(decl) {
					looked++
					if sends(given) {
						t.Errorf("%s/%s: %s hands out a type of the engine that sends statements", short, name, what)
					}
				}
			}
		}
	}
	if looked < 100 {
		t.Fatalf("%d declarations were looked at", looked)
	}
}

// handedOut gives what a caller gets from the exported names of a declaration: results,
// arguments of its closures, fields, and what a name stands for.
func handedOut(decl ast.Decl) map[string][]ast.Node {
	out := map[string][]ast.Node{}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv)) {
			out[d.Name.Name] = handedOutByFunc(d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					out[s.Name.Name] = handedOutByType(s.Type)
				}
			case *ast.ValueSpec:
				if slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) && s.Type != nil {
					out[s.Names[0].Name] = []ast.Node{s.Type}
				}
			}
		}
	}
	return out
}

func exportedReceiver(recv *ast.FieldList) bool {
	exported := false
	ast.Inspect(recv.List[0].Type, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		exported = exported || ok && id.IsExported()
		return true
	})
	return exported
}

func handedOutByFunc(f *ast.FuncType) []ast.Node {
	var out []ast.Node
	if f.Results != nil {
		out = append(out, f.Results)
	}
	for _, param := range f.Params.List {
		closure, ok := param.Type.(*ast.FuncType)
		if ok {
			out = append(out, closure)
		}
	}
	return out
}

func handedOutByType(typ ast.Expr) []ast.Node {
	fields, ok := typ.(*ast.StructType)
	if !ok {
		return []ast.Node{typ}
	}
	var out []ast.Node
	for _, f := range fields.Fields.List {
		if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
			out = append(out, f.Type)
		}
	}
	return out
}

// sends says whether a type of the engine that sends statements is named.
func sends(nodes []ast.Node) bool {
	found := false
	for _, node := range nodes {
		ast.Inspect(node, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			found = found || ok && pkg.Name == "engine" && slices.Contains(sendsSQL, selector.Sel.Name)
			return true
		})
	}
	return found
}
