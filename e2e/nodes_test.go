package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"inkan/internal/mail/sink"
	"inkan/internal/mail/sink/sinktest"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// TestNodes is three nodes on one PostgreSQL that share one signer, set up by the
// commands of docs/NODES.md.
func TestNodes(t *testing.T) {
	testkit.Long(t, "starts the whole program three times")
	c := newCluster(t)
	c.sameOrder(t)
	c.revocation(t)
	c.rollingRestart(t)
	for _, n := range c.nodes {
		n.Stop(t)
	}
	c.leftBehind(t)
}

// cluster is the nodes and what they share.
type cluster struct {
	nodes    []*Live // the first one's directory is the signer's, too
	signer   *exec.Cmd
	db       *store.DB
	mails    *sink.Sink
	operator []string // who enters and revokes

	issued  map[string]string // serials by idempotency key
	revoked []string
	sent    int // mails there should be
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	bin, err := buildOnce()
	testkit.Must(t, err)
	mails, relay := sinktest.Start(t)
	c := &cluster{issued: map[string]string{}, mails: mails}
	dsn := storetest.Empty(t, store.PostgreSQL)
	first := NewLive(t, bin, LiveOptions{DSN: dsn, CAKey: string(pki.P256),
		Config: fmt.Sprintf("holder_key = \"p-256\"\n[mail]\nsmtp = %q\ntls = \"none\"\n", relay)})
	first.operator(t, "uketsuke", "intake,officer")
	c.operator = first.proof("uketsuke")
	c.db = storetest.Open(t, dsn, nil)
	edit(t, first, "child = true", "child = false", `socket = "signer.sock"`, fmt.Sprintf("socket = %q", filepath.Join(first.Dir, "signer.sock")))
	c.nodes = []*Live{first, furtherNode(t, first), furtherNode(t, first)}
	c.startSigner(t)
	for _, n := range c.nodes {
		n.run(t, "check-config")
		n.Serve(t)
	}
	return c
}

