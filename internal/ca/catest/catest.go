// Package catest builds the offices of a whole instance for tests, of real parts: the
// hierarchy, a vault, a signer behind its unix socket, a database, and on top of them
// ca, ra and ops, all under one clock that the test sets.
//
// It owns how the parts are put together in a test, and the places where a test may
// come between them. It does not own what is tested. Program code must not import it.
package catest

import (
	"context"
	"crypto"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/clock"
	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/keystore"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/pki/pkitest"
	"inkan/internal/ra"
	"inkan/internal/signer"
	"inkan/internal/store"
	"inkan/internal/store/audit"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// Start is what the clock says first.
var Start = issuancetest.Start

// Config is what certificates say about this instance.
var Config = issuancetest.Config

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
	Log  *testkit.Log

	*testkit.FakeClock // of everything

	options Options
	socket  string
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
	h, err := hierarchy()
	Must(t, err)
	w := &World{CAs: h.Certs, Keys: h.Keys, DSN: o.DSN, Log: &testkit.Log{}, FakeClock: testkit.NewClock(Start), options: o}
	if w.DSN == "" {
		w.DSN = storetest.Migrated(t, o.Engine)
	}
	w.serve(t)
	return w.Node(t, w.DSN)
}

// NewClock is the clock of one more process.
func (w *World) NewClock() *clock.Clock {
	no := func() bool { return false }
	return clock.New(clock.Sources{Wall: w.Now, Synchronised: no, Running: no, Elapsed: w.Elapsed})
}

// serve starts the signer.
func (w *World) serve(t testing.TB) {
	t.Helper()
	dir := testkit.ShortDir(t)
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
	head := func(ctx context.Context) (audit.Head, error) {
		info, err := client.Info(ctx)
		return ops.Head(info), err
	}
	n := &Office{World: w, T: t, Clock: believed, Steps: steps, Signer: &Signer{Client: client, steps: steps, hooks: map[string][]hook{}},
		DB: storetest.OpenWith(t, store.Options{DSN: dsn, Now: believed.Now, Believe: believed.Believe, Head: head, Commit: steps.commit, Log: w.Log.Logger()})}
	testkit.Await(t, "answer of the signer", func() bool {
		_, err := client.Info(context.Background())
		return err == nil
	})
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

// hierarchy is made once per test process.
var hierarchy = sync.OnceValues(func() (issuancetest.Hierarchy, error) {
	return issuancetest.Make(Config, Start.AddDate(-1, 0, 0), issuancetest.Keys(pki.P256))
})

// Must and WantCode are those of the kits, under the name of the one that tests of
// offices import anyway.
var (
	Must     = testkit.Must
	WantCode = pkitest.WantCode
)
