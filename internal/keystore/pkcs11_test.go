//go:build cgo

package keystore_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"inkan/internal/keystore"
	"inkan/internal/keystore/keystoretest"
	"inkan/internal/pki"
)

// liveVault makes a vault whose keys must be such that they cannot leave a token.
func liveVault(t testing.TB) *keystore.Vault {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "signer")
	pass, err := keystore.InitVault(dir, keystore.InitParams{Mode: keystore.ModeLive, InstanceID: "live-1"})
	must(t, err)
	v, err := keystore.OpenVault(dir, pass)
	must(t, err)
	return v
}

func verifies(public crypto.PublicKey, hash crypto.Hash, digest, signature []byte) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	}
	return false
}

// signs wants a signature of the key.
func signs(t testing.TB, key crypto.Signer, hash crypto.Hash) {
	t.Helper()
	digest := make([]byte, hash.Size())
	_, err := rand.Read(digest)
	must(t, err)
	signature, err := key.Sign(rand.Reader, digest, hash)
	must(t, err)
	if !verifies(key.Public(), hash, digest, signature) {
		t.Errorf("the signature over %v does not verify", hash)
	}
}

// refuses wants no signature.
func refuses(t testing.TB, key crypto.Signer, code string) {
	t.Helper()
	signature, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	if pki.CodeOf(err) != code || signature != nil {
		t.Errorf("got a signature of %d octets and %v, want code %s", len(signature), err, code)
	}
}

func TestTokenKeys(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v := liveVault(t)
	for _, tt := range []struct {
		t      pki.KeyType
		hashes []crypto.Hash
	}{
		{pki.RSA2048, []crypto.Hash{crypto.SHA256, crypto.SHA384}}, {pki.RSA3072, []crypto.Hash{crypto.SHA256}},
		{pki.P256, []crypto.Hash{crypto.SHA256}}, {pki.P384, []crypto.Hash{crypto.SHA384, crypto.SHA256}},
	} {
		name := string(tt.t)
		t.Run(name, func(t *testing.T) {
			made, _, err := v.MakeTokenKey(h.Place(name), tt.t)
			must(t, err)
			opened, err := v.OpenKey(h.Place(name), made.Public())
			must(t, err)
			must(t, keystore.Ready(opened))
			for _, hash := range tt.hashes {
				signs(t, made, hash)
				signs(t, opened, hash)
			}
			for _, opts := range []crypto.SignerOpts{crypto.SHA512, crypto.SHA1, crypto.Hash(0), &rsa.PSSOptions{Hash: crypto.SHA256}} {
				_, err = opened.Sign(rand.Reader, make([]byte, 32), opts)
				if err == nil {
					t.Errorf("signed with %v", opts)
				}
			}
			o := h.Handle()
			for attribute, want := range map[uint]byte{
				pkcs11.CKA_EXTRACTABLE: 0, pkcs11.CKA_NEVER_EXTRACTABLE: 1, pkcs11.CKA_SENSITIVE: 1, pkcs11.CKA_ALWAYS_SENSITIVE: 1, pkcs11.CKA_LOCAL: 1,
				pkcs11.CKA_PRIVATE: 1, pkcs11.CKA_SIGN: 1, pkcs11.CKA_DECRYPT: 0, pkcs11.CKA_UNWRAP: 0, pkcs11.CKA_DERIVE: 0, pkcs11.CKA_SIGN_RECOVER: 0,
			} {
				if got := o.Attribute(name, attribute); got != want {
					t.Errorf("attribute %#x is %d, want %d", attribute, got, want)
				}
			}
			_, _, err = v.MakeTokenKey(h.Place(name), tt.t)
			wantCode(t, err, "token.key_exists")
			signs(t, opened, crypto.SHA256) // nothing was replaced
		})
	}
}

