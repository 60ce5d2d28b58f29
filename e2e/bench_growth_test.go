package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// growth holds the loads at a large number of certificates against those at a small one:
// two instances, loaded in turns. It also measures what a start costs at each.
func (b *bench) growth() {
	for _, engine := range storetest.Engines {
		b.Run("growth", func(t *testing.T) {
			small, large := b.grown(t, engine, 10_000), b.grown(t, engine, b.size)
			each := b.lasts / turns
			smallCPU, largeCPU := time.Duration(0), time.Duration(0)
			middle := inTurns(turns,
				func() rate { return b.issueCounted(t, small, each, &smallCPU) },
				func() rate { return b.issueCounted(t, large, each, &largeCPU) })
			b.rates(fmt.Sprintf("certificates, %d stored, %s", b.size, engine), middle.got, middle.limit.perSecond,
				fmt.Sprintf("limit: the rate at 10000; CPU of the edge: %v, at 10000 %v", (largeCPU/turns).Round(time.Microsecond), (smallCPU/turns).Round(time.Microsecond)))
			if engine == store.SQLite { // answered from memory: of the other engine it would be the same
				b.ocspGrown(small, large)
			}
			small.Stop(t)
			large.Stop(t)
		})
	}
}

func (b *bench) ocspGrown(small, large *Live) {
	few, many := b.questions(small, 1000), b.questions(large, 1000)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		atFew, atMany := small.asked(method, few), large.asked(method, many)
		middle := inTurns(turns, func() rate { return b.ask(small.status(), atFew) }, func() rate { return b.ask(large.status(), atMany) })
		b.rates(fmt.Sprintf("OCSP answers, %s, %d stored", method, b.size), middle.got, middle.limit.perSecond, "limit: the rate at 10000")
	}
}

// issueCounted also adds what a certificate cost the edge.
func (b *bench) issueCounted(t *testing.T, l *Live, lasts time.Duration, each *time.Duration) rate {
	before, _ := l.cpu(t)
	got := b.issueLoad(t, l, lasts)
	after, _ := l.cpu(t)
	*each += (after - before) / time.Duration(got.count)
	return got
}

// grown is an instance with n certificates, and what its start cost.
func (b *bench) grown(t *testing.T, engine string, n int) *Live {
	t.Helper()
	o := LiveOptions{CAKey: string(pki.P256)}
	if engine == store.PostgreSQL {
		o.DSN = storetest.Empty(t, engine)
	}
	l := NewLive(t, b.bin, o)
	dsn := o.DSN
	if dsn == "" {
		dsn = "sqlite://" + l.Dir + "/inkan.db"
	}
	l.Serve(t)
	b.issueLoad(t, l, time.Second) // one to copy
	l.Stop(t)
	b.fill(t, dsn, n)
	ready := l.Serve(t)
	time.Sleep(3 * time.Second) // until it rests
	edge, signer := l.memory(t)
	b.row(fmt.Sprintf("start with %d certificates, %s", n, engine), ready.Round(time.Millisecond).String(), "500ms", "",
		"from exec to ready; the signer opens its vault meanwhile")
	b.row(fmt.Sprintf("idle memory, %d certificates, %s", n, engine), fmt.Sprintf("%d MB", edge>>20), "120 MB", "",
		fmt.Sprintf("resident, edge; signer %d MB", signer>>20))
	return l
}

