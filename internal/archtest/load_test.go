package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of the only module whose packages are held to the rules.
const module = "inkan"

// listed is what `go list` says about one package.
type listed struct {
	ImportPath   string
	Dir          string
	Name         string
	Export       string
	Standard     bool
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       *struct{ Path string }
	Error        *struct{ Err string }
	DepsErrors   []struct{ Err string }
}

// Short gives the path below the module, for example "internal/pki".
func (p listed) Short() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func (p listed) ours() bool { return p.Module != nil && p.Module.Path == module }

// repository is everything the tests look at, read once.
type repository struct {
	root     string
	ours     []listed
	packages map[string]listed // ours and all they need, by import path
}

var load = sync.OnceValues(func() (*repository, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	// -export compiles what is not in the build cache, so that types can be read
	// without compiling a second time; a test run has just done so anyway.
	cmd := exec.Command("go", "list", "-e", "-export", "-deps", "-json=ImportPath,Dir,Name,Export,Standard,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Module,Error,DepsErrors", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list: " + err.Error() + ": " + stderr.String())
	}
	repo := &repository{root: root, packages: map[string]listed{}}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return repo, nil
		}
		if err != nil {
			return nil, err
		}
		repo.packages[p.ImportPath] = p
		if p.ours() {
			repo.ours = append(repo.ours, p)
		}
	}
})

func repo(t *testing.T) *repository {
	t.Helper()
	r, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.ours) < 2 {
		t.Fatal("found no packages: the rules would hold for nothing")
	}
	return r
}

// source is one package of ours with its syntax and types; tests left out.
type source struct {
	listed
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

// where names a place as a person finds it.
func (s *source) where(pos token.Pos) string {
	p := s.fset.Position(pos)
	return s.Short() + "/" + filepath.Base(p.Filename) + ":" + strconv.Itoa(p.Line)
}

func (s *source) file(pos token.Pos) string {
	return filepath.Base(s.fset.Position(pos).Filename)
}

// sources type-checks every package of ours. A package that does not compile is a
// failure of its own and does not keep the others from being looked at.
func sources(t *testing.T) []*source {
	t.Helper()
	r := repo(t)
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		p := r.packages[path]
		if p.Export == "" {
			return nil, errors.New("no compiled form of " + path)
		}
		return os.Open(p.Export)
	})
	var all []*source
	for _, p := range r.ours {
		s := &source{listed: p, fset: fset, info: &types.Info{
			Types:      map[ast.Expr]types.TypeAndValue{},
			Uses:       map[*ast.Ident]types.Object{},
			Selections: map[*ast.SelectorExpr]*types.Selection{},
		}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Errorf("%s does not parse: %v", p.Short(), err)
				continue
			}
			s.files = append(s.files, f)
		}
		var first error
		conf := types.Config{Importer: imports, Error: func(err error) {
			if first == nil {
				first = err
			}
		}}
		_, _ = conf.Check(p.ImportPath, fset, s.files, s.info) // told by Error
		// Where a package of ours is missing, that one has been told of already.
		if first != nil && !strings.Contains(first.Error(), "could not import "+module+"/") {
			t.Errorf("%s does not compile, so the rules cannot be held: %v", p.Short(), first)
		}
		all = append(all, s)
	}
	return all
}
