package signer_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/signer"
	"inkan/internal/testkit"
)

func root(n int64) []byte { return fmt.Appendf(nil, "%032d", n) }

// written is a journal with a start, three checkpoints and a certificate.
func written(t *testing.T) (*office, []byte) {
	t.Helper()
	o := newOffice(t, keystore.ModeDemo)
	s := o.open()
	for n := range int64(3) {
		must(t, grow(s, 10*(n+1)))
	}
	if r := one(t, s, o.request(1)); r.Code != "" {
		t.Fatal(r.Code)
	}
	must(t, grow(s, 40))
	must(t, s.Close())
	data, err := os.ReadFile(filepath.Join(o.dir, "journal"))
	must(t, err)
	return o, data
}

func TestJournalDamage(t *testing.T) {
	edit := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	tests := []struct {
		name   string
		damage func(data []byte) []byte
		code   string // "": opens
		size   int64  // high-water then
	}{
		{"none", func(b []byte) []byte { return b }, "", 40},
		{"half a line at the end", func(b []byte) []byte { return append(b, `{"at":1,"kind":"tr`...) }, "", 40},
		{"last line cut", func(b []byte) []byte { return b[:len(b)-20] }, "", 30},
		{"newline cut", func(b []byte) []byte { return b[:len(b)-1] }, "", 30},
		{"zeros at the end", func(b []byte) []byte { return append(b, make([]byte, 200_000)...) }, "", 40},
		{"a whole foreign line at the end", func(b []byte) []byte { return append(b, "{\"at\":1,\"kind\":\"tree\"}\n"...) }, "signer.journal", 0},
		{"an empty line at the end", func(b []byte) []byte { return append(b, '\n') }, "signer.journal", 0},
		{"zeros in the middle", func(b []byte) []byte { copy(b[len(b)/2:], make([]byte, 50)); return b }, "signer.journal", 0},
		{"a long line in the middle", func(b []byte) []byte {
			return append(bytes.Repeat([]byte{'x'}, 200_000), b...)
		}, "signer.journal", 0},
		{"high-water lowered", edit(`"size":30`, `"size":10`), "signer.journal", 0},
		{"mode changed", edit(`"mode":"demo"`, `"mode":"live"`), "signer.journal", 0},
		{"a line removed", func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(append(lines[:2:2], lines[3:]...), nil)
		}, "signer.journal", 0},
		{"two lines swapped", func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			lines[1], lines[2] = lines[2], lines[1]
			return bytes.Join(lines, nil)
		}, "signer.journal", 0},
		{"another instance's", func([]byte) []byte { _, other := written(t); return other }, "signer.journal", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, data := written(t)
			path := filepath.Join(o.dir, "journal")
			must(t, os.WriteFile(path, tt.damage(data), 0o600))
			s, err := signer.New(o.config())
			if tt.code != "" {
				wantCode(t, err, tt.code)
				return
			}
			must(t, err)
			info, err := s.Info(t.Context())
			must(t, err)
			if want := treeOf("tree", tt.size/10, tt.size); !info.Tree.Same(want) {
				t.Errorf("remembers %+v, want %+v", info.Tree, want)
			}
			left, err := os.ReadFile(path)
			must(t, err)
			if !bytes.HasSuffix(left, []byte("\"}\n")) {
				t.Error("the torn line is still there")
			}
			// It goes on, and what it wrote is whole.
			must(t, grow(s, 41))
			must(t, s.Close())
			o.open()
		})
	}
}

func TestJournalFile(t *testing.T) {
	o, _ := written(t)
	path := filepath.Join(o.dir, "journal")
	must(t, os.Chmod(path, 0o640))
	_, err := signer.New(o.config())
	wantCode(t, err, "vault.mode")
	must(t, os.Remove(path))
	_, err = signer.New(o.config())
	wantCode(t, err, "signer.journal_missing")
}

// The recent certificates survive a restart, and are forgotten after a day.
func TestJournalRemembersSerials(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	s := o.open()
	first := o.request(1)
	if r := one(t, s, first); r.Code != "" {
		t.Fatal(r.Code)
	}
	serial := serialOf(t, o, first)
	must(t, s.Close())
	s = o.open()
	if r := one(t, s, o.prepare(issuance.ProfileHolder, 2, o.time.Now(), serial)); r.Code != "signer.serial" {
		t.Errorf("code %q", r.Code)
	}
	if r := one(t, s, first); r.Code != "" {
		t.Errorf("recovery was refused: %s", r.Code)
	}
	o.time.Advance(25 * time.Hour)
	if r := one(t, s, o.request(3)); r.Code != "" { // pushes the old ones out
		t.Fatal(r.Code)
	}
	if r := one(t, s, o.prepare(issuance.ProfileHolder, 4, o.time.Now(), serial)); r.Code != "" {
		t.Errorf("after a day: %q", r.Code)
	}
}