// What a ceremony that failed has made is gone again, and nothing else.
func TestTokenKeyUndo(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	kept, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	made, undo, err := v.MakeTokenKey(h.Place("ops"), pki.P256)
	must(t, err)
	must(t, undo())
	refuses(t, made, "token.key_missing")
	signs(t, kept, crypto.SHA256)
	_, _, err = v.MakeTokenKey(h.Place("ops"), pki.P256)
	must(t, err)
}

// losses are ways in which a session with a token ends.
var losses = []struct {
	name       string
	lose, back func(h *keystoretest.HSM)
	away       bool // nothing can be signed before it is back
}{
	{"all sessions closed", func(h *keystoretest.HSM) { h.Handle().CloseAllSessions() }, nil, false},
	{"library ended", func(h *keystoretest.HSM) { h.Handle().Finalize() }, nil, false},
	{"token pulled out", (*keystoretest.HSM).Pull, (*keystoretest.HSM).Plug, true},
	{"token pulled out and sessions closed", func(h *keystoretest.HSM) { h.Handle().CloseAllSessions(); h.Pull() }, (*keystoretest.HSM).Plug, true},
	{"our own end", func(*keystoretest.HSM) { keystore.CloseTokens() }, nil, false},
}

// CK6: a lost session heals by itself, and until then the token is away, no more.
func TestTokenHeals(t *testing.T) {
	for _, tt := range losses {
		t.Run(tt.name, func(t *testing.T) {
			h := keystoretest.NewHSM(t)
			v, _, _ := newVault(t)
			key, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
			must(t, err)
			other, _, err := v.MakeTokenKey(h.Place("ops"), pki.P256)
			must(t, err)
			for range 3 {
				tt.lose(h)
				if tt.away {
					for range 2 {
						refuses(t, key, "token.away")
						err = keystore.Ready(other)
						wantCode(t, err, "token.away")
						if pki.ClassOf(err) != pki.Busy {
							t.Errorf("class %s", pki.ClassOf(err))
						}
					}
					tt.back(h)
				}
				signs(t, key, crypto.SHA256)
				signs(t, other, crypto.SHA256)
			}
		})
	}
}

// A key whose token is away when the signer starts is there when the token is.
func TestTokenAwayAtTheStart(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	made, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	keystore.CloseTokens()
	h.Pull()
	key, err := v.OpenKey(h.Place("g1"), made.Public())
	wantCode(t, err, "token.away")
	h.Plug()
	signs(t, key, crypto.SHA256)
}

// Many at once, while sessions end under them: every signature is good, and one loss is
// one new start.
func TestTokenConcurrent(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	key, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	for range 5 {
		before := keystore.Starts(key)
		var group sync.WaitGroup
		for range 40 {
			group.Go(func() {
				for range 10 {
					signs(t, key, crypto.SHA256)
				}
			})
		}
		keystore.CloseTokens()
		group.Wait()
		signs(t, key, crypto.SHA256) // should all have been faster than the end
		if n := keystore.Starts(key) - before; n != 2 {
			t.Errorf("the library went through %d changes, want an end and a start", n)
		}
	}
}

// A token is asked by eight at once and no more, however slow it is.
func TestTokenSessionsAreBounded(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	key, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	var inside atomic.Int32
	slow := make(chan struct{})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			err := keystore.Use(key, func() { inside.Add(1); <-slow })
			if err != nil {
				t.Error(err)
			}
		})
	}
	for inside.Load() < 8 {
		runtime.Gosched()
	}
	time.Sleep(20 * time.Millisecond) // a ninth would come in now
	if n := inside.Load(); n != 8 {
		t.Errorf("%d work at once", n)
	}
	close(slow)
	group.Wait()
	if n := keystore.OpenSessions(key); n != 8 {
		t.Errorf("%d sessions are open", n)
	}
	signs(t, key, crypto.SHA256)
}

