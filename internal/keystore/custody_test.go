package keystore_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

const (
	month     = "2026-11"
	nextMonth = "2026-12"
	requestA  = "202611230000001"
	requestB  = "202611230000002"
)

// custody is a key that was taken from the pool for request A.
type custody struct {
	v         *keystore.Vault
	dir       string
	pass      pki.Secret
	pkcs8     []byte
	spki      string
	pool      []byte
	held      keystore.Held
	reference pki.Secret
	verifier  keystore.Verifier
}

func newCustody(t testing.TB, withReference bool) custody {
	t.Helper()
	v, dir, pass := newVault(t)
	key, pkcs8 := newKey(t)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	sum := sha256.Sum256(der)
	c := custody{v: v, dir: dir, pass: pass, pkcs8: pkcs8, spki: hex.EncodeToString(sum[:])}
	c.pool, err = v.SealPool(keystore.PoolKey{KeyID: "k1", PKCS8: pkcs8}, month)
	must(t, err)
	hold := keystore.HoldRequest{KeyID: "k1", RequestID: requestA, PoolBlob: c.pool}
	if withReference {
		c.reference = pki.NewReferenceID()
		c.verifier, err = v.NewVerifier(t.Context(), requestA, c.reference)
		must(t, err)
		hold.Reference, hold.Verifier = c.reference, c.verifier
	}
	c.held, err = v.Hold(t.Context(), hold, month)
	must(t, err)
	return c
}

func (c custody) open() keystore.OpenRequest {
	return keystore.OpenRequest{
		KeyID: "k1", RequestID: requestA, SPKISHA256: c.spki, Blob: c.held.Blob, Reference: c.reference, Verifier: c.verifier,
	}
}

func TestCustody(t *testing.T) {
	for name, withReference := range map[string]bool{"letter": true, "renewal": false} {
		t.Run(name, func(t *testing.T) {
			c := newCustody(t, withReference)
			got, err := c.v.OpenHeld(t.Context(), c.open())
			must(t, err)
			if !bytes.Equal(got, c.pkcs8) {
				t.Error("another key came back")
			}
			if c.held.SPKISHA256 != c.spki || c.held.Epoch != month {
				t.Errorf("held %+v", c.held)
			}
			for _, blob := range [][]byte{c.pool, c.held.Blob} {
				if bytes.Contains(blob, c.pkcs8[len(c.pkcs8)-32:]) {
					t.Error("key bytes in a blob")
				}
			}
			again, err := keystore.OpenVault(c.dir, c.pass)
			must(t, err)
			_, err = again.OpenHeld(t.Context(), c.open())
			must(t, err)
		})
	}
}

