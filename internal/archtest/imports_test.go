package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"inkan/internal/testkit"
)

// lines is the house: a package may import only packages of lower lines, never of
// its own. A package that has no row here has no place yet: give it one, in the
// same commit, on the lowest line where it can stand.
var lines = map[string]int{
	"internal/pki":        0,
	"internal/lint":       0,
	"internal/crash":      0,
	"internal/agentproto": 0,

	"internal/store/engine": 1,

	"internal/store/audit": 2,

	"internal/clock":     3,
	"internal/store":     3,
	"internal/issuance":  3,
	"internal/keystore":  3,
	"internal/delivery":  3,
	"internal/mail":      3,
	"internal/mail/sink": 3,
	"internal/letter":    3,
	"internal/jobs":      3,
	"internal/release":   3,
	"internal/i18n":      3,

	"internal/ra":     4,
	"internal/ca":     4,
	"internal/signer": 4,
	"internal/notify": 4,
	"internal/ops":    4,

	"internal/webkit": 5,

	"internal/portal":   6,
	"internal/console":  6,
	"internal/agentapi": 6,
	"internal/relay":    6,
	"internal/status":   6,

	"internal/app": 7,

	"cmd/inkan": 8,
}

// client is the same for the program on a holder's terminal. It shares line 0 with
// the server and nothing else.
var client = map[string]int{
	"internal/agent":    1,
	"internal/tray":     2,
	"internal/winstore": 2,
	"internal/nssstore": 2,
	"cmd/inkan-agent":   6,
}

// testsOnly are packages that hold nothing but tests.
var testsOnly = []string{"internal/archtest", "e2e", "e2e/kill"}

func TestImportsGoDown(t *testing.T) {
	for _, p := range repo(t).ours {
		from := p.Short()
		if slices.Contains(testsOnly, from) {
			if len(p.GoFiles) > 1 {
				t.Errorf("%s is for tests only but has the files %v", from, p.GoFiles)
			}
			continue
		}
		if isKit(from) {
			continue
		}
		table, level, ok := row(from)
		if !ok {
			t.Errorf("%s has no row in the table of import lines (imports_test.go): say where it stands", from)
			continue
		}
		for _, path := range p.Imports {
			if !strings.HasPrefix(path, module+"/") {
				if level == 0 && !standard(t, path) {
					t.Errorf("%s stands on line 0, which imports the standard library alone, but imports %s", from, path)
				}
				continue
			}
			to := strings.TrimPrefix(path, module+"/")
			switch target, ok := table[to]; {
			case isKit(to):
				t.Errorf("%s imports %s, which is for tests", from, to)
			case !ok:
				t.Errorf("%s imports %s, which is not on its side of the house", from, to)
			case target >= level:
				t.Errorf("%s (line %d) imports %s (line %d): imports go down, never sideways", from, level, to, target)
			}
		}
	}
}

// row finds the side of the house and the line of a package.
func row(short string) (map[string]int, int, bool) {
	if level, ok := lines[short]; ok {
		return lines, level, true
	}
	level, ok := client[short]
	if !ok {
		return nil, 0, false
	}
	side := map[string]int{}
	for path, level := range client {
		side[path] = level
	}
	for path, level := range lines {
		if level == 0 {
			side[path] = 0
		}
	}
	return side, level, true
}

func standard(t *testing.T, path string) bool {
	p, ok := repo(t).packages[path]
	return ok && p.Standard
}

// forbiddenImports may be imported by no production code at all.
var forbiddenImports = map[string]string{
	"math/rand":             "serials, IDs and keys come from crypto/rand; jitter too",
	"math/rand/v2":          "serials, IDs and keys come from crypto/rand; jitter too",
	"testing":               "test helpers live in a kit, see kits_test.go",
	"testing/fstest":        "test helpers live in a kit, see kits_test.go",
	"testing/iotest":        "test helpers live in a kit, see kits_test.go",
	"testing/slogtest":      "test helpers live in a kit, see kits_test.go",
	"net/http/httptest":     "test helpers live in a kit, see kits_test.go",
	"pgregory.net/rapid":    "test helpers live in a kit, see kits_test.go",
	"log":                   "logs go through log/slog, and only cmd may end the program",
	"text/template":         "what reaches a person is escaped: html/template, or the i18n catalogues",
	"net/http/pprof":        "its init puts handlers on the default mux; app wires runtime/pprof by hand",
	"expvar":                "its init puts a handler on the default mux",
	"encoding/gob":          "nothing from outside is decoded into types of its own choosing",
	"unsafe":                "nothing here needs it",
	"golang.org/x/net/html": "pages are made by templates; only tests read them",
}

// importExceptions are the rows that need one, with the reason.
var importExceptions = map[[2]string]string{}

// onlyIn are packages that few others may import, with the reason.
var onlyIn = map[string]struct {
	importers []string
	why       string
}{
	"internal/store/engine": {[]string{"internal/store", "internal/store/audit"}, "nobody else sends a statement to the database"},
}

func TestFewImporters(t *testing.T) {
	used := map[string]bool{}
	for _, p := range repo(t).ours {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			to := strings.TrimPrefix(path, module+"/")
			rule, ok := onlyIn[to]
			used[to] = used[to] || ok
			if ok && !slices.Contains(rule.importers, p.Short()) {
				t.Errorf("%s imports %s: %s", p.Short(), to, rule.why)
			}
		}
	}
	for name := range onlyIn {
		if !used[name] {
			t.Errorf("nobody imports %s: the rule looks at nothing", name)
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	for _, p := range repo(t).ours {
		if isKit(p.Short()) || slices.Contains(testsOnly, p.Short()) {
			continue
		}
		for _, path := range p.Imports {
			why, bad := forbiddenImports[path]
			if _, excused := importExceptions[[2]string{p.Short(), path}]; bad && !excused {
				t.Errorf("%s imports %s: %s", p.Short(), path, why)
			}
		}
	}
}

// cgo says whether go list looked at what is built with cgo.
func cgo(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("go", "env", "CGO_ENABLED").Output()
	testkit.Must(t, err)
	return strings.TrimSpace(string(out)) == "1"
}

// signerModules are the modules in the process that holds the CA keys: every one of them
// can use the keys. A new one needs a reason. miekg/pkcs11 is there where cgo is.
var signerModules = []string{
	"filippo.io/age", "filippo.io/hpke", "github.com/miekg/pkcs11", "github.com/pelletier/go-toml", "github.com/weppos/publicsuffix-go",
	"github.com/zmap/zcrypto", "github.com/zmap/zlint/v3", "golang.org/x/crypto", "golang.org/x/mod", "golang.org/x/net", "golang.org/x/sys",
	"golang.org/x/text", "golang.org/x/time",
}

func TestSignerLinksLittle(t *testing.T) {
	r := repo(t)
	seen := map[string]bool{}
	modules := map[string]bool{}
	var walk func(path string)
	walk = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		p := r.packages[path]
		if p.Module != nil && p.Module.Path != module {
			modules[p.Module.Path] = true
		}
		for _, next := range p.Imports {
			walk(next)
		}
	}
	for _, root := range []string{"internal/signer", "internal/keystore"} {
		if _, ok := r.packages[module+"/"+root]; ok {
			walk(module + "/" + root)
		}
	}
	for name := range modules {
		if !slices.Contains(signerModules, name) {
			t.Errorf("signer and keystore link %s, which is not on their list", name)
		}
	}
	for _, name := range signerModules {
		if !modules[name] && (cgo(t) || name != "github.com/miekg/pkcs11") {
			t.Errorf("signer and keystore do not link %s: take it off their list", name)
		}
	}
}
