package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// told hears how a test would have ended.
type told struct {
	testing.TB
	end string
}

func (t *told) Helper()               {}
func (t *told) Skipf(string, ...any)  { t.say("skipped") }
func (t *told) Fatalf(string, ...any) { t.say("failed") }

// say keeps the first end: a real test does not come to a second one.
func (t *told) say(end string) {
	if t.end == "" {
		t.end = end
	}
}

// A missing tool is a skip on somebody's machine and a failure in CI.
func TestMissingToolFailsInCI(t *testing.T) {
	for _, row := range []struct{ ci, tool, want string }{
		{"", "sh", ""},
		{"true", "sh", ""},
		{"", "no-such-tool", "skipped"},
		{"true", "no-such-tool", "failed"},
	} {
		t.Setenv("CI", row.ci)
		heard := &told{TB: t}
		Tool(heard, row.tool)
		if heard.end != row.want {
			t.Errorf("%s with CI=%q: %q, want %q", row.tool, row.ci, heard.end, row.want)
		}
	}
}

// Of two versions Find takes the newer one, and a directory before the PATH.
func TestFindTakesTheNewest(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"9", "15"} {
		Must(t, os.MkdirAll(filepath.Join(dir, version, "bin"), 0o700))
		WriteFile(t, filepath.Join(dir, version, "bin"), "sh", nil)
	}
	want := filepath.Join(dir, "15", "bin", "sh")
	if got := Find("sh", filepath.Join(dir, "*", "bin")); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	if got := Find("sh", filepath.Join(dir, "none")); filepath.Base(got) != "sh" {
		t.Errorf("not on the PATH: %q", got)
	}
}

// Who has ports keeps them: nobody else is given the same.
func TestPortsAreGivenOnce(t *testing.T) {
	given := map[int]bool{}
	for range 5 {
		base := Ports(t, 1, 2)
		if given[base] {
			t.Errorf("%d is given twice", base)
		}
		given[base] = true
	}
}

// A paused process does nothing, and goes on when it is let.
func TestPause(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	Must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if stands(cmd.Process.Pid) {
		t.Error("it stands before it was paused")
	}
	Pause(t, cmd.Process.Pid)
	if !stands(cmd.Process.Pid) {
		t.Error("it goes on")
	}
	Must(t, cmd.Process.Signal(syscall.SIGCONT))
	Await(t, "process that goes on", func() bool { return !stands(cmd.Process.Pid) })
}
