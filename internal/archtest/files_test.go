package archtest

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/internal/testkit"
)

// TestEveryPackageSaysWhatItOwns: one doc comment, in one file, that says what the
// package owns; without it the next person puts the next thing anywhere.
func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	fset := token.NewFileSet()
	for _, p := range repo(t).ours {
		var docs []string
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles) {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Errorf("%s: %v", p.Short(), err)
				continue
			}
			if f.Doc != nil {
				docs = append(docs, f.Doc.Text())
			}
		}
		start := "Package " + p.Name + " "
		if p.Name == "main" {
			start = "Command " + filepath.Base(p.Dir) + " "
		}
		switch {
		case len(docs) != 1:
			t.Errorf("%s has %d package comments, want one", p.Short(), len(docs))
		case !strings.HasPrefix(docs[0], start):
			t.Errorf("%s: the package comment begins %.30q, want %q", p.Short(), docs[0], start)
		case p.Name != "main" && !strings.Contains(docs[0], "own"):
			t.Errorf("%s: the package comment does not say what the package owns", p.Short())
		}
	}
}

// names are those of the repository: what git has and what it would take. A source
// archive, which has no git, holds nothing else.
func names(t *testing.T) []string {
	t.Helper()
	root := repo(t).root
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return archived(t, root)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// tracked are the files of the repository.
func tracked(t *testing.T) []string {
	t.Helper()
	root := repo(t).root
	var files []string
	for _, name := range names(t) {
		info, err := os.Lstat(filepath.Join(root, name))
		if err == nil && info.Mode().IsRegular() { // a deleted file is still in the index
			files = append(files, name)
		}
	}
	if len(files) < 10 {
		t.Fatalf("%d files found", len(files))
	}
	return files
}

// archived are the files of a source archive, but for what a build or a test adds.
func archived(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains([]string{".git", "bin", "screens", "e2e/node_modules"}, filepath.ToSlash(name)) || strings.HasPrefix(name, "demo-data")) {
			return filepath.SkipDir
		}
		names = append(names, filepath.ToSlash(name))
		return nil
	})
	testkit.Must(t, err)
	return names
}

// TestNothingNamesThisMachine: what is committed builds anywhere, so it names no
// directory of the machine it was written on and no registry: those are settings
// of whoever builds.
func TestNothingNamesThisMachine(t *testing.T) {
	root := repo(t).root
	needles := []string{root + "/", "registry.npm" + "js", "proxy.go" + "lang", "sum.go" + "lang", "deb.deb" + "ian"}
	usual := []string{"", "tmp", "home", "root", "usr", "var", "opt", "srv", "mnt", "src", "build", "app"}
	if top := strings.Split(root, "/")[1]; !slices.Contains(usual, top) {
		needles = append(needles, "/"+top+"/")
	}
	out, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	for proxy := range strings.FieldsFuncSeq(string(out), func(r rune) bool { return strings.ContainsRune(",| \n", r) }) {
		if u, err := url.Parse(proxy); err == nil && u.Hostname() != "" {
			needles = append(needles, u.Hostname())
		}
	}
	for _, name := range tracked(t) {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, needle := range needles {
			if i := bytes.Index(data, []byte(needle)); i >= 0 {
				t.Errorf("%s:%d names %q", name, 1+bytes.Count(data[:i], []byte("\n")), needle)
			}
		}
	}
}

// TestNoLinks: a link names a place, and a checkout of it takes the place of what is there.
func TestNoLinks(t *testing.T) {
	root := repo(t).root
	for _, name := range names(t) {
		target, err := os.Readlink(filepath.Join(root, name))
		if err == nil {
			t.Errorf("%s is a link to %s", name, target)
		}
	}
}

// maxLines is where a file has more than one subject.
const maxLines = 700

func TestFilesAreShort(t *testing.T) {
	kinds := []string{".go", ".sql", ".mjs", ".js", ".html", ".sh"}
	for _, name := range tracked(t) {
		if !slices.Contains(kinds, filepath.Ext(name)) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(repo(t).root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if n := bytes.Count(data, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, want at most %d: what is its second subject?", name, n, maxLines)
		}
	}
}

// TestLockFileNamesNoPlace: an address in the lock file would send everybody's
// `npm ci` to the registry of whoever wrote it.
func TestLockFileNamesNoPlace(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(repo(t).root, "e2e/package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(`"resolved"`)) || bytes.Contains(data, []byte("://")) {
		t.Error("e2e/package-lock.json holds addresses; npm config omit-lockfile-registry-resolved is set in e2e/.npmrc")
	}
}
