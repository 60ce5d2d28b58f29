// Package catest builds the offices of a whole instance for tests, of real parts: the
// hierarchy, a vault, a signer behind its unix socket, a database, and on top of them
// ca, ra and ops, all under one clock that the test sets.
//
// It owns how the parts are put together in a test, and the places where a test may
// come between them. It does not own what is tested. Program code must not import it.
package catest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/clock"
	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/signer"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// Start is what the clock says first.
var Start = time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)

// Config is what certificates say about this instance.
var Config = issuance.Config{Country: "JP", Organization: "ReceiptOnline", PolicyOID: "1.3.6.1.4.1.99999.1.1", StatusURL: "http://127.0.0.1:8080"}

// Options vary an office. The zero value is a live instance on SQLite.
type Options struct {
	Engine     string // store.SQLite or store.PostgreSQL
	DSN        string // a database that exists already
	Activate   bool   // IDs of letters work from the moment of issue
	Asserted   bool   // a bare name is an actor
	PoolSize   int
	Grace      int           // days in which a renewed certificate may be fetched after the end of the old one
	SignerBack time.Duration // by how much the signer's clock runs behind
}

// World is what the nodes of an instance share.
type World struct {
	CAs  map[string]*x509.Certificate
	Keys map[string]crypto.Signer
	DSN  string
	Log  *Log

	options Options
	socket  string
	mu      sync.Mutex
	now     time.Time
	elapsed time.Duration
}

// Office is one node.
type Office struct {
	*World
	T      testing.TB
	Clock  *clock.Clock // of this node
	Steps  *Steps       // outside: commits and calls of the signer
	DB     *store.DB
	Signer *Signer
	CA     *ca.Service
	RA     *ra.Service
	Ops    *ops.Service

	disarmed bool // its guards are gone
}

// New builds an instance with one node.
func New(t testing.TB, o Options) *Office {
	t.Helper()
	if o.Engine == "" {
		o.Engine = store.SQLite
	}
	h := hierarchy()
	Must(t, h.err)
	w := &World{CAs: h.certs, Keys: h.keys, DSN: o.DSN, Log: &Log{}, options: o, now: Start}
	if w.DSN == "" {
		w.DSN = storetest.Migrated(t, o.Engine)
	}
	w.serve(t)
	return w.Node(t, w.DSN)
}

// Now is the clock of everything.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Jump sets the clock, as somebody may who has the machine.
func (w *World) Jump(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Advance lets time pass, for every clock of the machine.
func (w *World) Advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.elapsed = w.now.Add(d), w.elapsed+d
}

// Set lets the time pass until then.
func (w *World) Set(then time.Time) { w.Advance(then.Sub(w.Now())) }

// NewClock is the clock of one more process.
func (w *World) NewClock() *clock.Clock {
	no := func() bool { return false }
	return clock.New(clock.Sources{Wall: w.Now, Synchronised: no, Running: no, Elapsed: func() time.Duration {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.elapsed
	}})
}

// serve starts the signer.
func (w *World) serve(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "z4") // short, as a socket's path must be
	Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	vaultDir := filepath.Join(dir, "v")
	pass, err := keystore.InitVault(vaultDir, keystore.InitParams{Mode: keystore.ModeDemo, InstanceID: "test-1", WorkFactor: 4})
	Must(t, err)
	vault, err := keystore.OpenVault(vaultDir, pass)
	Must(t, err)
	issuers := map[string]*issuance.Issuer{}
	for _, id := range []string{issuance.G1, issuance.Operations, issuance.TLS} {
		Must(t, vault.AddKey(id, w.Keys[id]))
		issuers[id], err = issuance.NewIssuer(id, w.CAs[id], Config)
		Must(t, err)
	}
	w.socket = filepath.Join(dir, "s")
	server, err := signer.New(signer.Config{
		Dir: vaultDir, Socket: w.socket, Passphrase: pass, Issuers: issuers, Profiles: issuance.Profiles(Config),
		EdgeUID: os.Geteuid(), RatePerMinute: 1_000_000, Log: w.Log.Logger(),
		Now: func() time.Time { return w.Now().Add(-w.options.SignerBack) },
	})
	Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		err := <-done
		if err != nil {
			t.Errorf("serve signer: %v", err)
		}
	})
}