// edit changes the configuration of a node as a person would.
func edit(t *testing.T, l *Live, oldNew ...string) {
	t.Helper()
	file := filepath.Join(l.Dir, "inkan.toml")
	text := string(testkit.ReadFile(t, file))
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("%s is not in\n%s", oldNew[i], text)
		}
	}
	err := os.WriteFile(file, []byte(strings.NewReplacer(oldNew...).Replace(text)), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

// commands are the fenced blocks of shell in a page.
var commands = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")

// furtherNode makes a node as docs/NODES.md says, in both languages.
func furtherNode(t *testing.T, first *Live) *Live {
	t.Helper()
	var script string
	for _, page := range []string{"NODES.md", "NODES.ja.md"} {
		block := commands.FindStringSubmatch(string(testkit.ReadFile(t, filepath.Join("..", "docs", page))))
		if block == nil || script != "" && block[1] != script {
			t.Fatalf("the commands of %s are not those of the other page: %q", page, block)
		}
		script = block[1]
	}
	home := t.TempDir()
	n := &Live{Dir: filepath.Join(home, "node"), Bin: first.Bin, PortBase: freePorts(t), log: filepath.Join(home, "log"), client: first.client}
	sh := exec.Command("sh", "-eu", "-c", script)
	sh.Env = []string{"PATH=" + os.Getenv("PATH"), "FIRST=" + first.Dir, "NODE=" + n.Dir}
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	var ports []string
	for _, offset := range []int{80, 90, 443, 444, 446} {
		ports = append(ports, fmt.Sprintf(`"127.0.0.1:%d"`, first.PortBase+offset), fmt.Sprintf(`"127.0.0.1:%d"`, n.PortBase+offset))
	}
	edit(t, n, ports...)
	return n
}

func (c *cluster) startSigner(t *testing.T) {
	t.Helper()
	first := c.nodes[0]
	log := create(t, filepath.Join(filepath.Dir(first.Dir), "signer.log"))
	signer := exec.Command(first.Bin, "signer", "--dir", first.Dir)
	signer.Stdout, signer.Stderr = log, log
	signer.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := signer.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = signer.Process.Kill()
		_ = signer.Wait() // it has ended already where it was stopped
	})
	c.signer = signer
	testkit.Await(t, "signer", func() bool {
		conn, err := net.Dial("unix", filepath.Join(first.Dir, "signer.sock"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (c *cluster) stopSigner(t *testing.T) {
	t.Helper()
	err := c.signer.Process.Signal(syscall.SIGTERM)
	if err == nil {
		err = c.signer.Wait()
	}
	if err != nil {
		t.Fatalf("signer ended with %v", err)
	}
}

// healthy wants no job of a node to have failed.
func (c *cluster) healthy(t *testing.T, n *Live) {
	t.Helper()
	log := string(testkit.ReadFile(t, n.log))
	for line := range strings.Lines(log) {
		if strings.Contains(line, "job failed") || strings.Contains(line, "panic") {
			t.Errorf("node %d: %s", slices.Index(c.nodes, n)+1, line)
		}
	}
}

// view reads the database that all nodes share.
func (c *cluster) view(t *testing.T, fn func(tx *store.Tx) error) {
	t.Helper()
	err := c.db.View(context.Background(), fn)
	if err != nil {
		t.Fatal(err)
	}
}

// leftBehind looks at what all the stories left: each thing was done once.
func (c *cluster) leftBehind(t *testing.T) {
	serials := map[string]bool{}
	c.view(t, func(tx *store.Tx) error {
		for after := ""; ; {
			page, err := tx.Certificates(store.CertificateFilter{Issuer: "g1", After: after, Limit: 1000})
			if err != nil || len(page) == 0 {
				return err
			}
			for _, cert := range page {
				after = cert.Serial
				if cert.RequestID != "" {
					serials[cert.Serial] = true
				}
			}
		}
	})
	if want := len(c.issued) + len(c.revoked); len(serials) != want {
		t.Errorf("%d certificates of holders, %d were asked for", len(serials), want)
	}
	for key, serial := range c.issued {
		if !serials[serial] {
			t.Errorf("certificate %s of order %s was given out and is not in the database", serial, key)
		}
	}
	c.oneSequence(t)
	if got := len(c.mails.Mails()); got != c.sent {
		t.Errorf("%d mails left, want %d", got, c.sent)
	}
	own := map[string]string{}
	for _, n := range c.nodes {
		for _, name := range []string{"ocsp", "portal", "portal-auth", "api"} {
			key := string(testkit.ReadFile(t, filepath.Join(n.Dir, "edge", name+".pem")))
			if own[key] != "" {
				t.Errorf("%s of %s is also %s", name, n.Dir, own[key])
			}
			own[key] = name + " of " + n.Dir
		}
	}
	out := c.nodes[2].run(t, "audit", "verify")
	t.Log(strings.TrimSpace(out))
}

// oneSequence wants the numbers of each issuer's CRLs to grow, and no CRL that says
// nothing new.
func (c *cluster) oneSequence(t *testing.T) {
	t.Helper()
	type crl struct{ Number, Entries int64 }
	published := map[string][]crl{}
	c.view(t, func(tx *store.Tx) error {
		records, err := storetest.Records(tx, 0)
		for _, r := range records {
			if r.Kind != "crl.published" {
				continue
			}
			var list crl
			err = json.Unmarshal(r.Body, &list)
			if err != nil {
				return err
			}
			published[r.Subject] = append(published[r.Subject], list)
		}
		return err
	})
	for issuer, lists := range published {
		for i, next := range lists[1:] {
			if last := lists[i]; next.Number <= last.Number || next.Entries <= last.Entries {
				t.Errorf("%s: CRL %+v was followed by %+v", issuer, last, next)
			}
		}
	}
	lists := published["g1"]
	if len(lists) == 0 || lists[len(lists)-1].Entries != int64(len(c.revoked)) {
		t.Errorf("CRLs of g1: %+v, with %d revocations", lists, len(c.revoked))
	}
	t.Logf("CRLs: %+v", published)
}
