package kill

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "modernc.org/sqlite"             // the driver sqlite

	"inkan/internal/keystore"
	"inkan/internal/mail/sink"
	"inkan/internal/mail/sink/sinktest"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// build makes the program once, with the points at which it can die.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "inkan-kill-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "inkan")
	cmd := exec.Command("go", "build", "-p", "2", "-trimpath", "-tags", "crashpoints", "-o", bin, "./cmd/inkan")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	bin, err := build()
	if err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// plant is a live instance with its people, its processes and the clients' memory of
// what they were told.
type plant struct {
	dir, bin string
	engine   string
	dsn      string // of PostgreSQL
	child    bool   // the signer is serve's child, as by default
	armed    string // file: see internal/crash
	log      *os.File
	db       *sql.DB
	mails    *sink.Sink
	at       map[string]string // addresses by zone

	serve, signer *process
	struck        bool // a command died of the point

	pool   int             // size of the pool in the configuration
	month  int             // epochs of 2020 that were made to be destroyed
	vault  *keystore.Vault // for those
	memory                 // what clients were told
}

// roles are the people besides admin, who comes from init.
var roles = map[string]string{"intake": "intake", "approver": "approver", "letters": "letters", "officer": "officer", "deputy": "officer"}

// newPlant makes an instance as a person would, and starts nothing.
func newPlant(t *testing.T, engine string, child bool) *plant {
	t.Helper()
	bin, err := build()
	must(t, err)
	home, err := os.MkdirTemp("", "kill") // short, as a socket's path must be
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	p := &plant{dir: filepath.Join(home, "i"), bin: bin, engine: engine, child: child, armed: filepath.Join(home, "armed"), pool: 2,
		memory: newMemory()}
	p.log, err = os.OpenFile(filepath.Join(home, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	must(t, err)
	t.Cleanup(func() { p.keepLog(t) })
	if engine == store.PostgreSQL {
		p.dsn = storetest.Empty(t, engine)
	}
	p.catchMails(t)
	config := p.configure(t)
	path := filepath.Join(home, "kill.toml")
	must(t, os.WriteFile(path, []byte(config), 0o600))
	shown := regexp.MustCompile(`(?m)^(?:  password of operator-admin\.p12:|password, shown once:) +(\S+)$`)
	p.person(t, shown, "admin", "init", "--config", path)
	for who, role := range roles {
		p.person(t, shown, who, append([]string{"operator", "add", who, "--role", role}, p.proof("admin")...)...)
	}
	p.must(t, "admin", "client", "add", "vendor", "--name", "Vendor")
	until := time.Now().AddDate(0, 0, 30).Format(time.DateOnly)
	grant := p.must(t, "admin", "grant", "make", "--client", "vendor", "--per-day", "1000000", "--total", "1000000", "--until", until)
	_, err = p.decides("approver", "grant", "approve", strings.Fields(grant)[0])
	must(t, err)
	p.open(t)
	p.program(t)
	if !child {
		must(t, p.edit("child = true", "child = false"))
	}
	t.Cleanup(p.stop)
	return p
}

// person makes an operator and keeps the password that is shown once.
func (p *plant) person(t *testing.T, shown *regexp.Regexp, who string, args ...string) {
	t.Helper()
	out, err := p.run(args...)
	m := shown.FindStringSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("inkan %s: %v: %s", args[0], err, out)
	}
	must(t, os.WriteFile(filepath.Join(p.dir, who+".password"), []byte(m[1]+"\n"), 0o600))
}

func (p *plant) proof(who string) []string {
	return []string{"--as", who, "--key", filepath.Join(p.dir, "operator-"+who+".p12"), "--key-password-file", filepath.Join(p.dir, who+".password")}
}

func (p *plant) catchMails(t *testing.T) {
	t.Helper()
	mails, address := sinktest.Start(t)
	p.mails, p.at = mails, map[string]string{"mail": address}
}

// configure finds ports and writes the configuration.
func (p *plant) configure(t *testing.T) string {
	t.Helper()
	zones := []string{"portal", "auth", "api", "status", "internal"}
	base := testkit.Ports(t, 0, 1, 2, 3, 4)
	for n, zone := range zones {
		p.at[zone] = fmt.Sprintf("127.0.0.1:%d", base+n)
	}
	return fmt.Sprintf(`[database]
dsn = %q
[policy]
ca_key = "p-256"
holder_key = "p-256"
pool_size = %d
[portal]
listen = %[3]q
hosts = [%[3]q]
[api]
listen = %[4]q
hosts = [%[4]q]
[status]
listen = %[5]q
url = "http://%[5]s"
[internal]
listen = %[6]q
[portal_auth]
listen = %[8]q
hosts = [%[8]q]
[mail]
smtp = %[7]q
tls = "none"
`, p.dsn, p.pool, p.at["portal"], p.at["api"], p.at["status"], p.at["internal"], p.at["mail"], p.at["auth"])
}

// edit replaces what is once in the configuration.
func (p *plant) edit(from, to string) error {
	path := filepath.Join(p.dir, "inkan.toml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.Count(raw, []byte(from)) != 1 {
		return fmt.Errorf("%q is not once in inkan.toml", from)
	}
	return os.WriteFile(path, bytes.Replace(raw, []byte(from), []byte(to), 1), 0o600)
}

func (p *plant) open(t *testing.T) {
	t.Helper()
	driver, dsn := "pgx", p.dsn
	if p.engine == store.SQLite {
		driver, dsn = "sqlite", "file:"+filepath.Join(p.dir, "inkan.db")+"?_pragma=busy_timeout(20000)"
	}
	var err error
	p.db, err = sql.Open(driver, dsn)
	must(t, err)
	p.db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = p.db.Close() })
}

// keepLog shows the end of the log of a test that failed, and keeps all of it where
// KILL_LOGS names a directory.
func (p *plant) keepLog(t *testing.T) {
	defer p.log.Close()
	if !t.Failed() {
		return
	}
	all, err := os.ReadFile(p.log.Name())
	if err != nil {
		t.Log(err)
	}
	if dir := os.Getenv("KILL_LOGS"); dir != "" {
		path := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".log")
		t.Logf("the whole log is in %s: %v", path, os.WriteFile(path, all, 0o600))
	}
	t.Logf("the log ends:\n%s", all[max(0, len(all)-12000):])
}

// run runs a command of a person on the instance, and gives all that it says.
func (p *plant) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.bin, append(args, "--dir", p.dir)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p.join(cmd)
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if ok && killed(exit.ProcessState) {
		p.struck = true
	}
	if err != nil {
		p.note("command %v: %v: %s", args[:2], err, out.String())
		err = fmt.Errorf("inkan %s: %w: %s", strings.Join(args[:2], " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), err
}

// as runs a command of a proved person.
func (p *plant) as(who string, args ...string) (string, error) {
	return p.run(append(args, p.proof(who)...)...)
}

// decides looks at an object as a person, and decides about what was shown.
func (p *plant) decides(who, kind, what, id string) (string, error) {
	said, err := p.as(who, kind, "show", id, "--json")
	if err != nil {
		return said, err
	}
	var shown struct{ ContentHash string }
	err = json.Unmarshal([]byte(said), &shown)
	if err != nil {
		return said, err
	}
	return p.as(who, kind, what, id, "--content", shown.ContentHash)
}

func (p *plant) must(t *testing.T, who string, args ...string) string {
	t.Helper()
	out, err := p.as(who, args...)
	must(t, err)
	return out
}

// live says whether serve answers.
func (p *plant) live() bool {
	resp, err := http.Get("http://" + p.at["internal"] + "/live")
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

var must = testkit.Must
