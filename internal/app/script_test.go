package app_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"inkan/internal/app"
	"inkan/internal/testkit"
)

// The scripts in testdata/script run the program itself: testscript puts a copy of
// this test binary into PATH under the name inkan, and os.Executable of that copy,
// from which serve starts its signer, is the copy.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"inkan": func() {
		os.Exit(app.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}})
}

func TestScripts(t *testing.T) {
	home := t.TempDir()
	live := sync.OnceValues(func() (string, error) { return makeLive(home) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Condition:           conditions,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"instance": func(ts *testscript.TestScript, _ bool, args []string) {
				from, err := live()
				ts.Check(err)
				copyLive(ts, from, args[0])
			},
			"as":      as,
			"login":   login,
			"refused": func(ts *testscript.TestScript, _ bool, args []string) { ends(ts, 1, args) },
			"misused": func(ts *testscript.TestScript, _ bool, args []string) { ends(ts, 2, args) },
			"let":     let,
			"let-line": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
			},
			"is":        is,
			"keys":      keys,
			"ready":     ready,
			"signal":    sendSignal,
			"retry":     retry,
			"sql":       runSQL,
			"modes":     modes,
			"replace":   replace,
			"find":      find,
			"fetch":     fetch,
			"report":    report,
			"get":       get,
			"retry-get": retryGet,
			"hoard":     hoard,
			"begin":     begin,
			"passing":   passing,
			"finish":    finish,
			"gone":      gone,
			"unseen":    unseen,
			"listed":    listed,
			"listening": listening,
			"typed":     typed,
		},
	})
}

func setup(env *testscript.Env) error {
	base, addresses, release, err := freePorts()
	if err != nil {
		return err
	}
	env.Defer(release)
	for name, address := range addresses {
		env.Setenv(name, address)
	}
	env.Setenv("BASE", fmt.Sprint(base))
	env.Setenv("I", filepath.Join(env.WorkDir, "inst"))
	return nil
}

// freePorts gives a port base of which nobody holds a port, and the zones' addresses;
// release gives them back.
func freePorts() (int, map[string]string, func(), error) {
	offsets := map[string]int{"PORTAL": 443, "AUTH": 444, "API": 446, "STATUS": 80, "INTERNAL": 90, "MAIL": 25}
	base, release, err := testkit.ReservePorts(slices.Collect(maps.Values(offsets))...)
	addresses := map[string]string{}
	for name, offset := range offsets {
		addresses[name] = fmt.Sprintf("127.0.0.1:%d", base+offset)
	}
	return base, addresses, release, err
}

// people are the operators of the instance that most scripts begin with; admin comes
// from init.
var people = []string{"admin", "admin-2", "intake", "approver", "second", "letters", "officer", "deputy", "auditor"}

var roles = map[string]string{"admin-2": "admin", "intake": "intake", "approver": "approver", "second": "approver", "letters": "letters", "officer": "officer", "deputy": "officer", "auditor": "auditor"}

const liveConfig = "[policy]\nca_key = \"p-256\"\nholder_key = \"p-256\"\npool_size = 2\n"

// makeLive makes a live instance with its people as a person would, once for all
// scripts, which get copies: the vault's scrypt is slow on purpose.
func makeLive(home string) (string, error) {
	dir, config := filepath.Join(home, "live"), filepath.Join(home, "live.toml")
	err := os.WriteFile(config, []byte(liveConfig), 0o600)
	if err != nil {
		return "", err
	}
	shown := regexp.MustCompile(`(?m)^(?:  password of operator-admin\.p12:|password, shown once:) +(\S+)$`)
	for _, who := range people {
		args := []string{"init", "--config", config}
		if who != "admin" {
			args = append([]string{"operator", "add", who, "--role", roles[who]}, proof(dir, "admin")...)
		}
		out, err := exec.Command("inkan", append(args, "--dir", dir)...).Output()
		if err != nil {
			return "", fmt.Errorf("inkan %v: %w", args, err)
		}
		m := shown.FindSubmatch(out)
		if m == nil {
			return "", fmt.Errorf("inkan %v shows no password: %s", args, out)
		}
		err = os.WriteFile(filepath.Join(dir, who+".password"), append(m[1], '\n'), 0o600)
		if err != nil {
			return "", err
		}
	}
	return dir, nil
}

