package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// Demo is a running `inkan demo` and what it says about itself.
type Demo struct {
	Dir string
	Info

	bin    string
	cmd    *exec.Cmd
	stdout string        // file: the table a person follows; it may show the samples' IDs
	stderr string        // file: the log; it may show nothing secret
	exited chan struct{} // closed when the process is gone
	result error         // what it ended with; read it after exited
}

// Info is demo.json, as the contract has it.
type Info struct {
	Portal, PortalAuth, Console, API, Status, Mail string
	TLSRoot, ClientRoot, Issuer                    string

	Operators []struct{ Name, Role, P12, Password string }
	Samples   []Sample
	APIClient struct{ Cert, Key string } `json:"api-client"`
}

// Sample is a request a person could try.
type Sample struct {
	Purpose     string `json:"purpose"`
	RequestID   string `json:"requestId"`
	ReferenceID string `json:"referenceId"`
	P12         string `json:"p12,omitempty"`
	Password    string `json:"password,omitempty"`
}

// buildOnce makes the program as `make build` does. INKAN_BIN names one that is
// there already: a release is tested as it is.
var buildOnce = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("INKAN_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	cmd := exec.Command("make", "--no-print-directory", "build")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Abs("../bin/inkan")
})

// startTime bounds the making of a demo: keys, certificates and samples on two
// cores that other tests use too.
const startTime = 3 * time.Minute

// Start builds the program, starts a demo in a fresh directory, waits until it says
// that it is ready, and ends it with the test.
func Start(t *testing.T) *Demo {
	t.Helper()
	bin, err := buildOnce()
	testkit.Must(t, err)
	home := t.TempDir()
	d := &Demo{
		Dir:    filepath.Join(home, "demo"),
		bin:    bin,
		stdout: filepath.Join(home, "stdout"),
		stderr: filepath.Join(home, "stderr"),
		exited: make(chan struct{}),
	}
	d.cmd = exec.Command(bin, "demo", "--dir", d.Dir, "--port-base", fmt.Sprint(freePorts(t)))
	d.cmd.Stdout = create(t, d.stdout)
	d.cmd.Stderr = create(t, d.stderr)
	// The demo starts a signer of its own: they share a group, so that nothing is
	// left behind however the test ends.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel's "parent" of Pdeathsig is a thread: keep it
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.result = d.cmd.Wait()
			close(d.exited)
		}
	}()
	err = <-started
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-d.exited
		if t.Failed() {
			t.Logf("the demo's log ends:\n%s", tail(d.stderr, 8000))
		}
	})

	began := time.Now()
	for time.Since(began) < startTime {
		data, err := os.ReadFile(filepath.Join(d.Dir, "demo.json"))
		if err == nil && json.Unmarshal(data, &d.Info) == nil && d.Portal != "" {
			t.Logf("the demo was ready after %v", time.Since(began).Round(time.Millisecond))
			return d
		}
		select {
		case <-d.exited:
			t.Fatalf("the demo ended before it was ready: %v\n%s", d.result, tail(d.stderr, 8000))
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("no demo.json after %v\n%s", startTime, tail(d.stderr, 8000))
	return nil
}

// Stop asks the demo to end as an administrator does and wants it to end well.
func (d *Demo) Stop(t *testing.T) {
	t.Helper()
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("the demo did not end within 30 seconds of SIGTERM")
	}
	if d.result != nil {
		t.Errorf("the demo ended with %v, want exit code 0", d.result)
	}
}

// Inkan runs one command on the demo's directory.
func (d *Demo) Inkan(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.bin, append(args, "--dir", d.Dir)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("inkan %s: %v", args[0], err)
	}
	return out.String(), errs.String(), 0
}

// Must runs a command that has to work and reads its JSON.
func (d *Demo) Must(t *testing.T, into any, args ...string) {
	t.Helper()
	if into != nil {
		args = append(args, "--json")
	}
	stdout, stderr, code := d.Inkan(t, args...)
	if code != 0 {
		t.Fatalf("inkan %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	if into == nil {
		return
	}
	err := json.Unmarshal([]byte(stdout), into)
	if err != nil {
		t.Fatalf("inkan %s: %v in %q", strings.Join(args, " "), err, stdout)
	}
}

// Refused runs a command that has to be refused with one line and says its words.
func (d *Demo) Refused(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := d.Inkan(t, args...)
	if code != 1 {
		t.Errorf("inkan %s: exit code %d, want 1\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	if first == "" || rest != "" && !strings.HasPrefix(rest, "hint:") && !strings.Contains(rest, " hint:") {
		t.Errorf("inkan %s: want one line and perhaps a hint, got %q", strings.Join(args, " "), stderr)
	}
	return stderr
}

// Operator gives the name of an operator with a role.
func (d *Demo) Operator(t *testing.T, role string) string {
	t.Helper()
	for _, o := range d.Operators {
		if strings.Contains(o.Role, role) {
			return o.Name
		}
	}
	t.Fatalf("demo.json names no operator with the role %q: %+v", role, d.Operators)
	return ""
}

// Sample gives the sample of a purpose.
func (d *Demo) Sample(t *testing.T, purpose string) Sample {
	t.Helper()
	for _, s := range d.Samples {
		if s.Purpose == purpose {
			return s
		}
	}
	t.Fatalf("demo.json has no sample for %q", purpose)
	return Sample{}
}

// Request is what `--json` says about a request.
type Request struct {
	RequestID   string `json:"requestId"`
	ReferenceID string `json:"referenceId"`
	State       string `json:"state"`
	ContentHash string `json:"contentHash"`
	Serial      string `json:"serial"`
	NotAfter    string `json:"notAfter"`
}

// Submit enters a request at the counter.
func (d *Demo) Submit(t *testing.T, terminal string) Request {
	t.Helper()
	var r Request
	d.Must(t, &r, "request", "submit", "--as", d.Operator(t, "intake"), "--kind", "medical", "--code", "0110119153", "--terminal", terminal, "--email", "clinic@example.jp")
	if r.RequestID == "" {
		t.Fatal("request submit gave no requestId")
	}
	return r
}

// Issue takes a new request all the way: entered by one person, approved by
// another, issued by the program, its letter read by a third.
func (d *Demo) Issue(t *testing.T, terminal string) Request {
	t.Helper()
	r := d.Submit(t, terminal)
	d.Must(t, nil, "request", "approve", r.RequestID, "--yes", "--as", d.Operator(t, "approver"))
	began := time.Now()
	for r.State != "issued" {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("request %s is %q 30 seconds after its approval", r.RequestID, r.State)
		}
		time.Sleep(50 * time.Millisecond)
		d.Must(t, &r, "request", "show", r.RequestID, "--as", d.Operator(t, "letters"))
	}
	if len(r.ReferenceID) != 10 || r.Serial == "" {
		t.Fatalf("request %s is issued but its letter cannot be written: serial %q, reference ID of %d letters", r.RequestID, r.Serial, len(r.ReferenceID))
	}
	return r
}

// portOffsets are what --port-base moves together.
var portOffsets = []int{443, 444, 445, 446, 80, 25, 90}

// freePorts finds a base for --port-base.
func freePorts(t testing.TB) int {
	t.Helper()
	return testkit.Ports(t, portOffsets...)
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// tail gives the last n bytes of a file, for a failure's message.
func tail(name string, n int) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-n):])
}