// CK8, DL10: a blob opens in its own row, stage and request only.
func TestThreatCK8MovedBlobs(t *testing.T) {
	c := newCustody(t, true)
	renewal := newCustody(t, false)
	_, otherPKCS8 := newKey(t)
	otherPool, err := c.v.SealPool(keystore.PoolKey{KeyID: "k2", PKCS8: otherPKCS8}, month)
	must(t, err)
	otherHeld, err := c.v.Hold(t.Context(), keystore.HoldRequest{KeyID: "k2", RequestID: requestB, PoolBlob: otherPool}, month)
	must(t, err)
	letter, err := c.v.SealReference(requestA, c.reference, month)
	must(t, err)

	flip := func(blob []byte, at int) []byte {
		out := bytes.Clone(blob)
		if at < 0 {
			at += len(out)
		}
		out[at] ^= 1
		return out
	}
	opens := []struct {
		name, code string
		change     func(r *keystore.OpenRequest)
	}{
		{"pool blob as held", "seal.open", func(r *keystore.OpenRequest) { r.Blob = c.pool }},
		{"letter blob as held", "seal.open", func(r *keystore.OpenRequest) { r.Blob = letter }},
		{"pool blob with held's stage byte", "seal.open", func(r *keystore.OpenRequest) { r.Blob = bytes.Clone(c.pool); r.Blob[4] = 2 }},
		{"bound blob with held's stage byte", "seal.open", func(r *keystore.OpenRequest) { r.Blob = bytes.Clone(r.Blob); r.Blob[4] = 2 }},
		{"another row's blob", "seal.open", func(r *keystore.OpenRequest) { r.Blob = otherHeld.Blob }},
		{"another row's blob and key ID", "seal.open", func(r *keystore.OpenRequest) { r.Blob = otherHeld.Blob; r.KeyID = "k2" }},
		{"another key ID", "seal.open", func(r *keystore.OpenRequest) { r.KeyID = "k2" }},
		{"another request", "seal.open", func(r *keystore.OpenRequest) { r.RequestID = requestB }},
		{"another instance's blob", "seal.open", func(r *keystore.OpenRequest) { r.Blob = renewal.held.Blob; r.SPKISHA256 = renewal.spki }},
		{"another certificate", "seal.key_differs", func(r *keystore.OpenRequest) {
			r.SPKISHA256 = hex.EncodeToString(make([]byte, 32))
		}},
		{"no certificate", "seal.key_differs", func(r *keystore.OpenRequest) { r.SPKISHA256 = "" }},
		{"header's SPKI altered", "seal.open", func(r *keystore.OpenRequest) { r.Blob = flip(r.Blob, 15) }},
		{"ciphertext altered", "seal.open", func(r *keystore.OpenRequest) { r.Blob = flip(r.Blob, -1) }},
		{"nonce altered", "seal.open", func(r *keystore.OpenRequest) { r.Blob = flip(r.Blob, 50) }},
		{"epoch altered", "pickup.key_destroyed", func(r *keystore.OpenRequest) { r.Blob = flip(r.Blob, 11) }},
		{"epoch is a path", "seal.epoch", func(r *keystore.OpenRequest) { r.Blob = bytes.Clone(r.Blob); copy(r.Blob[5:], "../keys") }},
		{"cut", "seal.form", func(r *keystore.OpenRequest) { r.Blob = r.Blob[:40] }},
		{"cut in the nonce", "seal.open", func(r *keystore.OpenRequest) { r.Blob = r.Blob[:50] }},
		{"empty", "seal.form", func(r *keystore.OpenRequest) { r.Blob = nil }},
		{"another verifier's salt", "pickup.key_sealed", func(r *keystore.OpenRequest) { r.Verifier.Salt = flip(r.Verifier.Salt, 0) }},
	}
	for _, tt := range opens {
		t.Run(tt.name, func(t *testing.T) {
			r := c.open()
			tt.change(&r)
			key, err := c.v.OpenHeld(t.Context(), r)
			wantCode(t, err, tt.code)
			if key != nil {
				t.Error("a key came out")
			}
		})
	}
	// A letter's blob is never treated as a key, also under its own names.
	_, err = c.v.Rewrap(keystore.RewrapRequest{KeyID: requestA, RequestID: requestA, Blob: letter}, month)
	wantCode(t, err, "seal.open")
	_, err = c.v.OpenHeld(t.Context(), keystore.OpenRequest{KeyID: requestA, RequestID: requestA, SPKISHA256: c.spki, Blob: letter})
	wantCode(t, err, "seal.open")

	holds := []struct {
		name, code string
		r          keystore.HoldRequest
	}{
		{"held blob as pool", "seal.open", keystore.HoldRequest{KeyID: "k2", RequestID: requestB, PoolBlob: otherHeld.Blob}},
		{"another pool row", "seal.open", keystore.HoldRequest{KeyID: "k1", RequestID: requestB, PoolBlob: otherPool}},
		{"another SPKI", "seal.key_differs", keystore.HoldRequest{KeyID: "k2", RequestID: requestB, PoolBlob: otherPool, SPKISHA256: c.spki}},
		{"no request", "seal.size", keystore.HoldRequest{KeyID: "k2", PoolBlob: otherPool}},
		{"mistyped reference", "reference.differs", keystore.HoldRequest{KeyID: "k2", RequestID: requestA, PoolBlob: otherPool, Reference: "ABCDEFGHJK", Verifier: c.verifier}},
		{"verifier of another request", "reference.differs", keystore.HoldRequest{KeyID: "k2", RequestID: requestB, PoolBlob: otherPool, Reference: c.reference, Verifier: c.verifier}},
	}
	for _, tt := range holds {
		_, err := c.v.Hold(t.Context(), tt.r, month)
		wantCode(t, err, tt.code)
	}
}

// DL9: after the letter, the office cannot open a key without the letter's ID.
func TestThreatDL9NoOpenWithoutReference(t *testing.T) {
	c := newCustody(t, true)
	for _, ref := range []pki.Secret{"", "ABCDEFGHJK", c.reference[1:] + c.reference[:1]} {
		r := c.open()
		r.Reference = ref
		key, err := c.v.OpenHeld(t.Context(), r)
		wantCode(t, err, "pickup.key_sealed")
		if key != nil {
			t.Error("a key came out")
		}
	}
	// An extension does not need the ID, and does not open the inside either.
	later, err := c.v.Rewrap(keystore.RewrapRequest{KeyID: "k1", RequestID: requestA, SPKISHA256: c.spki, Blob: c.held.Blob}, nextMonth)
	must(t, err)
	must(t, c.v.DestroyEpochs([]string{month}))
	r := c.open()
	r.Blob = later.Blob
	key, err := c.v.OpenHeld(t.Context(), r)
	must(t, err)
	if !bytes.Equal(key, c.pkcs8) {
		t.Error("another key came back")
	}
	r.Reference = ""
	_, err = c.v.OpenHeld(t.Context(), r)
	wantCode(t, err, "pickup.key_sealed")
	_, err = c.v.Rewrap(keystore.RewrapRequest{KeyID: "k1", RequestID: requestB, Blob: later.Blob}, nextMonth)
	wantCode(t, err, "seal.open")

	// The size does not tell which sort of key is inside.
	_, small, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(small)
	must(t, err)
	pool, err := c.v.SealPool(keystore.PoolKey{KeyID: "k3", PKCS8: pkcs8}, nextMonth)
	must(t, err)
	other, err := c.v.Hold(t.Context(), keystore.HoldRequest{KeyID: "k3", RequestID: requestA, PoolBlob: pool, Reference: c.reference, Verifier: c.verifier}, nextMonth)
	must(t, err)
	if len(other.Blob) != len(later.Blob) || len(pkcs8) == len(c.pkcs8) {
		t.Errorf("sizes %d and %d", len(other.Blob), len(later.Blob))
	}
	// A renewal has no letter: an ID there means that rows were swapped.
	renewal := newCustody(t, false)
	r = renewal.open()
	r.Reference = "ABCDEFGHJK"
	_, err = renewal.v.OpenHeld(t.Context(), r)
	wantCode(t, err, "seal.not_bound")
}

