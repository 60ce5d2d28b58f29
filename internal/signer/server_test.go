package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/signer"
	"inkan/internal/testkit"
)

// Every call, over the socket.
func TestCalls(t *testing.T) { eachHome(t, everyCall) }

func everyCall(t *testing.T, h home) {
	o := newOfficeAt(t, keystore.ModeDemo, h)
	c, _ := o.serve()
	ctx := t.Context()

	var batch []keystore.SignRequest
	for i := range int64(3) {
		batch = append(batch, o.request(i))
	}
	results, err := c.SignIntents(ctx, batch)
	must(t, err)
	for i, r := range results {
		_, err = o.issuers[issuance.G1].Assemble(batch[i].TBS, r.Signature)
		must(t, err)
	}
	results, err = c.SignIntents(ctx, nil)
	if err != nil || len(results) != 0 {
		t.Errorf("an empty batch: %v, %v", results, err)
	}
	tbs := o.crl(issuance.G1, start.Unix(), start)
	signature, err := c.SignCRL(ctx, issuance.G1, tbs)
	must(t, err)
	_, err = o.issuers[issuance.G1].AssembleCRL(tbs, signature)
	must(t, err)
	must(t, grow(c, 5))

	key, err := issuance.GenerateKey(pki.P256)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	spkiDER, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	sum := sha256.Sum256(spkiDER)
	spki := hex.EncodeToString(sum[:])
	const request = "202611230000001"
	ref := pki.NewReferenceID()
	blobs, err := c.SealPool(ctx, []keystore.PoolKey{{KeyID: "k1", PKCS8: pkcs8}, {KeyID: "k2", PKCS8: pkcs8}})
	must(t, err)
	verifier, err := c.NewVerifier(ctx, request, ref)
	must(t, err)
	for _, tt := range []struct {
		ref  pki.Secret
		want bool
	}{{ref, true}, {"AAAAAAAAAA", false}, {"", false}, {pki.Secret(strings.Repeat("x", 5000)), false}} {
		ok, err := c.CheckReference(ctx, request, tt.ref, verifier)
		if err != nil || ok != tt.want {
			t.Errorf("check: %v, %v", ok, err)
		}
	}
	held, err := c.Hold(ctx, keystore.HoldRequest{KeyID: "k1", RequestID: request, PoolBlob: blobs[0], SPKISHA256: spki, Reference: ref, Verifier: verifier})
	must(t, err)
	if held.Epoch != "2026-11" || held.SPKISHA256 != spki {
		t.Errorf("held %+v", held)
	}
	o.time.Advance(30 * 24 * time.Hour)
	held, err = c.Rewrap(ctx, keystore.RewrapRequest{KeyID: "k1", RequestID: request, SPKISHA256: spki, Blob: held.Blob})
	must(t, err)
	got, err := c.OpenHeld(ctx, keystore.OpenRequest{KeyID: "k1", RequestID: request, SPKISHA256: spki, Blob: held.Blob, Reference: ref, Verifier: verifier})
	must(t, err)
	if !bytes.Equal(got, pkcs8) || held.Epoch != "2026-12" {
		t.Errorf("epoch %s, or another key came back", held.Epoch)
	}
	_, err = c.OpenHeld(ctx, keystore.OpenRequest{KeyID: "k1", RequestID: request, SPKISHA256: spki, Blob: held.Blob, Reference: "AAAAAAAAAA", Verifier: verifier})
	wantCode(t, err, "pickup.key_sealed")
	if pki.ClassOf(err) != pki.Forbidden {
		t.Errorf("class %s", pki.ClassOf(err))
	}
	sealed, err := c.SealReference(ctx, request, ref)
	must(t, err)
	back, err := c.OpenReference(ctx, request, sealed)
	must(t, err)
	if back.Reveal() != ref.Reveal() {
		t.Error("another reference ID came back")
	}
	gone, err := c.DestroyEpochs(ctx, "2026-12")
	must(t, err)
	if len(gone) != 1 || gone[0] != "2026-11" {
		t.Errorf("destroyed %v", gone)
	}
	_, err = c.Hold(ctx, keystore.HoldRequest{KeyID: "k2", RequestID: request, PoolBlob: blobs[1]})
	wantCode(t, err, "pickup.key_destroyed")
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Args["Epoch"] != "2026-11" {
		t.Errorf("arguments of %v", err)
	}
	info, err := c.Info(ctx)
	must(t, err)
	if !info.Tree.Same(treeOf("tree", 1, 5)) || info.CRLNumbers[issuance.G1] != start.Unix() || info.Mode != "demo" {
		t.Errorf("info %+v", info)
	}
	for _, secret := range []string{ref.Reveal(), o.pass.Reveal(), hex.EncodeToString(pkcs8)} {
		if strings.Contains(o.log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// A list above a frame's size travels in several.
func TestBatchAboveOneFrame(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	c, _ := o.serve()
	batch := make([]keystore.SignRequest, 2500)
	for i := range batch {
		batch[i] = keystore.SignRequest{Issuer: "g1", Profile: "holder", TBS: make([]byte, 1500)}
	}
	good := o.request(1)
	batch[2000] = good
	results, err := c.SignIntents(t.Context(), batch)
	must(t, err)
	for i, r := range results {
		if (r.Code == "") != (i == 2000) {
			t.Fatalf("item %d: %q", i, r.Code)
		}
	}
	if len(results) != len(batch) {
		t.Errorf("%d results", len(results))
	}
}

func TestClientHeals(t *testing.T) { eachHome(t, clientHeals) }

func clientHeals(t *testing.T, h home) {
	o := newOfficeAt(t, keystore.ModeDemo, h)
	c, stop := o.serve()
	for range 3 {
		stop()
		_, err := c.Info(t.Context())
		wantCode(t, err, "signer.away")
		if pki.ClassOf(err) != pki.Busy {
			t.Errorf("class %s", pki.ClassOf(err))
		}
		_, stop = o.serve()
		_, err = c.Info(t.Context())
		must(t, err)
		stop()
		_, stop = o.serve()
		_, err = c.Info(t.Context()) // on a connection of the signer that is gone
		must(t, err)
	}
}

func TestConcurrentCalls(t *testing.T) { eachHome(t, concurrentCalls) }

func concurrentCalls(t *testing.T, h home) {
	o := newOfficeAt(t, keystore.ModeDemo, h)
	c, stop := o.serve()
	var group sync.WaitGroup
	requests := make([]keystore.SignRequest, 40)
	for i := range requests {
		requests[i] = o.request(int64(i))
	}
	for i, r := range requests {
		group.Go(func() {
			results, err := c.SignIntents(t.Context(), []keystore.SignRequest{r})
			if err != nil || results[0].Code != "" {
				t.Errorf("sign %d: %v %v", i, results, err)
				return
			}
			_, err = o.issuers[issuance.G1].Assemble(r.TBS, results[0].Signature)
			if err != nil {
				t.Errorf("answer %d belongs to another call: %v", i, err)
			}
		})
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			defer cancel()
			_, err := c.NewVerifier(ctx, "202611230000001", "Abcdefghj2")
			if err != nil && pki.CodeOf(err) != "signer.silent" {
				t.Errorf("verifier %d: %v", i, err)
			}
		})
	}
	group.Wait()
	stop()
	s := o.open() // the journal of concurrent calls is whole
	for _, r := range requests[:3] {
		if got := one(t, s, r); got.Code != "" {
			t.Error(got.Code)
		}
	}
}

// A signer at the limit of what it can, with two hundred in line for Argon2id and as many
// for signatures, is not called silent by anybody who looks at it: neither by the process
// that makes that load, nor by a command, which hears of no other answer.
func TestBusyIsNotSilent(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	c, _ := o.serve()
	command := keystore.Dial(filepath.Join(o.dir, "sock"))
	defer func() { _ = command.Close() }()
	requests := make([]keystore.SignRequest, 200)
	for i := range requests {
		requests[i] = o.request(int64(i))
	}
	var load sync.WaitGroup
	for _, r := range requests {
		load.Go(func() {
			_, err := c.NewVerifier(t.Context(), "202611230000001", "Abcdefghj2")
			if err != nil && pki.CodeOf(err) != "signer.busy" { // the machine may do something else
				t.Errorf("in line: %v", err)
			}
		})
		load.Go(func() {
			_, err := c.SignIntents(t.Context(), []keystore.SignRequest{r})
			if err != nil {
				t.Errorf("in line: %v", err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		load.Wait()
		close(done)
	}()
	for working := true; working; {
		for name, client := range map[string]*keystore.Client{"the edge": c, "a command": command} {
			_, err := client.Info(t.Context())
			if err != nil {
				t.Errorf("look of %s: %v", name, err)
			}
		}
		select {
		case <-done:
			working = false
		default:
		}
	}
}

// A shutdown lets calls under way finish.
func TestShutdownDrains(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	c, stop := o.serve()
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			_, err := c.NewVerifier(context.Background(), "202611230000001", "Abcdefghj2")
			errs <- err
		}()
	}
	time.Sleep(20 * time.Millisecond) // they are in Argon2id now
	stop()
	for range 4 {
		err := <-errs
		if err != nil && pki.CodeOf(err) != "signer.away" { // one that had not begun
			t.Error(err)
		}
	}
	_, err := os.Lstat(filepath.Join(o.dir, "sock"))
	if !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSocket(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	path := filepath.Join(o.dir, "sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	c, _ := o.serve()
	info, err := os.Lstat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
	_, err = signer.New(o.config())
	wantCode(t, err, "signer.running")
	_, err = c.Info(t.Context()) // and the first one goes on
	must(t, err)

	// Nonsense ends the connection; an unknown verb is answered.
	for name, raw := range map[string][]byte{
		"a large frame":          {0, 0x20, 0, 0, 12},
		"a very large list":      {0xff, 0xff, 0xff, 0xff, 2},
		"another protocol":       []byte("GET / HTTP/1.1\r\n\r\n"),
		"a list of a large size": {0, 0, 0, 4, 1, 0xff, 0xff, 0xff, 0xff},
		"an unknown verb":        {0, 0, 0, 0, 99},
	} {
		conn, err := net.Dial("unix", path)
		must(t, err)
		_, err = conn.Write(raw)
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(testkit.Patience)))
		answer := make([]byte, 5)
		n, err := conn.Read(answer)
		if n > 0 && answer[4] != 1 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: answer %x, %v", name, answer[:n], err)
		}
		_ = conn.Close()
	}
	_, err = c.Info(t.Context())
	must(t, err)
}

func TestSocketPeer(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	o.uid = os.Geteuid() + 1
	c, _ := o.serve()
	testkit.Await(t, "word about the peer", func() bool {
		_, err := c.Info(t.Context())
		wantCode(t, err, "signer.away")
		return strings.Contains(o.log.String(), "signer.peer")
	})
}

// Paths above the kernel's 107 octets work.
func TestLongSocketPath(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	long := filepath.Join(filepath.Dir(o.dir), strings.Repeat("d", 120))
	must(t, os.Rename(o.dir, long))
	o.dir = long
	c, _ := o.serve()
	_, err := c.Info(t.Context())
	must(t, err)
}

func BenchmarkSignIntents(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(map[int]string{1: "single", 100: "batch"}[size], func(b *testing.B) {
			o := newOffice(b, keystore.ModeDemo)
			o.rate = 1 << 30
			c, _ := o.serve()
			batch := make([]keystore.SignRequest, size)
			for i := range batch {
				batch[i] = o.request(int64(i))
			}
			for b.Loop() {
				results, err := c.SignIntents(b.Context(), batch)
				if err != nil || results[0].Code != "" {
					b.Fatal(results, err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "signatures/s")
		})
	}
}

// CK12: neither core files nor another process show the signer's memory. The child that
// is not hardened shows that the aborted one would have left a core.
func TestThreatCK12Harden(t *testing.T) {
	const child = "INKAN_TEST_HARDEN"
	switch os.Getenv(child) {
	case "":
	case "bare":
		abort(t)
	default:
		must(t, unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: coreSize, Max: coreSize}))
		must(t, signer.Harden())
		var limit unix.Rlimit
		must(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		must(t, err)
		if limit.Cur != 0 || limit.Max != 0 || dumpable != 0 {
			t.Errorf("core limit %d %d, dumpable %d", limit.Cur, limit.Max, dumpable)
		}
		abort(t)
	}
	blind := false
	for _, as := range []string{"bare", "hardened"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestThreatCK12Harden$")
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), child+"="+as, "GOTRACEBACK=crash")
		out, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatalf("%s child: %v\n%s", as, err, out)
		}
		status := exit.Sys().(syscall.WaitStatus)
		switch {
		case !status.Signaled() || status.Signal() != syscall.SIGABRT || strings.Contains(string(out), "core limit"):
			t.Errorf("%s child: %v\n%s", as, err, out)
		case as == "hardened" && status.CoreDump():
			t.Error("a hardened process left a core")
		case as == "bare" && !status.CoreDump():
			blind = true
		}
	}
	if blind {
		testkit.Missing(t, "a machine on which a process may leave a core: ulimit -c, /proc/sys/kernel/core_pattern")
	}
}

// coreSize is enough to see that there is a core.
const coreSize = 1 << 20

// abort ends this process as a defect of the run time would.
func abort(t *testing.T) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: coreSize, Max: coreSize}) // refused to the hardened
	must(t, unix.Kill(os.Getpid(), unix.SIGABRT))
	select {}
}