// crl measures a CRL of as many entries as the large database has certificates, from the
// rows or the last list to published: made of all rows and compared with the last, as
// each hour, and with one revocation more, as he who revokes waits for it.
func (b *bench) crl() {
	l := NewLive(b, b.bin, LiveOptions{})
	l.Serve(b)
	b.issueLoad(b.T, l, time.Second)
	l.Stop(b)
	dsn := "sqlite://" + l.Dir + "/inkan.db"
	b.fill(b.T, dsn, b.size)
	db, err := store.Open(b.Context(), store.Options{DSN: dsn, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	spare := b.revokeAll(db)
	l.Serve(b) // publishes the first by itself
	for _, c := range spare {
		edge := fmt.Sprint(l.serve.Process.Pid)
		forgetPeak(b.T, edge)
		before := len(l.published(b.T))
		began := time.Now()
		err = db.Update(b.Context(), func(tx *store.Tx) error { return revokeEach(tx, []pki.Certificate{c}) })
		if err != nil {
			b.Fatal(err)
		}
		lists := l.published(b.T)
		for len(lists) == before && time.Since(began) < time.Minute {
			time.Sleep(5 * time.Millisecond)
			lists = l.published(b.T)
		}
		seen := time.Since(began)
		_, signer := l.memory(b)
		b.row(fmt.Sprintf("CRL of %d entries, one more", b.size), lists[len(lists)-1].String(), "500ms", "",
			fmt.Sprintf("the server's; %v after the revocation; peak memory %d MB (limit 250 MB), signer %d MB", seen.Round(time.Millisecond), peak(b.T, edge)>>20, signer>>20))
	}
	for range 2 {
		began := time.Now()
		cmd := exec.Command(l.Bin, "crl", "--dir", l.Dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("inkan crl: %v\n%s", err, out)
		}
		took := time.Since(began)
		_, signer := l.memory(b)
		b.row(fmt.Sprintf("CRL of %d entries, all rows", b.size), took.Round(time.Millisecond).String(), "500ms", "",
			fmt.Sprintf("the whole command; peak memory %d MB (limit 250 MB), signer %d MB", cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10, signer>>20))
	}
	l.Stop(b)
}

// published gives how long each CRL of holders took that the server published.
func (l *Live) published(t testing.TB) []time.Duration {
	t.Helper()
	log, err := os.ReadFile(l.log)
	if err != nil {
		t.Fatal(err)
	}
	var out []time.Duration
	for line := range bytes.Lines(log) {
		var said struct {
			Msg, Issuer string
			Took        time.Duration
		}
		if json.Unmarshal(line, &said) == nil && said.Msg == "CRL published" && said.Issuer == issuance.G1 {
			out = append(out, said.Took)
		}
	}
	return out
}

// peak is the most that a process had resident since forgetPeak.
func peak(t testing.TB, pid string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	var kilobytes int64
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscan(line, &kilobytes)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

func forgetPeak(t testing.TB, pid string) {
	t.Helper()
	err := os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0) // see proc_pid_clear_refs(5)
	if err != nil {
		t.Fatal(err)
	}
}

// revokeAll revokes every holder's certificate but two, which it gives.
func (b *bench) revokeAll(db *store.DB) []pki.Certificate {
	var spare []pki.Certificate
	filter := store.CertificateFilter{Issuer: issuance.G1, Limit: 2000}
	for {
		var page []pki.Certificate
		err := db.View(b.Context(), func(tx *store.Tx) error {
			var err error
			page, err = tx.Certificates(filter)
			return err
		})
		last := len(page) < filter.Limit
		if len(page) > 0 {
			filter.After = page[len(page)-1].Serial
		}
		if spare == nil {
			spare, page = page[:2], page[2:]
		}
		if err == nil {
			err = db.Update(b.Context(), func(tx *store.Tx) error { return revokeEach(tx, page) })
		}
		if err != nil {
			b.Fatal(err)
		}
		if last {
			return spare
		}
	}
}

func revokeEach(tx *store.Tx, page []pki.Certificate) error {
	for _, c := range page {
		if c.Profile != issuance.ProfileHolder {
			continue
		}
		serial, err := pki.ParseSerial(c.Serial)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(pki.System("bench"), "certificate.revoked", c.Serial, nil)
		if err != nil {
			return err
		}
		c.Reason, c.EffectiveAt = pki.KeyCompromise, tx.Now
		err = tx.RevokeCertificate(c, issuance.EncodeEntry(serial, tx.Now, pki.KeyCompromise, time.Time{}))
		if err != nil {
			return err
		}
	}
	return nil
}

// fill brings a database to n certificates without going all the lines: the rows and
// audit records are those of an issue under a grant, the certificates copies of one with
// serials of their own.
func (b *bench) fill(t *testing.T, dsn string, n int) {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{DSN: dsn, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var model pki.Certificate
	var request pki.Request
	have := 0
	err = db.View(context.Background(), func(tx *store.Tx) error {
		all, err := tx.Certificates(store.CertificateFilter{Issuer: issuance.G1, Limit: 1})
		if err != nil {
			return err
		}
		for _, c := range all {
			model = c
		}
		err = tx.EachSerials([]string{issuance.G1}, func(_ int, serials string) error {
			have += strings.Count(serials, ",") + 1
			return nil
		})
		if err != nil {
			return err
		}
		request, err = tx.Request(model.RequestID)
		if errors.Is(err, pki.ErrNotFound) {
			err = errors.New("the first certificate has no request")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	rows := make(chan int)
	for range 256 {
		wg.Go(func() {
			for i := range rows {
				err := db.Update(context.Background(), func(tx *store.Tx) error { return copyOf(tx, model, request, i) })
				if err != nil {
					t.Errorf("fill: %v", err)
				}
			}
		})
	}
	for i := have; i < n && !t.Failed(); i++ {
		rows <- i
	}
	close(rows)
	wg.Wait()
	if n > have {
		t.Logf("filled %d rows in %v", n-have, time.Since(began).Round(time.Second))
	}
}

// copyOf stores one more certificate with all that belongs to it.
func copyOf(tx *store.Tx, c pki.Certificate, r pki.Request, i int) error {
	number := issuance.NewSerial()
	was, err := hex.DecodeString(c.Serial)
	if err != nil {
		return err
	}
	c.DER = bytes.Replace(c.DER, was, number.Bytes(), 1)
	sum := sha256.Sum256(c.DER)
	c.Serial, c.SHA256 = pki.SerialHex(number), hex.EncodeToString(sum[:])
	spki := sha256.Sum256(sum[:])
	c.SPKISHA256, c.IssuedAt = hex.EncodeToString(spki[:]), tx.Now
	r.ID, err = tx.NextRequestID()
	if err != nil {
		return err
	}
	r.Idempotency, r.ReceivedAt, c.RequestID, r.Serial = fmt.Sprint("fill-", os.Getpid(), "-", i), tx.Now, r.ID, c.Serial
	by := pki.System("bench")
	for _, kind := range []string{"request.issuing", "request.issued"} {
		_, _, err = tx.Audit(by, kind, r.ID, map[string]any{"from": "issuing", "to": "issued"})
		if err != nil {
			return err
		}
	}
	err = tx.AddRequest(r)
	if err != nil {
		return err
	}
	err = tx.ClaimPublicKey(c.SPKISHA256, "request/"+r.ID)
	if err != nil {
		return err
	}
	index, leaf, err := tx.Audit(by, "certificate.intent", c.Serial, map[string]any{"request": r.ID, "issuer": c.Issuer, "profile": c.Profile, "tbsSHA256": c.SHA256})
	if err != nil {
		return err
	}
	err = tx.AddIntent(store.Intent{Serial: c.Serial, Issuer: c.Issuer, Profile: c.Profile, Request: r.ID, TBS: c.DER, AuditIndex: index, AuditLeaf: leaf[:]})
	if err != nil {
		return err
	}
	err = tx.CloseIntent(c.Serial, "done")
	if err != nil {
		return err
	}
	_, _, err = tx.Audit(by, "certificate.issued", c.Serial, map[string]any{"request": r.ID, "issuer": c.Issuer, "profile": c.Profile, "sha256": c.SHA256, "notAfter": c.NotAfter})
	if err != nil {
		return err
	}
	return tx.AddCertificate(c)
}