// CK10: a destroyed epoch is gone, with older copies of blobs and of its key file.
func TestThreatCK10DestroyedEpoch(t *testing.T) {
	c := newCustody(t, false)
	path := filepath.Join(c.dir, "epochs", month+".key")
	backup, err := os.ReadFile(path)
	must(t, err)
	_, err = c.v.SealPool(keystore.PoolKey{KeyID: "k9", PKCS8: c.pkcs8}, nextMonth)
	must(t, err)

	old, err := c.v.EpochsBefore(nextMonth)
	must(t, err)
	if len(old) != 1 || old[0] != month {
		t.Fatalf("epochs before: %v", old)
	}
	must(t, c.v.DestroyEpochs(old))
	_, err = c.v.OpenHeld(t.Context(), c.open())
	wantCode(t, err, "pickup.key_destroyed")
	_, err = os.Stat(path)
	if !os.IsNotExist(err) {
		t.Errorf("the key file is still there: %v", err)
	}
	_, err = c.v.SealPool(keystore.PoolKey{KeyID: "k8", PKCS8: c.pkcs8}, month)
	wantCode(t, err, "pickup.key_destroyed")

	// Somebody puts the file back; the next start knows of the destruction.
	must(t, os.WriteFile(path, backup, 0o600))
	again, err := keystore.OpenVault(c.dir, c.pass)
	must(t, err)
	must(t, again.DestroyEpochs([]string{month}))
	_, err = again.OpenHeld(t.Context(), c.open())
	wantCode(t, err, "pickup.key_destroyed")
	_, err = os.Stat(path)
	if !os.IsNotExist(err) {
		t.Errorf("the key file is there again: %v", err)
	}
	// The next month is alive.
	left, err := again.EpochsBefore("9999-12")
	must(t, err)
	if len(left) != 1 || left[0] != nextMonth {
		t.Errorf("left %v", left)
	}
}

func TestEpochFiles(t *testing.T) {
	c := newCustody(t, false)
	path := filepath.Join(c.dir, "epochs", month+".key")
	other := filepath.Join(c.dir, "epochs", nextMonth+".key")
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(other, data, 0o600))
	_, err = c.v.SealPool(keystore.PoolKey{KeyID: "k9", PKCS8: c.pkcs8}, nextMonth)
	wantCode(t, err, "vault.broken") // an epoch key under another month's name
	chmod(t, path, 0o644)
	again, err := keystore.OpenVault(c.dir, c.pass)
	must(t, err)
	_, err = again.OpenHeld(t.Context(), c.open())
	wantCode(t, err, "vault.mode")
}

// An epoch's key that cannot be written whole is not there at all, seals nothing, and
// is made when the disk has room again.
func TestEpochFileOnAFullDisk(t *testing.T) {
	v, dir, _ := newVault(t)
	_, pkcs8 := newKey(t)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 10, Max: old.Max}))
	_, err := v.SealPool(keystore.PoolKey{KeyID: "k1", PKCS8: pkcs8}, "2026-11")
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	if !errors.Is(err, unix.EFBIG) {
		t.Fatalf("got %v", err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "epochs"))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("the failed write left %v", left)
	}
	blob, err := v.SealPool(keystore.PoolKey{KeyID: "k1", PKCS8: pkcs8}, "2026-11")
	must(t, err)
	_, err = v.Hold(t.Context(), keystore.HoldRequest{KeyID: "k1", RequestID: "r", PoolBlob: blob}, "2026-11")
	must(t, err)
}

func TestLetterReference(t *testing.T) {
	v, _, _ := newVault(t)
	ref := pki.NewReferenceID()
	blob, err := v.SealReference(requestA, ref, month)
	must(t, err)
	got, err := v.OpenReference(requestA, blob)
	must(t, err)
	if got.Reveal() != ref.Reveal() {
		t.Error("another reference ID came back")
	}
	_, err = v.OpenReference(requestB, blob)
	wantCode(t, err, "seal.open")
	_, err = v.SealReference(requestA, "short", month)
	wantCode(t, err, "reference.form")
	for _, bad := range []string{"2026-13", "2026-1", "../../x", ""} {
		_, err = v.SealReference(requestA, ref, bad)
		wantCode(t, err, "seal.epoch")
	}
	_, err = v.SealPool(keystore.PoolKey{KeyID: "k", PKCS8: []byte("no key")}, month)
	wantCode(t, err, "seal.key")
}
