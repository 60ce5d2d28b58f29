package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// TestBench is `make bench`: the product under load beside its limits, measured in the
// same run on the same machine with the load generator on it. It prints; it asserts
// only that nothing was refused.
//
//	INKAN_BENCH=api,ocsp,…  which parts; "all"
//	INKAN_BENCH_FOR=10s     how long each load lasts
//	INKAN_BENCH_SIZE=1000000  certificates of the large database
func TestBench(t *testing.T) {
	parts := testkit.Asked(t, "INKAN_BENCH", "make bench")
	b := &bench{T: t, lasts: 10 * time.Second, size: 1_000_000}
	if v := os.Getenv("INKAN_BENCH_FOR"); v != "" {
		var err error
		b.lasts, err = time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
	}
	if v := os.Getenv("INKAN_BENCH_SIZE"); v != "" {
		_, err := fmt.Sscan(v, &b.size)
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	b.bin, err = buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	b.row("what", "figure", "limit", "share", "")
	b.row("---", "---", "---", "---", "---")
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"api", b.api},
		{"status", b.status},
		{"download", b.download},
		{"growth", b.growth},
		{"crl", b.crl},
		{"portal", b.portal},
	} {
		if parts == "all" || strings.Contains(","+parts+",", ","+part.name+",") {
			part.run()
		}
	}
}

type bench struct {
	*testing.T
	bin   string
	lasts time.Duration
	size  int
}

// row prints one line of the table.
func (b *bench) row(what, figure, limit, share, note string) {
	fmt.Printf("| %-44s | %14s | %14s | %6s | %s |\n", what, figure, limit, share, note)
}

func (b *bench) rates(what string, got rate, limit float64, note string) {
	b.row(what, fmt.Sprintf("%.0f/s", got.perSecond), fmt.Sprintf("%.0f/s", limit), fmt.Sprintf("%.2f", got.perSecond/limit),
		fmt.Sprintf("median %v, p99 %v; %s", got.median.Round(10*time.Microsecond), got.p99.Round(10*time.Microsecond), note))
}

// turns is how often a load and what it is held against are measured one after the other.
const turns = 7

// clients is how many connections load the API: enough that commits are shared.
const clients = 64

// api measures POST /api/v1/certificates.
func (b *bench) api() {
	for _, caKey := range []pki.KeyType{pki.P256, pki.RSA2048} {
		raw := b.rawSigning(caKey)
		for _, engine := range storetest.Engines {
			b.Run("api", func(t *testing.T) {
				o := LiveOptions{CAKey: string(caKey)}
				if engine == store.PostgreSQL {
					o.DSN = storetest.Empty(t, engine)
				}
				l := NewLive(t, b.bin, o)
				l.Serve(t)
				edge, signer := l.cpu(t)
				got := b.issueLoad(t, l, b.lasts)
				edgeAfter, signerAfter := l.cpu(t)
				each := func(d time.Duration) time.Duration { return (d / time.Duration(got.count)).Round(time.Microsecond) }
				b.rates(fmt.Sprintf("certificates, %s CA, %s", caKey, engine), got, raw.perSecond,
					fmt.Sprintf("limit: raw signatures on all cores; CPU each: edge %v, signer %v", each(edgeAfter-edge), each(signerAfter-signer)))
				l.Stop(t)
			})
		}
	}
}

// rawSigning is how fast all cores sign with a key of a type and do nothing else.
func (b *bench) rawSigning(keyType pki.KeyType) rate {
	key, err := issuance.GenerateKey(keyType)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("limit"))
	return load(b, runtime.NumCPU(), b.lasts/4, func(int) (func(int64) error, error) {
		return func(int64) error {
			_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		}, nil
	})
}

// issueLoad asks for certificates as fast as they come, each for a key of its own.
func (b *bench) issueLoad(t *testing.T, l *Live, lasts time.Duration) rate {
	orders := b.orders(t, l, int(lasts.Seconds()*5000))
	config := l.clientTLS(t)
	var open lines
	defer open.close()
	return load(t, clients, lasts, func(int) (func(int64) error, error) {
		c, err := open.dial(fmt.Sprintf("127.0.0.1:%d", l.PortBase+446), config)
		if err != nil {
			return nil, err
		}
		return func(n int64) error {
			if n >= int64(len(orders)) {
				return errEnough
			}
			status, body, err := c.roundTrip(orders[n], true)
			if err == nil && status != http.StatusCreated {
				err = fmt.Errorf("%d %s", status, body)
			}
			return err
		}, nil
	})
}

// orders writes n calls ahead.
func (b *bench) orders(t *testing.T, l *Live, n int) [][]byte {
	t.Helper()
	host := fmt.Sprintf("127.0.0.1:%d", l.PortBase+446)
	run := time.Now().UnixNano()
	out := make([][]byte, n)
	_ = load(t, runtime.NumCPU(), time.Hour, func(int) (func(int64) error, error) {
		return func(i int64) error {
			if i >= int64(n) {
				return errEnough
			}
			body, err := json.Marshal(map[string]string{"holderKind": "medical", "holderCode": "0110119153",
				"terminalName": fmt.Sprint("端末", i), "csr": testkit.CSRText(t, testkit.Key(t)), "idempotencyKey": fmt.Sprint(run, "-", i)})
			out[i] = request("POST", host, "/api/v1/certificates", "application/json", body)
			return err
		}, nil
	})
	return out
}

// status measures what everybody asks.
func (b *bench) status() {
	l := NewLive(b, b.bin, LiveOptions{CAKey: string(pki.P256)})
	l.Serve(b)
	b.issueLoad(b.T, l, b.lasts/4)
	b.ocsp(l)
	l.Stop(b)
}
