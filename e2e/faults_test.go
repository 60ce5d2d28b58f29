package e2e

import (
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// TestFaults breaks what an instance stands on, piece by piece, while it runs: it says
// what is wrong, acknowledges nothing that it does not keep, goes on answering status,
// and heals by itself. docs/FAULTS.md has a line for each row.
func TestFaults(t *testing.T) {
	f := newFaulty(t)
	for _, row := range []struct {
		name   string
		code   string                  // of the refusal
		health string                  // part of /ready that tells it
		begin  func(*testing.T) func() // gives how it ends; nil: by itself
	}{
		{"disk full", "store.full", "crl", func(t *testing.T) func() { return fill(t, f.Dir) }},
		{"disk of the signer full", "signer.journal_full", "", f.fillSigner},
		{"database locked by another program", "store.busy", "", f.lockDatabase},
		{"clock behind the last record", "clock.behind", "clock", f.lateRecord},
		{"signer killed", "signer.away", "", f.killSigner},
		{"signer stopped", "signer.silent", "signer", f.stopSigner},
	} {
		t.Run(row.name, func(t *testing.T) {
			end := row.begin(t)
			f.refuses(t, row.code)
			f.answersStatus(t)
			if row.health != "" {
				f.tells(t, row.health)
			}
			end()
			f.heals(t)
		})
	}
	f.Stop(t)
	f.keptAll(t)
	t.Run("directory read-only at start", f.readOnly)
}

// faulty is an instance on a small disk of its own, with a client that counts.
type faulty struct {
	*Live
	client *http.Client
	kept   []issued          // acknowledged
	waits  map[string]string // an order that was refused, to be repeated
	n      int
}

func newFaulty(t *testing.T) *faulty {
	bin, err := buildOnce()
	testkit.Must(t, err)
	t.Setenv("TMPDIR", disk(t, t.TempDir(), "48m"))
	f := &faulty{Live: NewLive(t, bin, LiveOptions{CAKey: "p-256"})}
	moveToDisk(t, filepath.Join(f.Dir, "signer"))
	f.Serve(t)
	f.client = testkit.HTTP(t, f.clientTLS(t), false)
	f.issues(t)
	f.awaitStatus(t)
	return f
}

// disk mounts a disk of a size.
func disk(t *testing.T, at, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Missing(t, "the right to mount a disk: run it as root")
	}
	err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size="+size+",mode=0700")
	if err != nil {
		t.Fatalf("mount a disk: %v", err)
	}
	t.Cleanup(func() {
		err := syscall.Unmount(at, syscall.MNT_DETACH)
		if err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return at
}

// moveToDisk puts a directory on a disk of its own.
func moveToDisk(t *testing.T, dir string) {
	t.Helper()
	err := os.Rename(dir, dir+".moved")
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, "cp", "-a", dir+".moved/.", disk(t, dir, "1m"))
}

// fill leaves no byte free on the disk of a directory.
func fill(t *testing.T, dir string) func() {
	name := filepath.Join(dir, "filler")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		_, err = f.Write(make([]byte, size))
		if err != nil {
			size /= 2
		}
	}
	_ = f.Close()
	return func() {
		err := os.Remove(name)
		if err != nil {
			t.Error(err)
		}
	}
}

func (f *faulty) order(t *testing.T) map[string]string {
	t.Helper()
	f.n++
	key := testkit.Key(t)
	return map[string]string{"holderKind": "medical", "holderCode": "0110119153", "terminalName": fmt.Sprint("端末", f.n),
		"csr": testkit.CSRText(t, key), "idempotencyKey": fmt.Sprint("fault-", f.n)}
}

func (f *faulty) post(t *testing.T, order map[string]string) (int, []byte) {
	t.Helper()
	return post(t, f.client, fmt.Sprintf("https://127.0.0.1:%d", f.PortBase+446), order)
}

func (f *faulty) issues(t *testing.T) {
	t.Helper()
	status, answer := f.post(t, f.order(t))
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	f.keep(t, answer)
}

func (f *faulty) keep(t *testing.T, answer []byte) {
	t.Helper()
	var got issued
	err := json.Unmarshal(answer, &got)
	if err != nil {
		t.Fatal(err)
	}
	f.kept = append(f.kept, got)
}

// fillSigner leaves the signer's disk no room, and its journal none in the last block that
// it has: what still fits there is journalled, and so it is signed.
func (f *faulty) fillSigner(t *testing.T) func() {
	t.Helper()
	end := fill(t, filepath.Join(f.Dir, "signer"))
	const lines = 4096 / 50 // of a block, and more than fit
	for range lines {
		status, answer := f.post(t, f.order(t))
		if status != http.StatusCreated {
			break // the row's own order says why
		}
		f.keep(t, answer)
	}
	return end
}

// refuses orders a certificate: it is refused with a reason, and to be asked for again.
func (f *faulty) refuses(t *testing.T, code string) {
	t.Helper()
	f.waits = f.order(t)
	status, answer := f.post(t, f.waits)
	var problem struct{ Code, Title string }
	err := json.Unmarshal(answer, &problem)
	if status != http.StatusServiceUnavailable || err != nil || problem.Code != code || problem.Title == "" {
		t.Errorf("%d %v %s, want %s", status, err, answer, code)
	}
}

