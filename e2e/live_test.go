package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// Live is a live instance as an administrator makes it: init, a second person, an API
// client and its grant.
type Live struct {
	Dir      string
	PortBase int
	Bin      string

	client string // API client

	serve *exec.Cmd
	ended chan error
	log   string
}

// LiveOptions vary a live instance.
type LiveOptions struct {
	DSN    string // "" for SQLite
	CAKey  string // "" for the default
	Signer string // more of [signer]
	Config string // more of [policy], and what follows it
	// Hosts that browsers send for the two zones of holders; "" for their addresses.
	Portal, PortalAuth string
}

// NewLive makes an instance; Serve starts it.
func NewLive(t testing.TB, bin string, o LiveOptions) *Live {
	t.Helper()
	home, err := os.MkdirTemp("", "live-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	l := &Live{Dir: filepath.Join(home, "i"), Bin: bin, PortBase: freePorts(t), log: filepath.Join(home, "log")}
	at := func(offset int) string { return fmt.Sprintf("127.0.0.1:%d", l.PortBase+offset) }
	portal, auth := cmp.Or(o.Portal, at(443)), cmp.Or(o.PortalAuth, at(444))
	config := fmt.Sprintf(`
[database]
dsn = %q
[status]
listen = %q
url = %q
[portal]
listen = %q
hosts = [%q]
[portal_auth]
listen = %q
hosts = [%q]
[api]
listen = %q
hosts = [%q]
[internal]
listen = %q
[signer]
rate_per_minute = 10000000
%s
[policy]
pool_size = 4
`, o.DSN, at(80), "http://"+at(80), at(443), portal, at(444), auth, at(446), at(446), at(90), o.Signer)
	if o.CAKey != "" {
		config += fmt.Sprintf("ca_key = %q\n", o.CAKey)
	}
	file := filepath.Join(home, "init.toml")
	err = os.WriteFile(file, []byte(config+o.Config), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	said := l.run(t, "init", "--config", file)
	l.keep(t, "admin", said)
	l.operator(t, "shonin", "approver")
	l.as(t, "admin", "client", "add", "vendor")
	l.client = "vendor"
	said = l.as(t, "admin", "grant", "make", "--client", "vendor", "--per-day", "100000000", "--total", "100000000",
		"--until", time.Now().AddDate(0, 0, 30).Format(time.DateOnly))
	grant := strings.Fields(said)[0]
	l.decides(t, "shonin", "grant", "approve", grant)
	return l
}

// operator adds a person.
func (l *Live) operator(t testing.TB, who, roles string) {
	t.Helper()
	l.keep(t, who, l.as(t, "admin", "operator", "add", who, "--role", roles))
}

// proof gives the flags by which a person proves himself, on any node.
func (l *Live) proof(who string) []string {
	return []string{"--as", who, "--key", filepath.Join(l.Dir, "operator-"+who+".p12"), "--key-password-file", l.passwordOf(who)}
}

func (l *Live) passwordOf(who string) string {
	return filepath.Join(filepath.Dir(l.Dir), who+".password")
}

var shownPassword = regexp.MustCompile(`(?m)^(?:  password of operator-admin\.p12:|password, shown once:) +(\S+)$`)

// keep files the password of a person that a command has shown, once.
func (l *Live) keep(t testing.TB, who, said string) {
	t.Helper()
	m := shownPassword.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("no password of %s in %q", who, said)
	}
	err := os.WriteFile(l.passwordOf(who), []byte(m[1]+"\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

// as runs a command of a person that has to work.
func (l *Live) as(t testing.TB, who string, args ...string) string {
	t.Helper()
	return l.run(t, append(args, l.proof(who)...)...)
}

// asks is as, and reads the JSON of the answer.
func (l *Live) asks(t testing.TB, into any, who string, args ...string) {
	t.Helper()
	said := l.as(t, who, append(args, "--json")...)
	err := json.Unmarshal([]byte(said), into)
	if err != nil {
		t.Fatalf("inkan %s: %v in %q", strings.Join(args, " "), err, said)
	}
}

// decides looks at an object as a person, and decides about what was shown.
func (l *Live) decides(t testing.TB, who, kind, what, id string) {
	t.Helper()
	var shown struct{ ContentHash string }
	l.asks(t, &shown, who, kind, "show", id)
	l.as(t, who, kind, what, id, "--content", shown.ContentHash)
}

// run runs a command that has to work.
func (l *Live) run(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.Bin, append(args, "--dir", l.Dir)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		t.Fatalf("inkan %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// Serve starts the instance and gives the time until it was ready.
func (l *Live) Serve(t testing.TB) time.Duration {
	t.Helper()
	log, err := os.OpenFile(l.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l.serve = exec.Command(l.Bin, "serve", "--dir", l.Dir)
	l.serve.Stdout, l.serve.Stderr = log, log
	l.serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	began := time.Now()
	err = l.serve.Start()
	if err != nil {
		t.Fatal(err)
	}
	serve, ended := l.serve, make(chan error, 1)
	l.ended = ended
	go func() { ended <- serve.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-serve.Process.Pid, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the log ends:\n%s", tail(l.log, 8000))
		}
	})
	for time.Since(began) < 2*time.Minute {
		answer, err := http.Get(l.URL(90) + "/ready")
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		select {
		case err = <-ended:
			t.Fatalf("serve ended: %v\n%s", err, tail(l.log, 4000))
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatalf("not ready after two minutes\n%s", tail(l.log, 4000))
	return 0
}

// Stop ends the instance as an administrator does.
func (l *Live) Stop(t testing.TB) {
	t.Helper()
	err := l.serve.Process.Signal(syscall.SIGTERM)
	if err == nil {
		err = <-l.ended
	}
	if err != nil {
		t.Errorf("serve ended with %v\n%s", err, tail(l.log, 4000))
	}
}

// URL gives the plain http address at an offset from the port base.
func (l *Live) URL(offset int) string {
	return fmt.Sprintf("http://127.0.0.1:%d", l.PortBase+offset)
}

// clientTLS is how the API client connects.
func (l *Live) clientTLS(t testing.TB) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(l.Dir, "client-"+l.client+".pem"), filepath.Join(l.Dir, "client-"+l.client+".key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: testkit.Roots(t, filepath.Join(l.Dir, "ca", "tls.pem")), MinVersion: tls.VersionTLS13}
}

// serials lists certificates.
func (l *Live) serials(t testing.TB, n int) []string {
	t.Helper()
	var out []struct{ Serial string }
	l.asks(t, &out, "shonin", "cert", "list", "--limit", fmt.Sprint(n))
	serials := make([]string, len(out))
	for i, c := range out {
		serials[i] = c.Serial
	}
	return serials
}

// cpu gives the processor time that serve and its signer have used.
func (l *Live) cpu(t testing.TB) (edge, signer time.Duration) {
	t.Helper()
	for _, pid := range l.children(t) {
		signer += cpuTime(t, pid)
	}
	return cpuTime(t, fmt.Sprint(l.serve.Process.Pid)), signer
}

// children are the processes that serve started: its signer.
func (l *Live) children(t testing.TB) []string {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.serve.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, thread := range threads {
		children, err := os.ReadFile(thread)
		if err == nil { // else the thread ended
			pids = append(pids, strings.Fields(string(children))...)
		}
	}
	return pids
}

// memory gives the resident octets of serve and its signer.
func (l *Live) memory(t testing.TB) (edge, signer int64) {
	t.Helper()
	for _, pid := range l.children(t) {
		signer += resident(t, pid)
	}
	return resident(t, fmt.Sprint(l.serve.Process.Pid)), signer
}

func resident(t testing.TB, pid string) int64 {
	t.Helper()
	statm, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	var all, pages int64
	_, err = fmt.Sscan(string(statm), &all, &pages)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// cpuTime reads the processor time of a process; the kernel counts in hundredths of a
// second.
func cpuTime(t testing.TB, pid string) time.Duration {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	var user, system int64
	_, err = fmt.Sscan(fields[12]+" "+fields[13], &user, &system)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