// Everything that a signer promised before a segment began is kept after it, by a start
// that has only that segment (threats CK7, CK10, ST8, AU2).
func TestHeadKeepsPromises(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	s := o.open()
	first := o.request(1)
	if r := one(t, s, first); r.Code != "" {
		t.Fatal(r.Code)
	}
	_, err := s.SignCRL(t.Context(), issuance.G1, o.crl(issuance.G1, 7, start))
	must(t, err)
	must(t, grow(s, 10))
	key, err := issuance.GenerateKey(pki.P256)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	blobs, err := s.SealPool(t.Context(), []keystore.PoolKey{{KeyID: "k1", PKCS8: der}})
	must(t, err)
	path := filepath.Join(o.dir, "epochs", "2026-11.key")
	backup, err := os.ReadFile(path)
	must(t, err)
	o.time.Advance(20 * 24 * time.Hour)
	gone, err := s.DestroyEpochs(t.Context(), "2026-12")
	if err != nil || len(gone) != 1 {
		t.Fatalf("destroyed %v, %v", gone, err)
	}
	s.Turn()
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(o.dir, "journal.000001")))
	must(t, os.WriteFile(path, backup, 0o600)) // an old backup

	s = o.open()
	if r := one(t, s, o.prepare(issuance.ProfileHolder, 2, o.time.Now(), serialOf(t, o, first))); r.Code != "signer.serial" {
		t.Errorf("a serial again: %q", r.Code)
	}
	other := o.request(1)
	other.AuditLeaf = root(3)
	if r := one(t, s, other); r.Code != "signer.leaf" {
		t.Errorf("an audit index again: %q", r.Code)
	}
	_, err = s.SignCRL(t.Context(), issuance.G1, o.crl(issuance.G1, 6, start))
	wantCode(t, err, "signer.crl_number")
	_, err = s.SignCheckpoint(t.Context(), 1, treeOf("fork", 2, 20), proofOf("fork", 10, 20))
	wantCode(t, err, "signer.tree_forked")
	must(t, grow(s, 20))
	_, err = s.Hold(t.Context(), keystore.HoldRequest{KeyID: "k1", RequestID: "202611230000001", PoolBlob: blobs[0]})
	wantCode(t, err, "pickup.key_destroyed")
}

// AU12: a full disk means no signature, and no lasting harm.
func TestJournalDiskFull(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	s := o.open()
	must(t, grow(s, 10))
	request := o.request(1)

	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	info, err := os.Stat(filepath.Join(o.dir, "journal"))
	must(t, err)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(info.Size()) + 10, Max: old.Max}))
	results, signErr := s.SignIntents(t.Context(), []keystore.SignRequest{request})
	treeErr := grow(s, 20)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	after, err := os.Stat(filepath.Join(o.dir, "journal"))
	must(t, err)
	if after.Size() != info.Size() {
		t.Errorf("the failed write left %d octets", after.Size()-info.Size())
	}

	wantCode(t, signErr, "signer.journal_full")
	wantCode(t, treeErr, "signer.journal_full")
	if results != nil {
		t.Errorf("results %+v", results)
	}
	if r := one(t, s, request); r.Code != "" {
		t.Errorf("afterwards: %s", r.Code)
	}
	must(t, grow(s, 30))
	must(t, s.Close())
	o.open()
}

const childDir = "INKAN_TEST_SIGNER_DIR"

// TestChild is no test: it is the process that TestJournalKill kills. It signs
// checkpoints and prints each size once the signature is there.
func TestChild(t *testing.T) {
	dir := testkit.Asked(t, childDir, "TestJournalKill sets it")
	pass, err := io.ReadAll(os.Stdin)
	must(t, err)
	s, err := signer.New(signer.Config{Dir: dir, Passphrase: pki.Secret(pass), Now: time.Now, Log: testkit.Quiet})
	must(t, err)
	info, err := s.Info(t.Context())
	must(t, err)
	for n := info.Tree.Size + 1; ; n++ {
		must(t, grow(s, n))
		fmt.Printf("signed %d\n", n)
	}
}

// Whatever left the signer before it was killed is in the journal afterwards.
func TestJournalKill(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
		cmd.Env = append(os.Environ(), childDir+"="+o.dir)
		cmd.Stdin = strings.NewReader(o.pass.Reveal())
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var last int64
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			text, ok := strings.CutPrefix(lines.Text(), "signed ")
			if !ok {
				continue
			}
			last, err = strconv.ParseInt(text, 10, 64)
			must(t, err)
			if last%20 == int64(5+round) {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // killed
		s := o.open()
		info, err := s.Info(t.Context())
		must(t, err)
		if info.Tree.Size < last || last == 0 || !info.Tree.Same(treeOf("tree", info.Tree.Size, info.Tree.Size)) {
			t.Errorf("round %d: remembers %+v, but %d was signed", round, info.Tree, last)
		}
		must(t, s.Close())
	}
}
