package signer_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/keystore"
	"inkan/internal/keystore/keystoretest"
	"inkan/internal/pki"
	"inkan/internal/pki/pkitest"
	"inkan/internal/signer"
	"inkan/internal/testkit"
)

var start, config = issuancetest.Start, issuancetest.Config

// office is a signer's directory with its CAs, and a clock.
type office struct {
	t       testing.TB
	dir     string
	pass    pki.Secret
	certs   map[string]*x509.Certificate
	keys    map[string]crypto.Signer
	issuers map[string]*issuance.Issuer // as the signer has them
	edge    map[string]*issuance.Issuer // of an edge that may backdate
	places  map[string]string           // URIs of keys that are not where they usually are
	hsm     *keystoretest.HSM           // nil: no key is in a token
	uid     int
	rate    int
	log     *testkit.Log
	time    *testkit.FakeClock
}

// home is where the CA keys of an office live, and what they are. The same tests run
// for all of them.
type home struct {
	name  string
	token bool
	kind  pki.KeyType
}

var homes = []home{{"file", false, pki.P256}, {"token", true, pki.P256}, {"RSA token", true, pki.RSA2048}, {"P-384 token", true, pki.P384}}

// eachHome runs a test for each home; a quick run takes one of either sort.
func eachHome(t *testing.T, test func(t *testing.T, h home)) {
	some := homes
	if testing.Short() {
		some = homes[:2]
	}
	for _, h := range some {
		t.Run(h.name, func(t *testing.T) { test(t, h) })
	}
}

// makeKey makes an on-line CA's key where it is to live.
func (o *office) makeKey(vault *keystore.Vault, h home, id string) crypto.Signer {
	o.t.Helper()
	if !h.token {
		key, err := issuance.GenerateKey(h.kind)
		must(o.t, err)
		must(o.t, vault.AddKey(id, key))
		return key
	}
	o.places[id] = o.hsm.URI(id)
	key, _, err := vault.MakeTokenKey(o.hsm.Place(id), h.kind)
	must(o.t, err)
	return key
}

func newOffice(t testing.TB, mode string) *office {
	t.Helper()
	return newOfficeAt(t, mode, homes[0])
}

func newOfficeAt(t testing.TB, mode string, h home) *office {
	t.Helper()
	dir := testkit.ShortDir(t)
	o := &office{
		t: t, dir: filepath.Join(dir, "z4"), time: testkit.NewClock(start), uid: os.Geteuid(), log: &testkit.Log{},
		edge: map[string]*issuance.Issuer{}, places: map[string]string{},
	}
	if h.token {
		o.hsm = keystoretest.NewHSM(t)
	}
	params := keystore.InitParams{Mode: mode, InstanceID: "test-1"}
	if mode == keystore.ModeDemo {
		params.WorkFactor = 4
	}
	var err error
	o.pass, err = keystore.InitVault(o.dir, params)
	must(t, err)
	vault, err := keystore.OpenVault(o.dir, o.pass)
	must(t, err)
	made, err := issuancetest.Make(config, start.AddDate(-1, 0, 0), func(id string) (crypto.Signer, error) {
		if id == issuance.Root {
			return issuance.GenerateKey(h.kind) // off line
		}
		return o.makeKey(vault, h, id), nil
	})
	must(t, err)
	o.certs, o.keys, o.issuers = made.Certs, made.Keys, made.Issuers
	delete(o.issuers, issuance.Root)
	backdating := config
	backdating.Demo = true
	for id, cert := range o.certs {
		o.edge[id], err = issuance.NewIssuer(id, cert, backdating)
		must(t, err)
	}
	return o
}

func (o *office) config() signer.Config {
	pin := ""
	if o.hsm != nil {
		pin = o.hsm.PINFile
	}
	return signer.Config{
		Keys: o.places, PINFile: pin, Dir: o.dir, Socket: filepath.Join(o.dir, "sock"), Passphrase: o.pass, Issuers: o.issuers,
		Profiles: issuance.Profiles(config), EdgeUID: o.uid, RatePerMinute: o.rate, Now: o.time.Now, Elapsed: o.time.Elapsed,
		Log: o.log.Logger(),
	}
}

// open starts a signer without a socket.
func (o *office) open() *signer.Server {
	o.t.Helper()
	s, err := signer.New(o.config())
	must(o.t, err)
	o.t.Cleanup(func() { _ = s.Close() })
	return s
}

// serve starts one with its socket; stop waits until it has ended.
func (o *office) serve() (client *keystore.Client, stop func()) {
	o.t.Helper()
	s, err := signer.New(o.config())
	must(o.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		err := <-done
		if err != nil {
			o.t.Errorf("serve: %v", err)
		}
	})
	o.t.Cleanup(stop)
	client = keystore.Dial(filepath.Join(o.dir, "sock"))
	o.t.Cleanup(func() { _ = client.Close() })
	testkit.Await(o.t, "signer", func() bool {
		_, err := client.Info(context.Background())
		return pki.CodeOf(err) != "signer.away" || o.uid != os.Geteuid()
	})
	return client, stop
}

// request is a holder's certificate at the index.
func (o *office) request(index int64) keystore.SignRequest {
	o.t.Helper()
	return o.prepare(issuance.ProfileHolder, index, o.time.Now(), issuance.NewSerial().Bytes())
}

func (o *office) prepare(profileID string, index int64, notBefore time.Time, serial []byte) keystore.SignRequest {
	o.t.Helper()
	key, err := issuance.GenerateKey(pki.P256)
	must(o.t, err)
	profile := issuance.Profiles(config)[profileID]
	p := issuance.Params{Profile: profile, Serial: issuance.NewSerial().SetBytes(serial), NotBefore: notBefore, PublicKey: key.Public()}
	switch profileID {
	case issuance.ProfileHolder:
		p.Holder = pki.Holder{Kind: pki.Medical, Code: "0110119153"}
	case issuance.ProfileOperator:
		p.CommonName = "Operator 1"
	}
	linted, err := o.edge[profile.Issuer].Prepare(p)
	must(o.t, err)
	leaf := sha256.Sum256(append([]byte("leaf"), byte(index)))
	return keystore.SignRequest{Issuer: profile.Issuer, Profile: profileID, TBS: linted.TBS(), AuditIndex: index, AuditLeaf: leaf[:]}
}

func (o *office) crl(issuer string, number int64, at time.Time) []byte {
	o.t.Helper()
	entry := issuance.EncodeEntry(issuance.NewSerial(), at, pki.KeyCompromise, time.Time{})
	tbs, err := o.edge[issuer].CRLTBS(number, at, at.Add(24*time.Hour), [][]byte{entry})
	must(o.t, err)
	return tbs
}

var (
	must     = testkit.Must
	wantCode = pkitest.WantCode
)
