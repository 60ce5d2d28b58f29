package testkit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Tool wants programs to be there. Where one is missing the test is skipped, but fails
// in CI.
func Tool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if Find(name) == "" {
			Missing(t, name+"; scripts/setup-tests.sh installs it")
		}
	}
}

// Missing ends a test for which something is missing on this machine. The test is
// skipped, but fails in CI: there everything has to be.
func Missing(t testing.TB, what string) {
	t.Helper()
	if InCI() {
		t.Fatalf("missing in CI: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// InCI says whether this is a run of CI, which leaves nothing out.
func InCI() bool { return os.Getenv("CI") != "" }

// Long leaves a test to the whole suite: go test -short skips it.
func Long(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		t.Skip(why)
	}
}

// Asked gives the value of a variable of the environment by which a person asks for this
// test. Without it the test is skipped; how names the command that sets it.
func Asked(t testing.TB, variable, how string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Skipf("only where %s is set: %s", variable, how)
	}
	return value
}

// Find gives the path of a program: in one of the directories, which may be patterns, or
// on the PATH. Of several versions it takes the newest. "" is for a missing one.
func Find(name string, directories ...string) string {
	best, newest := "", -1
	for _, pattern := range directories {
		found, _ := filepath.Glob(filepath.Join(pattern, name)) // a good pattern
		for _, path := range found {
			if version := versionOf(path); version > newest {
				best, newest = path, version
			}
		}
	}
	if best != "" {
		return best
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// versionOf gives the directory of a path that is a number, as 15 in
// /usr/lib/postgresql/15/bin; 0 where none is.
func versionOf(path string) int {
	for part := range strings.SplitSeq(path, "/") {
		n, err := strconv.Atoi(part)
		if err == nil {
			return n
		}
	}
	return 0
}

// Run runs a program of another maker, which has to work, and gives what it says.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try runs a program of another maker that may refuse, and gives what it says.
func Try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	Tool(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
