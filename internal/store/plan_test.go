package store_test

import (
	"database/sql"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// large finds where a plan reads the whole of a table that grows with every
// certificate, and by which index.
var large = regexp.MustCompile(`SCAN (?:audit|audit_hash|request|reference|public_key|sealed_key|intent|certificate|outbox|holder|ticket|flow|revocation|draft|status_link)\b(?: USING (?:COVERING )?INDEX (\w+))?`)

// mayScan are statements that read the whole of a table on purpose.
var mayScan = map[string]string{
	store.LostRowsQuery:     "a verification reads every record anyway",
	store.LostIntentsQuery:  "as LostRowsQuery",
	store.StraysQuery:       "a verification reads every row anyway",
	store.OtherIntentsQuery: "as StraysQuery",
}

// Every statement finds its rows by an index: one that reads a whole table of a
// million rows is not slow some day, it stops the one writer. SQLite's planner says
// so even of empty tables; a partial index is used only where the statement repeats
// the index's condition.
func TestStatementsUseIndexes(t *testing.T) {
	dsn := storetest.Migrated(t, store.SQLite)
	db, err := sql.Open("sqlite", strings.TrimPrefix(dsn, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	partial, err := partialIndexes(db) // they hold few rows
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, text := range append(statements(t), store.LostRowsQuery) {
		seen++
		plan, err := explain(db, text)
		if err != nil {
			t.Errorf("%v in %q", err, text)
			continue
		}
		for _, scan := range large.FindAllStringSubmatch(plan, -1) {
			if !partial[scan[1]] && mayScan[text] == "" {
				t.Errorf("%s:\n%s\n%s", scan[0], text, plan)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d statements found: the test is blind", seen)
	}
	plan, err := explain(db, `SELECT id FROM request WHERE terminal_name = $1`)
	if err != nil || !large.MatchString(plan) {
		t.Errorf("a scan is not seen: %v %q", err, plan)
	}
}

func partialIndexes(db *sql.DB) (map[string]bool, error) {
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := map[string]bool{}
	for rows.Next() {
		var name string
		err = rows.Scan(&name)
		if err != nil {
			return nil, err
		}
		names[name] = true
	}
	return names, rows.Err()
}

func explain(db *sql.DB, text string) (string, error) {
	args := 0
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		args = max(args, n)
	}
	rows, err := db.Query("EXPLAIN QUERY PLAN "+strings.TrimSuffix(text, " FOR UPDATE"), make([]any, args)...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		err = rows.Scan(&id, &parent, &unused, &detail)
		if err != nil {
			return "", err
		}
		plan = append(plan, detail)
	}
	return strings.Join(plan, "\n"), rows.Err()
}

// statements gives the whole SQL texts of the package: constants in them are known,
// those with other parts are left out.
func statements(t *testing.T) []string {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") ||
			name == "definitions_postgres.go" { // the catalogue of one engine
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, value := range v.Values {
					text, err := constant(value, nil)
					if err == nil {
						constants[v.Names[i].Name] = text
					}
				}
			}
		}
	}
	var out []string
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, err := constant(e, constants)
			if err != nil {
				return true
			}
			if isSQL.MatchString(text) && !strings.HasSuffix(strings.TrimSpace(text), "VALUES") {
				out = append(out, text)
			}
			return false
		})
	}
	return out
}

func constant(e ast.Expr, names map[string]string) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return strconv.Unquote(e.Value)
		}
	case *ast.Ident:
		text, ok := names[e.Name]
		if ok {
			return text, nil
		}
	case *ast.BinaryExpr:
		left, err := constant(e.X, names)
		if err != nil || e.Op != token.ADD {
			return "", fmt.Errorf("not constant")
		}
		right, err := constant(e.Y, names)
		return left + right, err
	}
	return "", fmt.Errorf("not constant")
}