// proof are the flags by which an operator of the instance proves himself.
func proof(dir, who string) []string {
	return []string{"--as", who, "--key", filepath.Join(dir, "operator-"+who+".p12"), "--key-password-file", filepath.Join(dir, who+".password")}
}

func copyLive(ts *testscript.TestScript, from, name string) {
	to := ts.MkAbs(name)
	ts.Check(exec.Command("cp", "-a", from, to).Run())
	path := filepath.Join(to, "inkan.toml")
	raw, err := os.ReadFile(path)
	ts.Check(err)
	for address, zone := range map[string]string{"8443": "PORTAL", "8444": "AUTH", "8446": "API", "8080": "STATUS", "8090": "INTERNAL"} {
		raw = bytes.ReplaceAll(raw, []byte("127.0.0.1:"+address), []byte(ts.Getenv(zone)))
	}
	ts.Check(os.WriteFile(path, raw, 0o600))
}

// as WHO ARGS…: an operator of $I runs a command; with !, it must be refused.
func as(ts *testscript.TestScript, neg bool, args []string) {
	line := append(append([]string{}, args[1:]...), "--dir", ts.Getenv("I"))
	line = append(line, proof(ts.Getenv("I"), args[0])...)
	if len(args) > 3 && slices.Contains(deciding, args[1]+" "+args[2]) && !slices.Contains(args, "--content") {
		line = append(line, "--content", looked(ts, args[0], args[1], args[3]))
	}
	if neg {
		ends(ts, 1, line)
		return
	}
	ts.Check(ts.Exec("inkan", line...))
}

// deciding are the commands that decide about what was shown.
var deciding = []string{"request approve", "request reject", "revocation approve", "revocation reject", "revocation lift", "grant approve"}

// looked gives the contentHash of what a person looks at; "-" where nothing is shown.
func looked(ts *testscript.TestScript, person, kind, id string) string {
	err := ts.Exec("inkan", append([]string{kind, "show", id, "--json", "--dir", ts.Getenv("I")}, proof(ts.Getenv("I"), person)...)...)
	if err != nil {
		return "-"
	}
	return value(ts, "contentHash").(string)
}

// ends runs inkan, which must end with this exit code, say what is wrong in one line
// and perhaps what to do in another, and leave no argument of a text open.
func ends(ts *testscript.TestScript, want int, args []string) {
	ended(ts, want, ts.Exec("inkan", args...))
}

// ended judges how inkan ended, as ends says.
func ended(ts *testscript.TestScript, want int, err error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != want {
		ts.Fatalf("inkan ended with %v, want exit code %d", err, want)
	}
	said := ts.ReadFile("stderr")
	if !regexp.MustCompile(`\Ainkan: [^\n]+\n(hint: [^\n]+\n)?\z`).MatchString(said) || regexp.MustCompile(`\{\w+`).MatchString(said) {
		ts.Fatalf("want one line and perhaps a hint, got %q", said)
	}
}

// value finds a value of the JSON on stdout: "requestId", "2.name", "." for all.
func value(ts *testscript.TestScript, path string) any {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	if path == "." {
		return v
	}
	for part := range strings.SplitSeq(path, ".") {
		switch inner := v.(type) {
		case map[string]any:
			v = inner[part]
		case []any:
			var n int
			_, err := fmt.Sscan(part, &n)
			if err != nil || n < 0 || n >= len(inner) {
				ts.Fatalf("no element %s of %d", part, len(inner))
			}
			v = inner[n]
		default:
			ts.Fatalf("no %s in the JSON on stdout", part)
		}
	}
	return v
}

// let NAME PATH: an environment variable from the JSON on stdout.
func let(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := value(ts, args[1]).(string)
	if !ok || v == "" {
		ts.Fatalf("%s is no text", args[1])
	}
	ts.Setenv(args[0], v)
}

// is PATH WANT: a value of the JSON on stdout; no WANT: it is not there.
func is(ts *testscript.TestScript, neg bool, args []string) {
	v, want := value(ts, args[0]), strings.Join(args[1:], " ")
	got := fmt.Sprint(v)
	if v == nil {
		got = ""
	}
	if (got == want) == neg {
		ts.Fatalf("%s is %q", args[0], got)
	}
}

