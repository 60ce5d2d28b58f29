package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	isSQL       = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s`)
	placeholder = regexp.MustCompile(`\$(\d+)`)
	foreign     = regexp.MustCompile(`(?i)\bnow\(\)|current_timestamp|datetime\(|strftime\(|BIGSERIAL|AUTOINCREMENT|::[a-z]|\bILIKE\b|INSERT OR|\?`)
)

// Placeholders are numbered in the order in which they first appear: then drivers
// that bind by number and drivers that bind by order agree. And one text serves both
// engines, so no word of one engine alone, and no clock but Tx.Now.
func TestSQLTexts(t *testing.T) {
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			text, ok := literal(n)
			if !ok {
				return true
			}
			if isSQL.MatchString(text) || placeholder.MatchString(text) {
				seen++
				for _, problem := range checkSQL(text) {
					t.Errorf("%s: %s in %q", fset.Position(n.Pos()), problem, text)
				}
			}
			return false // the parts of a sum were seen with it
		})
	}
	if seen < 10 {
		t.Errorf("only %d SQL texts found: the test is blind", seen)
	}
	for text, bad := range map[string]bool{
		`SELECT $1, $2, $1`:                false,
		`SELECT $2, $1`:                    true,
		`SELECT $1, $3`:                    true,
		`SELECT now()`:                     true,
		`UPDATE a SET b = $1 WHERE c = $2`: false,
		`SELECT a::text`:                   true,
	} {
		if got := len(checkSQL(text)) > 0; got != bad {
			t.Errorf("%s: refused %v, want %v", text, got, bad)
		}
	}
}

func checkSQL(text string) []string {
	var problems []string
	highest := 0
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		if n > highest+1 || n == 0 {
			problems = append(problems, m[0]+" is out of order")
		}
		highest = max(highest, n)
	}
	if word := foreign.FindString(text); word != "" {
		problems = append(problems, "the word "+word)
	}
	return problems
}

// literal gives the text of a string, or of a sum of strings; names in a sum count as
// a blank.
func literal(n ast.Node) (string, bool) {
	switch e := n.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, ok1 := literal(e.X)
		right, ok2 := literal(e.Y)
		return left + " " + right, ok1 || ok2
	}
	return "", false
}
