package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"inkan/internal/i18n"
)

// machine makes a root with the files of a well-kept machine; a test breaks one of them.
func machine(t *testing.T) production {
	t.Helper()
	root, dir := t.TempDir(), filepath.Join(t.TempDir(), "inst")
	p := production{dir: dir, root: root, config: defaultConfig(defaultPortBase), clock: func() (bool, error) { return true, nil }}
	put(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nbroken\n"+
		"inkan:x:"+uid(t, root)+":1::/nonexistent:/usr/sbin/nologin\n")
	put(t, filepath.Join(root, "proc/swaps"), "Filename\tType\tSize\tUsed\tPriority\n")
	put(t, filepath.Join(root, "proc/sys/kernel/core_pattern"), "core\n")
	put(t, filepath.Join(root, "proc/sys/kernel/yama/ptrace_scope"), "1\n")
	put(t, filepath.Join(root, "sys/power/state"), "freeze mem\n")
	put(t, filepath.Join(dir, configFile), "")
	err := os.Chmod(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	c := &p.config
	c.Policy.OID = "1.2.392.200999.1"
	c.Signer.Child, c.Signer.Keys = false, map[string]string{"g1": "pkcs11:token=ca;object=g1"}
	c.Portal.Listen, c.API.Listen, c.Status.Listen = "192.0.2.1:8443", "192.0.2.1:8446", "[2001:db8::1]:8080"
	c.PortalAuth.Listen, c.PortalAuth.Hosts = "192.0.2.1:8444", []string{"renew.example.jp"}
	c.Portal.Hosts, c.API.Hosts, c.Status.URL = []string{"cert.example.jp"}, []string{"api.example.jp:8446"}, "http://status.example.jp"
	c.Mail.SMTP, c.Mail.From = "mail.example.jp:587", "no-reply@example.jp"
	return p
}

func uid(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// TestProduction breaks one thing at a time: its line, and no other, turns.
func TestProduction(t *testing.T) {
	// Two lines depend on users, which a test without root cannot change.
	byUser := map[string]bool{"edge_user": true, "signer_user": true}
	good := machine(t)
	before := map[string]verdict{}
	for _, f := range good.inspect("en") {
		before[f.Check] = f.Verdict
		if f.Verdict == amiss && !byUser[f.Check] {
			t.Errorf("a well-kept machine: %+v", f)
		}
	}
	tests := []struct {
		check string
		want  verdict
		spoil func(*testing.T, *production)
	}{
		{"mode", amiss, func(_ *testing.T, p *production) { p.config.Mode = "demo" }},
		{"policy_oid", amiss, func(_ *testing.T, p *production) { p.config.Policy.OID = "1.3.6.1.4.1.32473.1.1" }},
		{"passphrase", amiss, func(t *testing.T, p *production) { put(t, filepath.Join(p.dir, "signer/passphrase"), "x") }},
		{"swap", amiss, func(t *testing.T, p *production) {
			put(t, filepath.Join(p.root, "proc/swaps"), "Filename\n/dev/sda2 partition 1 0 -2\n")
		}},
		{"swap", amiss, func(t *testing.T, p *production) {
			put(t, filepath.Join(p.root, "proc/swaps"), "Filename\n/dev/dm-1 partition 1 0 -2\n")
			put(t, filepath.Join(p.root, "sys/block/dm-1/dm/uuid"), "LVM-abc")
		}},
		{"swap", right, func(t *testing.T, p *production) {
			put(t, filepath.Join(p.root, "proc/swaps"), "Filename\n/dev/dm-1 partition 1 0 -2\n")
			put(t, filepath.Join(p.root, "sys/block/dm-1/dm/uuid"), "CRYPT-PLAIN-swap")
		}},
		{"core", amiss, func(t *testing.T, p *production) {
			put(t, filepath.Join(p.root, "proc/sys/kernel/core_pattern"), "|/usr/lib/systemd/systemd-coredump")
		}},
		{"ptrace", amiss, func(t *testing.T, p *production) {
			put(t, filepath.Join(p.root, "proc/sys/kernel/yama/ptrace_scope"), "0")
		}},
		{"ptrace", unknown, func(t *testing.T, p *production) {
			_ = os.Remove(filepath.Join(p.root, "proc/sys/kernel/yama/ptrace_scope"))
		}},
		{"hibernation", amiss, func(t *testing.T, p *production) { put(t, filepath.Join(p.root, "sys/power/state"), "freeze mem disk") }},
		{"hibernation", right, func(t *testing.T, p *production) {
			put(t, filepath.Join(p.root, "sys/power/state"), "freeze mem disk")
			put(t, filepath.Join(p.root, "sys/power/disk"), "[disabled]")
		}},
		{"modes", amiss, func(t *testing.T, p *production) { _ = os.Chmod(filepath.Join(p.dir, configFile), 0o640) }},
		{"secrets_here", amiss, func(t *testing.T, p *production) { put(t, filepath.Join(p.dir, "operator-admin.p12"), "x") }},
		{"database_roles", unknown, func(_ *testing.T, p *production) {
			p.config.Database.DSN = "postgres://db.example.jp/inkan?sslmode=verify-full"
		}},
		{"listeners", amiss, func(_ *testing.T, p *production) { p.config.API.Listen = "127.0.0.1:8446" }},
		{"names", amiss, func(_ *testing.T, p *production) { p.config.Portal.Hosts = []string{"192.0.2.1:8443"} }},
		{"names", amiss, func(_ *testing.T, p *production) { p.config.Status.URL = "http://cert.example.jp:8080" }},
		{"mail", amiss, func(_ *testing.T, p *production) { p.config.Mail.TLS = "none" }},
		{"mail", unknown, func(_ *testing.T, p *production) { p.config.Mail.SMTP = "" }},
		{"clock", amiss, func(_ *testing.T, p *production) { p.clock = func() (bool, error) { return false, nil } }},
		{"clock", unknown, func(_ *testing.T, p *production) { p.clock = func() (bool, error) { return false, errors.New("no") } }},
		{"hsm", amiss, func(_ *testing.T, p *production) { p.config.Signer.Keys = nil }},
		{"hsm", amiss, func(_ *testing.T, p *production) {
			p.config.Signer.Keys["g1"] = "pkcs11:module-path=/usr/lib/libsofthsm2.so"
		}},
		{"root_key", amiss, func(t *testing.T, p *production) { put(t, filepath.Join(p.dir, "offline/root.key.age"), "x") }},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		seen[tt.check] = true
		p := machine(t)
		tt.spoil(t, &p)
		for _, f := range p.inspect("en") {
			want := before[f.Check]
			if f.Check == tt.check {
				want = tt.want
			}
			if f.Verdict != want {
				mayFollow := f.Check == "modes" // a file that a test puts there may be in it
				if !mayFollow {
					t.Errorf("spoiled %s: %s is %s (%s), want %s", tt.check, f.Check, f.Verdict, f.Detail, want)
				}
			}
		}
	}
	seen["database_link"] = true // TestDatabaseLink
	for _, c := range checks {
		_, detail := c.look(good)
		if !seen[c.name] && !byUser[c.name] && (before[c.name] != unknown || detail != "") {
			t.Errorf("nothing here breaks %s", c.name)
		}
		for _, lang := range i18n.Languages {
			for _, key := range []string{"production." + c.name, "production." + c.name + ".hint"} {
				if text := i18n.Text(lang, key, nil); text == key {
					t.Errorf("no words for %s in %s", key, lang)
				}
			}
		}
	}
}

func TestDatabaseLink(t *testing.T) {
	for dsn, want := range map[string]verdict{
		"": right,
		"postgres://inkan@db.example.jp/inkan?sslmode=verify-full": right,
		"postgres:///inkan?host=/run/postgresql":                   right,
		"postgres://inkan@db.example.jp/inkan":                     amiss,
		"postgres://inkan@db.example.jp/inkan?sslmode=require":     amiss,
		"postgres://inkan@db.example.jp/inkan?sslmode=verify-ca":   amiss,
		"postgres://inkan@localhost/inkan?sslmode=prefer":          amiss,
	} {
		p := production{dir: "/var/lib/inkan", config: defaultConfig(defaultPortBase)}
		p.config.Database.DSN = dsn
		got, _ := p.databaseLink()
		if got != want {
			t.Errorf("%q: %s, want %s", dsn, got, want)
		}
	}
}

// The signer's user is told by its socket.
func TestSignerUser(t *testing.T) {
	p := machine(t)
	p.config.Signer.Child = true
	if v, _ := p.signerUser(); v != amiss {
		t.Errorf("a signer that is a child: %s", v)
	}
	p.config.Signer.Child = false
	if v, _ := p.signerUser(); v != unknown {
		t.Errorf("a signer that does not run: %s", v)
	}
	l, err := net.Listen("unix", inside(p.dir, p.config.Signer.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if v, _ := p.signerUser(); v != amiss {
		t.Errorf("a signer of the edge's own user: %s", v)
	}
	if os.Geteuid() != 0 {
		return // only root can make the other user's socket
	}
	err = os.Lchown(inside(p.dir, p.config.Signer.Socket), 4711, 4711)
	if err != nil {
		t.Fatal(err)
	}
	if v, detail := p.signerUser(); v != right || detail != "4711" {
		t.Errorf("a signer of another user: %s %s", v, detail)
	}
}

func TestRedactURI(t *testing.T) {
	const secret = "s3cret"
	for text, want := range map[string]string{
		"postgres://inkan:" + secret + "@db/inkan":                                         "postgres://inkan:REDACTED@db/inkan",
		"postgres://inkan@db/inkan?password=" + secret + "&sslmode=verify-full":            "postgres://inkan@db/inkan?password=REDACTED&sslmode=verify-full",
		"postgres://inkan@db/inkan?sslmode=verify-full&sslpassword=" + secret:              "postgres://inkan@db/inkan?sslmode=verify-full&sslpassword=REDACTED",
		"pkcs11:token=ca;object=g1?module-path=/usr/lib/x.so&pin-value=" + secret:          "pkcs11:token=ca;object=g1?module-path=/usr/lib/x.so&pin-value=REDACTED",
		"postgres://inkan:" + secret + "%@db/inkan":                                        "REDACTED",
		"sqlite:///var/lib/inkan/inkan.db":                                                 "sqlite:///var/lib/inkan/inkan.db",
		"postgres://inkan@db/inkan?sslmode=verify-full&sslrootcert=/etc/inkan/db-root.pem": "postgres://inkan@db/inkan?sslmode=verify-full&sslrootcert=/etc/inkan/db-root.pem",
	} {
		got := redactURI(text)
		if got != want || strings.Contains(got, secret) {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

// TestHardeningListIsInTheManuals: whoever reads a number in the output finds it in the
// manual of his language.
func TestHardeningListIsInTheManuals(t *testing.T) {
	for _, name := range []string{"OPERATE.md", "OPERATE.ja.md"} {
		raw, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if strings.HasPrefix(c.id, "H") && !strings.Contains(string(raw), "\n| "+c.id+" | ") {
				t.Errorf("%s does not explain %s", name, c.id)
			}
		}
	}
}