// Node builds one more node, on the database of the DSN.
func (w *World) Node(t testing.TB, dsn string) *Office {
	t.Helper()
	client := keystore.Dial(w.socket)
	t.Cleanup(func() { _ = client.Close() })
	steps, believed := &Steps{}, w.NewClock()
	head := func(ctx context.Context) (store.Head, error) {
		info, err := client.Info(ctx)
		return ops.Head(info), err
	}
	n := &Office{World: w, T: t, Clock: believed, Steps: steps, Signer: &Signer{Client: client, steps: steps, hooks: map[string][]hook{}},
		DB: storetest.OpenWith(t, store.Options{DSN: dsn, Now: believed.Now, Believe: believed.Believe, Head: head, Commit: steps.commit, Log: w.Log.Logger()})}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := client.Info(context.Background())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("signer does not answer: %v", err)
		}
	}
	issuers := map[string]*issuance.Issuer{}
	for id, cert := range w.CAs {
		issuer, err := issuance.NewIssuer(id, cert, Config)
		Must(t, err)
		issuers[id] = issuer
	}
	log := w.Log.Logger()
	n.CA = ca.New(ca.Config{DB: n.DB, Signer: n.Signer, Issuers: issuers, Profiles: issuance.Profiles(Config),
		PoolKeyType: pki.P256, PoolSize: w.options.PoolSize, RenewalGrace: w.options.Grace, CRLLifetime: 24 * time.Hour, CRLEvery: time.Hour, Now: n.Clock.Now, Log: log})
	n.RA = ra.New(ra.Config{DB: n.DB, Issuer: n.CA, Custody: n.Signer, ActivateOnIssue: w.options.Activate, KeyType: pki.P256,
		Chain: [][]byte{w.CAs[issuance.G1].Raw, w.CAs[issuance.Root].Raw}, IssuerName: "Test Root CA - G1", Now: n.Clock.Now, Log: log})
	n.Ops = ops.New(ops.Config{DB: n.DB, Signer: n.Signer, Authority: n.CA, Root: w.CAs[issuance.Root], Asserted: w.options.Asserted, Now: n.Clock.Now, BelieveClock: n.Clock.Accept, Log: log})
	return n
}

// made is a hierarchy, made once per test process.
type made struct {
	certs map[string]*x509.Certificate
	keys  map[string]crypto.Signer
	err   error
}

var hierarchy = sync.OnceValue(func() made {
	m := made{certs: map[string]*x509.Certificate{}, keys: map[string]crypto.Signer{}}
	_, loopback, _ := net.ParseCIDR("127.0.0.0/8")
	for _, p := range []issuance.CAParams{
		{ID: issuance.Root, CommonName: "Test Root CA"},
		{ID: issuance.G1, CommonName: "Test Root CA - G1"},
		{ID: issuance.Operations, CommonName: "Test Operations CA"},
		{ID: issuance.TLS, CommonName: "Test Site Root CA", PermittedDNS: []string{"localhost"}, PermittedIPs: []*net.IPNet{loopback}},
	} {
		p.NotBefore = Start.AddDate(-1, 0, 0)
		p.Key, m.err = issuance.GenerateKey(pki.P256)
		if m.err != nil {
			return m
		}
		if p.ID == issuance.G1 {
			p.Parent, p.ParentKey = m.certs[issuance.Root], m.keys[issuance.Root]
		}
		m.keys[p.ID] = p.Key
		m.certs[p.ID], m.err = issuance.NewCA(p, Config)
		if m.err != nil {
			return m
		}
	}
	return m
})

// Log keeps what was logged.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write takes a line.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String gives all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Logger writes into the log.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantCode checks the code of an error; "" wants none.
func WantCode(t testing.TB, err error, code string) {
	t.Helper()
	if code == "" && err != nil || code != "" && pki.CodeOf(err) != code {
		t.Errorf("got error %v, want code %q", err, code)
	}
}
