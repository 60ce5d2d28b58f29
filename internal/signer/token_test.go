//go:build cgo

package signer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/signer"
)

var inToken = home{"token", true, pki.P256}

func journalSize(t testing.TB, o *office) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(o.dir, "journal"))
	must(t, err)
	return info.Size()
}

// good wants the request to be signed by the issuing CA's key.
func good(t testing.TB, o *office, s keystore.Service, r keystore.SignRequest) {
	t.Helper()
	result := one(t, s, r)
	if result.Code != "" {
		t.Fatalf("refused: %s", result.Code)
	}
	_, err := o.issuers[issuance.G1].Assemble(r.TBS, result.Signature)
	must(t, err)
}

// A token that goes and comes back: what waits is told so, costs neither journal nor
// budget, and is signed later by the same signer.
func TestTokenAway(t *testing.T) {
	o := newOfficeAt(t, keystore.ModeLive, inToken)
	o.rate = 4
	c, _ := o.serve()
	good(t, o, c, o.request(1))
	o.hsm.Pull()
	waiting := o.request(2)
	if code := one(t, c, waiting).Code; code != "token.away" { // the one that finds out
		t.Fatalf("code %q", code)
	}
	size := journalSize(t, o)
	for range 5 {
		if code := one(t, c, waiting).Code; code != "token.away" {
			t.Fatalf("code %q", code)
		}
		_, err := c.SignCRL(t.Context(), issuance.G1, o.crl(issuance.G1, start.Unix(), start))
		wantCode(t, err, "token.away")
		if pki.ClassOf(err) != pki.Busy {
			t.Errorf("class %s", pki.ClassOf(err))
		}
		o.time.Advance(2 * time.Second)
	}
	if grown := journalSize(t, o) - size; grown != 0 {
		t.Errorf("the journal grew by %d octets while nothing was signed", grown)
	}
	must(t, grow(c, 1)) // needs no token
	info, err := c.Info(t.Context())
	must(t, err)
	if info.Refused != 0 {
		t.Errorf("%d alarms", info.Refused)
	}
	o.hsm.Plug()
	o.time.Advance(2 * time.Second)
	good(t, o, c, waiting)
	good(t, o, c, o.request(3)) // the fourth of the minute
	for _, line := range []string{"a CA key cannot sign", "a CA key can sign again"} {
		if n := strings.Count(o.log.String(), line); n != 1 {
			t.Errorf("the log says %d times: %s", n, line)
		}
	}
}

// An outage is believed for a moment: a thousand that wait do not ask a thousand times.
func TestOutageIsBelieved(t *testing.T) {
	o := newOfficeAt(t, keystore.ModeLive, inToken)
	s := o.open()
	r := o.request(1)
	o.hsm.Handle().CloseAllSessions()
	o.hsm.Pull()
	if code := one(t, s, r).Code; code != "token.away" {
		t.Fatalf("code %q", code)
	}
	o.hsm.Plug()
	if code := one(t, s, r).Code; code != "token.away" {
		t.Fatalf("the token was asked again at once: %q", code)
	}
	o.time.Advance(time.Second)
	good(t, o, s, r)
}

// CK6: another key under the right label, while the signer runs.
func TestThreatCK6TokenSwappedWhileRunning(t *testing.T) {
	o := newOfficeAt(t, keystore.ModeLive, inToken)
	c, _ := o.serve()
	good(t, o, c, o.request(1))
	h := o.hsm.Handle()
	h.Relabel(issuance.G1, "aside")
	h.Relabel(issuance.TLS, issuance.G1)
	h.CloseAllSessions()
	waiting := o.request(2)
	if code := one(t, c, waiting).Code; code != "signer.key_differs" {
		t.Fatalf("code %q", code)
	}
	_, err := c.SignCRL(t.Context(), issuance.G1, o.crl(issuance.G1, start.Unix(), start))
	wantCode(t, err, "signer.key_differs")
	info, err := c.Info(t.Context())
	must(t, err)
	if info.Refused != 1 || !strings.Contains(o.log.String(), "code=signer.key_differs") {
		t.Errorf("%d alarms", info.Refused)
	}
	operator := o.prepare(issuance.ProfileOperator, 3, o.time.Now(), issuance.NewSerial().Bytes())
	if code := one(t, c, operator).Code; code != "" {
		t.Errorf("another CA's key is kept from signing: %s", code)
	}
	h = o.hsm.Handle()
	h.Relabel(issuance.G1, issuance.TLS)
	h.Relabel("aside", issuance.G1)
	o.time.Advance(2 * time.Second)
	good(t, o, c, waiting)
}

// What a signer with tokens starts with, and what it does not start with.
func TestTokenAtTheStart(t *testing.T) {
	o := newOfficeAt(t, keystore.ModeLive, inToken)
	h := o.hsm.Handle()
	h.Generate("loose", map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: true})
	cfg := o.config()
	for label, code := range map[string]string{"ops": "signer.key_differs", "loose": "token.key_loose", "absent": "token.key_missing"} {
		cfg.Keys = map[string]string{issuance.G1: o.hsm.URI(label), issuance.Operations: o.hsm.URI("ops"), issuance.TLS: o.hsm.URI("tls")}
		_, err := signer.New(cfg)
		wantCode(t, err, code)
	}
	o.hsm.WritePIN("wrong")
	_, err := signer.New(o.config())
	wantCode(t, err, "token.pin")
	o.hsm.WritePIN(o.hsm.PIN)

	o.hsm.Pull() // status and audit do not need it
	s := o.open()
	r := o.request(1)
	if code := one(t, s, r).Code; code != "token.away" {
		t.Errorf("code %q", code)
	}
	o.hsm.Plug()
	o.time.Advance(2 * time.Second)
	good(t, o, s, r)
	for _, secret := range []string{o.hsm.PIN, "wrong"} {
		if strings.Contains(o.log.String(), secret) {
			t.Error("a PIN is in the log")
		}
	}
}