// CK6: the key of the certificate, or none.
func TestThreatCK6TokenKeySwapped(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	key, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	other, _, err := v.MakeTokenKey(h.Place("other"), pki.P256)
	must(t, err)
	_, _, err = v.MakeTokenKey(h.Place("rsa"), pki.RSA2048)
	must(t, err)
	for _, swapped := range []string{"other", "rsa"} {
		o := h.Handle()
		o.Relabel("g1", "aside")
		o.Relabel(swapped, "g1")
		signs(t, key, crypto.SHA256) // an open key is known by its handle, and still the right one
		o.CloseAllSessions()
		for range 2 {
			refuses(t, key, "signer.key_differs")
		}
		_, err = v.OpenKey(h.Place("g1"), key.Public())
		wantCode(t, err, "signer.key_differs")
		o = h.Handle()
		o.Relabel("g1", swapped)
		refuses(t, key, "token.key_missing")
		o = h.Handle()
		o.Relabel("aside", "g1")
		signs(t, key, crypto.SHA256)
	}
	// Two keys of one label: neither is taken.
	o := h.Handle()
	o.Relabel("other", "g1")
	o.CloseAllSessions()
	refuses(t, key, "token.key_many")
	refuses(t, other, "token.key_missing")
	_, _, err = v.MakeTokenKey(h.Place("g1"), pki.P256)
	wantCode(t, err, "token.key_exists")
}

// CK6: after a restart of the library behind our back the same handles mean another
// key. What it signs does not leave.
func TestThreatCK6HandleOfAnotherKey(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	key, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	_, _, err = v.MakeTokenKey(h.Place("other"), pki.P256)
	must(t, err)
	keystore.CloseTokens()
	must(t, keystore.Ready(key)) // its handles are the library's first ones now
	h.Handle().Finalize()
	stop := h.Handle().Hold("other") // and now another's
	defer stop()
	signs(t, key, crypto.SHA256)
}

// CK5: what could leave the token, or do more than sign, is refused in a live instance.
func TestThreatCK5LooseKeys(t *testing.T) {
	h := keystoretest.NewHSM(t)
	live := liveVault(t)
	demo, _, _ := newVault(t)
	tests := []struct {
		name, attribute string
		private         map[uint]bool
	}{
		{"extractable", "CKA_EXTRACTABLE=true", map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: true}},
		{"readable", "CKA_SENSITIVE=false", map[uint]bool{pkcs11.CKA_SENSITIVE: false, pkcs11.CKA_EXTRACTABLE: false}},
		{"decrypts", "CKA_DECRYPT=true", map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_DECRYPT: true}},
		{"unwraps", "CKA_UNWRAP=true", map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_DECRYPT: false, pkcs11.CKA_UNWRAP: true}},
		{"derives", "CKA_DERIVE=true", map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_DECRYPT: false, pkcs11.CKA_UNWRAP: false, pkcs11.CKA_DERIVE: true}},
		{"strict", "", map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_DECRYPT: false, pkcs11.CKA_UNWRAP: false, pkcs11.CKA_DERIVE: false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			public := h.Handle().Generate(tt.name, tt.private)
			_, err := live.OpenKey(h.Place(tt.name), public)
			if tt.attribute == "" {
				must(t, err)
			} else {
				wantCode(t, err, "token.key_loose")
				if !strings.Contains(err.Error(), tt.attribute) {
					t.Errorf("%v does not name %s", err, tt.attribute)
				}
			}
			_, err = demo.OpenKey(h.Place(tt.name), public)
			must(t, err)
		})
	}
}

// CK5: a token is what the URI says in every part, or it is another token.
func TestThreatCK5TokenIsPinned(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	made, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	serial := h.Handle().Serial()
	check := func(serial, code string) {
		t.Helper()
		p := h.Place("g1")
		p.URI = strings.Replace(p.URI, ";object", ";serial="+serial+";object", 1)
		key, err := v.OpenKey(p, made.Public())
		if code == "" {
			must(t, err)
			signs(t, key, crypto.SHA256)
			return
		}
		wantCode(t, err, code)
	}
	check(serial, "")
	check("0123456789abcdef", "token.away")
	h.AddToken(h.Label) // somebody plugs in a token with the same label
	keystore.CloseTokens()
	_, err = v.OpenKey(h.Place("g1"), made.Public())
	wantCode(t, err, "token.many")
	check(serial, "")
}

