package archtest

import (
	"encoding/json"
	"go/ast"
	"go/constant"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOneCodeOneClass: an error code has one class wherever it is made. A caller that
// decides by the class, and a client that decides by the HTTP status, get one answer.
func TestOneCodeOneClass(t *testing.T) {
	type made struct{ class, where string }
	codes := map[string][]made{}
	for _, s := range sources(t) {
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) != 2 || !s.calls(call, module+"/internal/pki", "E") {
					return true
				}
				class, code := s.info.Types[call.Args[0]].Value, s.info.Types[call.Args[1]].Value
				if class == nil && s.Short() != "internal/keystore" { // what came over the wire
					t.Errorf("%s: the class of an error is a constant", s.where(call.Pos()))
				}
				if class != nil && code != nil && code.Kind() == constant.String {
					name := constant.StringVal(code)
					codes[name] = append(codes[name], made{class.ExactString(), s.where(call.Pos())})
				}
				return true
			})
		}
	}
	if len(codes) < 200 {
		t.Errorf("%d codes found: the test is blind", len(codes))
	}
	for code, all := range codes {
		for _, m := range all[1:] {
			if m.class != all[0].class {
				t.Errorf("%s has two classes: %s and %s", code, all[0].where, m.where)
			}
		}
	}
}

// calls says whether a call is of a function of a package, by whatever name it is imported.
func (s *source) calls(call *ast.CallExpr, path, name string) bool {
	var id *ast.Ident
	switch f := call.Fun.(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return false
	}
	o := s.info.Uses[id]
	return o != nil && o.Pkg() != nil && o.Pkg().Path() == path && o.Name() == name
}

// constants gives every text that is a constant of the program.
func constants(t *testing.T) []string {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range sources(t) {
		for _, v := range s.info.Types {
			if v.Value != nil && v.Value.Kind() == constant.String {
				seen[constant.StringVal(v.Value)] = true
			}
		}
	}
	out := make([]string, 0, len(seen))
	for text := range seen {
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// TestEveryErrorTextIsUsed: a text of an error code that nothing makes is told to nobody.
func TestEveryErrorTextIsUsed(t *testing.T) {
	used := constants(t)
	tails := []string{".missing", ".letters", ".long"} // pki.checkText puts them behind the name of a field
	for key := range texts(t) {
		code, ok := strings.CutPrefix(key, "error.")
		if !ok {
			continue
		}
		for _, part := range []string{".hint", ".title", ".not"} {
			code = strings.TrimSuffix(code, part)
		}
		_, isUsed := slices.BinarySearch(used, code)
		for _, tail := range tails {
			field, has := strings.CutSuffix(code, tail)
			_, found := slices.BinarySearch(used, field)
			isUsed = isUsed || has && found
		}
		if !isUsed {
			t.Errorf("%s: nothing makes this error", key)
		}
	}
}

// texts gives the texts of one language by their keys.
func texts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo(t).root, "internal/i18n/text/en/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no texts: %v", err)
	}
	out := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]string
		err = json.Unmarshal(raw, &all)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for key, text := range all {
			out[key] = text
		}
	}
	return out
}