// heals repeats the order until it is served, and waits until the instance calls
// itself ready: nobody does anything for that.
func (f *faulty) heals(t *testing.T) {
	t.Helper()
	testkit.Await(t, "order that is served again", func() bool {
		status, answer := f.post(t, f.waits)
		if status == http.StatusCreated {
			f.keep(t, answer)
		}
		return status == http.StatusCreated
	})
	testkit.Await(t, "health", func() bool { return len(f.wrong(t)) == 0 })
	f.answersStatus(t)
}

// wrong is what the health page says.
func (f *faulty) wrong(t *testing.T) map[string]string {
	t.Helper()
	resp, err := http.Get(f.URL(90) + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Wrong []struct {
			Part string
			What map[string]string
		}
	}
	err = json.NewDecoder(resp.Body).Decode(&said)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]string{}
	for _, w := range said.Wrong {
		wrong[w.Part] = w.What["en"]
	}
	return wrong
}

// tells waits until the health page tells of a part.
func (f *faulty) tells(t *testing.T, part string) {
	t.Helper()
	testkit.Await(t, "word of health on "+part, func() bool { return f.wrong(t)[part] != "" })
}

// awaitStatus waits until the new certificate is known to the node's status.
func (f *faulty) awaitStatus(t *testing.T) {
	t.Helper()
	testkit.Await(t, "new certificate that is good", func() bool { return f.ocsp(t) == good })
}

// answersStatus asks for what relying systems need all the time.
func (f *faulty) answersStatus(t *testing.T) {
	t.Helper()
	if status := f.ocsp(t); status != good {
		t.Errorf("OCSP says %d", status)
	}
	resp, err := http.Get(f.URL(80) + "/crl/g1.crl")
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(body(t, resp))
	if err != nil || list.NextUpdate.Before(time.Now()) {
		t.Errorf("CRL: %v, until %s", err, list.NextUpdate)
	}
}

// ocsp asks about the first certificate.
func (f *faulty) ocsp(t *testing.T) int {
	t.Helper()
	cert := testkit.Certificate(t, testkit.DecodePEM(t, []byte(f.kept[0].Certificate)))
	return askOCSP(t, f.URL(80), cert, testkit.CertificateFile(t, f.Dir, "ca", "g1.pem"))
}

// database opens the SQLite file as another program would.
func (f *faulty) database(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(f.Dir, "inkan.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

func (f *faulty) lockDatabase(t *testing.T) func() {
	db := f.database(t)
	_, err := db.Exec("BEGIN IMMEDIATE")
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = db.Close() }
}

// lateRecord makes the last record one of a node whose clock was ahead. Time heals it.
func (f *faulty) lateRecord(t *testing.T) func() {
	db := f.database(t)
	defer func() { _ = db.Close() }()
	_, err := db.Exec("UPDATE audit_tree SET last_at = last_at + 10000000")
	if err != nil {
		t.Fatal(err)
	}
	return func() {}
}

// signers are the processes of the signer.
func (f *faulty) signers(t *testing.T) []int {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", fmt.Sprint(f.serve.Process.Pid)).Output()
	if err != nil {
		t.Fatalf("no signer: %v", err)
	}
	var pids []int
	for _, word := range strings.Fields(string(out)) {
		var pid int
		_, _ = fmt.Sscan(word, &pid)
		pids = append(pids, pid)
	}
	return pids
}

func (f *faulty) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	for _, pid := range f.signers(t) {
		err := syscall.Kill(pid, s)
		if err != nil {
			t.Error(err)
		}
	}
}

func (f *faulty) killSigner(t *testing.T) func() {
	f.signal(t, syscall.SIGKILL)
	return func() {}
}

func (f *faulty) stopSigner(t *testing.T) func() {
	for _, pid := range f.signers(t) {
		testkit.Pause(t, pid)
	}
	return func() { f.signal(t, syscall.SIGCONT) }
}

// keptAll checks that nothing acknowledged was lost and nothing made twice.
func (f *faulty) keptAll(t *testing.T) {
	t.Helper()
	f.run(t, "audit", "verify")
	serials := f.serials(t, 1000)
	seen := map[string]int{}
	for _, got := range f.kept {
		if !slices.Contains(serials, got.Serial) {
			t.Errorf("certificate %s was acknowledged and is lost", got.Serial)
		}
		seen[got.RequestID]++
	}
	if len(seen) != len(f.kept) {
		t.Errorf("%d orders gave %d requests", len(f.kept), len(seen))
	}
}

// readOnly: a directory that cannot be written is refused at the start, by name.
func (f *faulty) readOnly(t *testing.T) {
	err := syscall.Mount(f.Dir, f.Dir, "", syscall.MS_BIND, "")
	if err == nil {
		err = syscall.Mount("", f.Dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	}
	if err != nil {
		t.Fatalf("mount read-only: %v", err)
	}
	out, refused := exec.Command(f.Bin, "serve", "--dir", f.Dir).CombinedOutput()
	err = syscall.Unmount(f.Dir, 0)
	if err != nil {
		t.Fatalf("unmount: %v", err)
	}
	if refused == nil || !strings.Contains(string(out), "read-only") || !strings.Contains(string(out), "inkan.db") {
		t.Errorf("%v: %s", refused, out)
	}
	f.Serve(t)
	f.issues(t)
	f.Stop(t)
}
