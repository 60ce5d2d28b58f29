package app

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"inkan/internal/pki"
	"inkan/internal/webkit"
)

var updateSurface = flag.Bool("update", false, "write docs/SURFACE.txt")

// TestSurface: what others hold on to is in docs/SURFACE.txt, one fact a line. A change of
// it is a change for those who use the product, and is seen as one.
func TestSurface(t *testing.T) {
	source := readSource(t)
	var out strings.Builder
	out.WriteString("# What programs and people outside hold on to. TestSurface of internal/app writes it: -update\n")
	for _, s := range []struct {
		title string
		lines []string
		least int
	}{
		{"commands and flags", commandLines(), 150},
		{"exit codes", []string{fmt.Sprint("done ", exitOK), fmt.Sprint("refused ", exitRefused), fmt.Sprint("usage ", exitUsage)}, 3},
		{"configuration keys: key type = default", configLines(t), 45},
		{"routes", source.routes(), 40},
		{"JSON: type field type", source.fields(), 150},
		{"error codes: code class HTTP status", source.codes(), 250},
		{"metrics: name [labels]", metricLines(), 15},
		{"parts of health", source.parts(), 10},
	} {
		slices.Sort(s.lines)
		s.lines = slices.Compact(s.lines)
		if len(s.lines) < s.least {
			t.Errorf("%s: %d lines: the test is blind", s.title, len(s.lines))
		}
		out.WriteString("\n## " + s.title + "\n\n" + strings.Join(s.lines, "\n") + "\n")
	}
	const path = "../../docs/SURFACE.txt"
	if *updateSurface {
		err := os.WriteFile(path, []byte(out.String()), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, now := strings.Split(string(raw), "\n"), strings.Split(out.String(), "\n")
	for _, line := range before {
		if !slices.Contains(now, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	if !t.Failed() && out.String() != string(raw) {
		t.Error("lines moved")
	}
}

func commandLines() []string {
	var lines []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() {
			lines = append(lines, cmd.UseLine())
		}
		flags := func(f *pflag.Flag) {
			line := fmt.Sprintf("%s --%s %s", cmd.CommandPath(), f.Name, f.Value.Type())
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
				line += " = " + f.DefValue
			}
			if len(f.Annotations[cobra.BashCompOneRequiredFlag]) > 0 {
				line += " (required)"
			}
			lines = append(lines, line)
		}
		cmd.LocalFlags().VisitAll(flags)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&cli{}).root())
	return lines
}

// configLines are the keys of the file with their types and defaults.
func configLines(t *testing.T) []string {
	t.Helper()
	values, err := defaultConfig(8000).values()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var walk func(of reflect.Type, before string)
	walk = func(of reflect.Type, before string) {
		for f := range of.Fields() {
			key := before + f.Tag.Get("toml")
			if f.Type.Kind() == reflect.Struct && f.Type.NumField() > 0 && f.Type.Field(0).Tag.Get("toml") != "" {
				walk(f.Type, key+".")
				continue
			}
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s = %s", key, f.Type, values[key])))
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return lines
}

func metricLines() []string {
	descs := make(chan *prometheus.Desc, 200)
	m := newMetrics()
	for _, c := range []prometheus.Collector{m.requests, m.refusals, m.ocsp, m.jobs} {
		c.Describe(descs)
	}
	stateMetrics{}.Describe(descs)
	close(descs)
	pattern := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	var lines []string
	for d := range descs {
		f := pattern.FindStringSubmatch(d.String())
		lines = append(lines, strings.TrimSpace(f[1]+" "+f[2]))
	}
	return append(lines, "inkan_build_info go,version")
}

// sourceTree is the program's own source.
type sourceTree struct {
	fset  *token.FileSet
	files map[string]*ast.File // by path below internal
	// constants are texts by their names; one that two packages name otherwise is none.
	constants map[string]string
}

func readSource(t *testing.T) sourceTree {
	t.Helper()
	s := sourceTree{token.NewFileSet(), map[string]*ast.File{}, map[string]string{}}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(s.fset, path, nil, 0)
		if err != nil {
			return err
		}
		name, err := filepath.Rel("..", path)
		s.files[filepath.ToSlash(name)] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	twice := map[string]bool{}
	s.each("", func(_ string, n ast.Node) {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != len(spec.Names) {
			return
		}
		for i, name := range spec.Names {
			literal, ok := spec.Values[i].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				continue
			}
			value, err := strconv.Unquote(literal.Value)
			before, seen := s.constants[name.Name]
			twice[name.Name] = twice[name.Name] || err != nil || seen && before != value
			s.constants[name.Name] = value
		}
	})
	for name := range twice {
		if twice[name] {
			delete(s.constants, name)
		}
	}
	return s
}

// printed gives an expression as it is written.
func (s sourceTree) printed(n ast.Node) string {
	var out strings.Builder
	err := printer.Fprint(&out, s.fset, n)
	if err != nil {
		panic(err) // a builder takes everything
	}
	return strings.Join(strings.Fields(out.String()), " ")
}

// text gives an expression of texts that are added, with what is no constant in <>.
func (s sourceTree) text(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.Ident, *ast.SelectorExpr:
		name := s.printed(e)
		if value, ok := s.constants[name[strings.LastIndex(name, ".")+1:]]; ok {
			return value, nil
		}
	case *ast.BinaryExpr:
		left, err := s.text(e.X)
		right, err2 := s.text(e.Y)
		return left + right, errors.Join(err, err2)
	}
	return "<" + s.printed(e) + ">", nil
}

func (s sourceTree) each(in string, do func(file string, n ast.Node)) {
	for name, f := range s.files {
		if strings.HasPrefix(name, in) {
			ast.Inspect(f, func(n ast.Node) bool {
				do(name, n)
				return true
			})
		}
	}
}

func (s sourceTree) routes() []string {
	pattern := regexp.MustCompile(`^((GET|POST) [/<]|/)`)
	var lines []string
	s.each("", func(file string, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 || !slices.Contains([]string{"mux.Handle", "mux.HandleFunc", "route"}, s.printed(call.Fun)) {
			return
		}
		path, err := s.text(call.Args[0])
		if err == nil && pattern.MatchString(path) {
			lines = append(lines, filepath.Dir(file)+" "+path)
		}
	})
	return lines
}

// printers are the packages whose types of JSON others read or write.
var printers = []string{"app/", "relay/", "ops/", "pki/", "store/"}

func (s sourceTree) fields() []string {
	var lines []string
	for _, in := range printers {
		s.each(in, func(_ string, n ast.Node) {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return
			}
			body, ok := spec.Type.(*ast.StructType)
			if !ok {
				return
			}
			for _, f := range body.Fields.List {
				if f.Tag == nil {
					continue
				}
				raw, err := strconv.Unquote(f.Tag.Value)
				name := reflect.StructTag(raw).Get("json")
				if err == nil && name != "" {
					lines = append(lines, fmt.Sprintf("%s %s %s", spec.Name.Name, name, s.printed(f.Type)))
				}
			}
		})
	}
	return lines
}