// keys PATH KEY…: exactly these keys.
func keys(ts *testscript.TestScript, _ bool, args []string) {
	m, ok := value(ts, args[0]).(map[string]any)
	var got []string
	for k := range m {
		got = append(got, k)
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(args[1:]))
	if !ok || !slices.Equal(got, want) {
		ts.Fatalf("keys are %v, want %v", got, want)
	}
}

func until(ts *testscript.TestScript, what string, do func() bool) {
	if !testkit.Soon(do) {
		ts.Fatalf("not within %s: %s", testkit.Patience, what)
	}
}

// retry PATTERN ARGS…: runs inkan until its output matches.
func retry(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	until(ts, strings.Join(args, " "), func() bool {
		err := ts.Exec("inkan", args[1:]...)
		return err == nil && pattern.MatchString(ts.ReadFile("stdout"))
	})
}

// signal NAME WHO: to the background command "inkan WHO …", or to the child of $I's serve.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	number := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "INT": syscall.SIGINT,
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[0]]
	send := func(pid int) {
		ts.Check(syscall.Kill(pid, number))
		if number == syscall.SIGSTOP { // or the script never ends
			ts.Defer(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		}
	}
	for _, c := range ts.BackgroundCmds() {
		if c.Args[1] == args[1] && c.ProcessState == nil {
			send(c.Process.Pid)
			return
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, file := range lines {
		raw, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(raw, []byte("\x00signer\x00--dir\x00"+ts.Getenv("I")+"\x00")) {
			continue // gone, or another's
		}
		var pid int
		_, err = fmt.Sscanf(file, "/proc/%d/", &pid)
		ts.Check(err)
		if args[1] == "child" {
			send(pid)
			return
		}
	}
	ts.Fatalf("no %s runs", args[1])
}

// sql FILE STATEMENT: what somebody with the file can do behind our back, triggers or not.
// Those that stood in the way stand there again afterwards.
func runSQL(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	defer db.Close()
	rows, err := db.Query("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
	ts.Check(err)
	var drop, guards []string
	for rows.Next() {
		var name, text string
		ts.Check(rows.Scan(&name, &text))
		drop, guards = append(drop, "DROP TRIGGER "+name), append(guards, text)
	}
	ts.Check(errors.Join(rows.Err(), rows.Close()))
	if strings.HasPrefix(args[1], "DROP TRIGGER") {
		_, err = db.Exec(args[1])
		ts.Check(err)
		return
	}
	for _, statement := range drop {
		_, err = db.Exec(statement)
		ts.Check(err)
	}
	done, err := db.Exec(args[1])
	ts.Check(err)
	n, err := done.RowsAffected()
	ts.Check(err)
	if n == 0 {
		ts.Fatalf("nothing changed")
	}
	for _, statement := range guards {
		_, err = db.Exec(statement)
		ts.Check(err)
	}
}

// modes DIR: nothing of it is open to group or others.
func modes(ts *testscript.TestScript, _ bool, args []string) {
	files := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			return fmt.Errorf("%s has mode %o", path, got)
		}
		return nil
	}))
	if files < 2 {
		ts.Fatalf("only %d files", files)
	}
}

// replace FILE OLD NEW: once in a file.
func replace(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(raw, []byte(args[1])) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.Replace(raw, []byte(args[1]), []byte(args[2]), 1), 0o600))
}

// find TEXT PLACE…: the text is in a file of one of the places; with !, in none. A PIN is
// looked for as a word of its own: four digits are part of many a number.
func find(ts *testscript.TestScript, neg bool, args []string) {
	needle := regexp.QuoteMeta(args[0])
	if len(args[0]) < 6 {
		needle = `(?:^|[^0-9A-Za-z.])` + needle + `(?:$|[^0-9A-Za-z])`
	}
	pattern := regexp.MustCompile(needle)
	var in []string
	for _, place := range args[1:] {
		ts.Check(filepath.WalkDir(ts.MkAbs(place), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			if pattern.Match(raw) {
				in = append(in, path)
			}
			return err
		}))
	}
	if (len(in) > 0) == neg {
		ts.Fatalf("found in %v", in)
	}
}