// A PIN that was refused is not tried until the file has another: each try would bring
// the token nearer to locking itself.
func TestTokenPIN(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, dir, _ := newVault(t)
	key, _, err := v.MakeTokenKey(h.Place("g1"), pki.P256)
	must(t, err)
	h.WritePIN("wrong-7305")
	keystore.CloseTokens()
	for n := range 3 {
		refuses(t, key, "token.pin")
		_, err = v.OpenKey(h.Place("g1"), key.Public())
		wantCode(t, err, "token.pin")
		if strings.Contains(fmt.Sprint(err), "wrong-7305") {
			t.Errorf("the PIN is in the error: %v", err)
		}
		if tried := h.Handle().CountLow(); tried != (n == 0) {
			t.Errorf("round %d: the token saw a wrong PIN: %t", n, tried)
		}
		h.Handle().LogInAndOut() // what the token counts begins anew
	}
	// It is remembered on disk, for the next process; not so that the PIN can be guessed.
	notes, err := filepath.Glob(filepath.Join(dir, "refused-*"))
	must(t, err)
	if len(notes) != 1 {
		t.Fatalf("notes %v", notes)
	}
	must(t, keystore.CheckMode(notes[0]))
	note, err := os.ReadFile(notes[0])
	must(t, err)
	other, _, _ := newVault(t)
	_, err = other.OpenKey(h.Place("g1"), key.Public()) // another instance has its own
	wantCode(t, err, "token.pin")
	if len(note) != 32 || !h.Handle().CountLow() {
		t.Errorf("the note has %d octets, or means something elsewhere", len(note))
	}
	h.WritePIN(h.PIN)
	signs(t, key, crypto.SHA256)

	for _, tt := range []struct {
		code  string
		spoil func()
	}{
		{"token.no_pin", func() { h.WritePIN("") }},
		{"token.no_pin", func() { must(t, os.Remove(h.PINFile)) }},
		{"vault.mode", func() { h.WritePIN(h.PIN); chmod(t, h.PINFile, 0o640) }},
	} {
		tt.spoil()
		keystore.CloseTokens()
		refuses(t, key, tt.code)
	}
	// pin-source goes before the configured file.
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(source, []byte(h.PIN), 0o600))
	p := h.Place("g1")
	p.URI += "&pin-source=file:" + source
	key, err = v.OpenKey(p, key.Public())
	must(t, err)
	signs(t, key, crypto.SHA256)
	keystore.CloseTokens()
	_, err = v.OpenKey(keystore.Place{URI: h.URI("g1")}, key.Public())
	wantCode(t, err, "token.no_pin")
}

// A library that others may write is code that others put beside the keys.
func TestTokenModule(t *testing.T) {
	h := keystoretest.NewHSM(t)
	v, _, _ := newVault(t)
	raw, err := os.ReadFile(h.Module)
	must(t, err)
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"group.so": 0o664, "world.so": 0o646, "text.so": 0o600} {
		content := raw
		if name == "text.so" {
			content = []byte("no library")
		}
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		chmod(t, filepath.Join(dir, name), mode)
	}
	for name, code := range map[string]string{"group.so": "token.module_mode", "world.so": "token.module_mode", "text.so": "token.module", "none.so": "token.module"} {
		p := h.Place("g1")
		p.URI = strings.Replace(p.URI, h.Module, filepath.Join(dir, name), 1)
		_, err := v.OpenKey(p, nil)
		wantCode(t, err, code)
	}
}