var classNames = map[string]pki.Class{"Invalid": pki.Invalid, "NotFound": pki.NotFound, "Conflict": pki.Conflict, "NotYet": pki.NotYet, "Forbidden": pki.Forbidden,
	"Limited": pki.Limited, "Gone": pki.Gone, "Busy": pki.Busy, "Internal": pki.Internal}

func (s sourceTree) codes() []string {
	var lines []string
	s.each("", func(_ string, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 || !slices.Contains([]string{"pki.E", "E"}, s.printed(call.Fun)) {
			return
		}
		code, err := s.text(call.Args[1])
		name := strings.TrimPrefix(s.printed(call.Args[0]), "pki.")
		class, known := classNames[name]
		if err == nil && known {
			lines = append(lines, fmt.Sprintf("%s %s %d", code, name, webkit.Status(class)))
		}
	})
	return lines
}

// parts are what can be wrong: the constants, and the jobs where they are started.
func (s sourceTree) parts() []string {
	var lines []string
	s.each("app/", func(_ string, n ast.Node) {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if strings.HasPrefix(name.Name, "part") && i < len(n.Values) {
					part, err := s.text(n.Values[i])
					if err == nil {
						lines = append(lines, part)
					}
				}
			}
		case *ast.CallExpr:
			if s.printed(n.Fun) == "s.every" && len(n.Args) > 2 {
				part, err := s.text(n.Args[2])
				if err == nil {
					lines = append(lines, part)
				}
			}
		}
	})
	return lines
}
