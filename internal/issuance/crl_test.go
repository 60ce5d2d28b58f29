package issuance_test

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/lint"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

func TestCRL(t *testing.T) {
	for _, keyType := range []pki.KeyType{pki.RSA2048, pki.P256, pki.P384} {
		h := newHierarchy(t, keyType, config)
		g1 := h.Issuers[issuance.G1]
		entries := []struct {
			serial *big.Int
			at     time.Time
			reason pki.Reason
		}{
			{issuance.NewSerial(), now, pki.Unspecified},
			{issuance.NewSerial(), now.Add(time.Second), pki.KeyCompromise},
			{big.NewInt(128), now, pki.CertificateHold},
			{big.NewInt(1), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), pki.PrivilegeWithdrawn},
		}
		for count := range len(entries) + 1 {
			var encoded [][]byte
			for _, e := range entries[:count] {
				encoded = append(encoded, issuance.EncodeEntry(e.serial, e.at, e.reason, time.Time{}))
			}
			der := signCRL(t, h, encoded)
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			err = list.CheckSignatureFrom(h.Certs[issuance.G1])
			if err != nil || len(lint.CRL(list)) > 0 {
				t.Fatal(err, lint.CRL(list))
			}
			info, err := g1.CheckCRLTBS(list.RawTBSRevocationList)
			if err != nil || info.Entries != count || info.Number != 77 || !info.ThisUpdate.Equal(now) || !info.NextUpdate.Equal(now.Add(24*time.Hour)) {
				t.Errorf("info %+v, %v", info, err)
			}
			if len(list.RevokedCertificateEntries) != count {
				t.Fatalf("%d entries, want %d", len(list.RevokedCertificateEntries), count)
			}
			for n, got := range list.RevokedCertificateEntries {
				e := entries[n]
				if got.SerialNumber.Cmp(e.serial) != 0 || !got.RevocationTime.Equal(e.at) || got.ReasonCode != int(e.reason) {
					t.Errorf("entry %d: %+v", n, got)
				}
			}
		}
	}
}

func signCRL(t testing.TB, h hierarchy, entries [][]byte) []byte {
	t.Helper()
	return signCRLAt(t, h, now, entries)
}

func signCRLAt(t testing.TB, h hierarchy, at time.Time, entries [][]byte) []byte {
	t.Helper()
	g1 := h.Issuers[issuance.G1]
	tbs, err := g1.CRLTBS(77, at, at.Add(24*time.Hour), entries)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := g1.SignCRL(h.Keys[issuance.G1], tbs)
	if err != nil {
		t.Fatal(err)
	}
	der, err := g1.AssembleCRL(tbs, signature)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCheckCRLRefuses(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	g1 := h.Issuers[issuance.G1]
	entry := issuance.EncodeEntry(issuance.NewSerial(), now, pki.KeyCompromise, time.Time{})
	good, err := g1.CRLTBS(5, now, now.Add(time.Hour), [][]byte{entry, entry})
	if err != nil {
		t.Fatal(err)
	}
	make1 := func(issuer string, entries ...[]byte) []byte {
		tbs, err := h.Issuers[issuer].CRLTBS(5, now, now.Add(time.Hour), entries)
		if err != nil {
			t.Fatal(err)
		}
		return tbs
	}
	edit := func(old, new string) []byte {
		out := bytes.Replace(bytes.Clone(good), []byte(old), []byte(new), 1)
		if bytes.Equal(out, good) {
			t.Fatalf("nothing to edit: %x", old)
		}
		return out
	}
	tests := map[string][]byte{
		"empty":                  nil,
		"something behind it":    append(bytes.Clone(good), 0),
		"another issuer":         make1(issuance.Operations, entry),
		"rubbish entry":          make1(issuance.G1, []byte{0x30, 0}),
		"entry of another kind":  make1(issuance.G1, []byte{0x02, 1, 1}),
		"negative serial":        make1(issuance.G1, issuance.EncodeEntry(new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, 20)), now, 0, time.Time{})),
		"serial of 21 octets":    make1(issuance.G1, issuance.EncodeEntry(new(big.Int).Lsh(issuance.NewSerial(), 8), now, 0, time.Time{})),
		"serial zero":            make1(issuance.G1, issuance.EncodeEntry(new(big.Int), now, 0, time.Time{})),
		"removeFromCRL":          make1(issuance.G1, issuance.EncodeEntry(issuance.NewSerial(), now, 8, time.Time{})),
		"month 13":               edit("\x17\x0d261123", "\x17\x0d261323"),
		"number is delta marker": edit("\x55\x1d\x14", "\x55\x1d\x1b"),
		"another algorithm":      edit("\xce\x3d\x04\x03\x02", "\xce\x3d\x04\x03\x03"),
		"version 1":              edit("\x02\x01\x01", "\x02\x01\x00"),
	}
	for name, tbs := range tests {
		_, err := g1.CheckCRLTBS(tbs)
		if pki.CodeOf(err) != "crl.tbs" {
			t.Errorf("%s: %v", name, err)
		}
		_, err = g1.SignCRL(h.Keys[issuance.G1], tbs)
		if err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for _, times := range [][2]time.Time{{now, now}, {now, now.Add(-time.Hour)}} {
		_, err = g1.CRLTBS(5, times[0], times[1], nil)
		if err == nil {
			t.Error("a list that ends before it begins")
		}
	}
	_, err = g1.CRLTBS(0, now, now.Add(time.Hour), nil)
	if err == nil {
		t.Error("number 0")
	}
	signature, err := g1.SignCRL(h.Keys[issuance.G1], good)
	if err != nil {
		t.Fatal(err)
	}
	signature[len(signature)-1] ^= 1
	_, err = g1.AssembleCRL(good, signature)
	if pki.CodeOf(err) != "issuance.signature" {
		t.Errorf("a flipped bit: %v", err)
	}
	_, err = g1.SignCRL(h.Keys[issuance.Root], good)
	if pki.CodeOf(err) != "issuance.key" {
		t.Errorf("another key: %v", err)
	}
}

// TestCheckCRLEveryBit: what the check accepts is what our encoder writes.
func TestCheckCRLEveryBit(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	g1 := h.Issuers[issuance.G1]
	entry := issuance.EncodeEntry(issuance.NewSerial(), now, pki.KeyCompromise, time.Time{})
	good, err := g1.CRLTBS(5, now, now.Add(time.Hour), [][]byte{entry})
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for n := range 8 * len(good) {
		changed := bytes.Clone(good)
		changed[n/8] ^= 1 << (n % 8)
		info, err := g1.CheckCRLTBS(changed)
		if err != nil {
			continue
		}
		accepted++
		at := bytes.Index(good, entry)
		again, err := g1.CRLTBS(info.Number, info.ThisUpdate, info.NextUpdate, [][]byte{changed[at : at+len(entry)]})
		if err != nil || !bytes.Equal(again, changed) {
			t.Errorf("bit %d of octet %d accepted, but we would not write it", n%8, n/8)
		}
	}
	if accepted < 100 {
		t.Errorf("only %d changes of times, number and entry accepted: the test tests nothing", accepted)
	}
}

// TestCRLOpenSSL has openssl read the list and refuse what is on it.
func TestCRLOpenSSL(t *testing.T) {
	testkit.Tool(t, "openssl")
	h := newHierarchy(t, pki.RSA3072, config)
	live := func() *x509.Certificate {
		p := params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public())
		p.NotBefore = time.Now()
		return h.issue(t, config, p)
	}
	good, bad := live(), live()
	der := signCRLAt(t, h, time.Now().Add(-time.Minute), [][]byte{issuance.EncodeEntry(bad.SerialNumber, time.Now(), pki.KeyCompromise, time.Time{})})
	dir := t.TempDir()
	crl := testkit.WriteFile(t, dir, "g1.crl", der)
	root, inter := writePEM(t, dir, "root.pem", h.Certs[issuance.Root]), writePEM(t, dir, "g1.pem", h.Certs[issuance.G1])
	for name, c := range map[string]*x509.Certificate{"good": good, "bad": bad} {
		ok, text := run(exec.Command("openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", inter, "-crl_check",
			"-CRLfile", crl, writePEM(t, dir, name+".pem", c)))
		if ok != (name == "good") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// million gives encoded entries, as a table of revocations would hold them.
func million(b testing.TB) [][]byte {
	b.Helper()
	entries := make([][]byte, 1_000_000)
	serial := make([]byte, 20)
	serial[0] = 0x41
	for n := range entries {
		binary.BigEndian.PutUint32(serial[10:], uint32(n))
		entries[n] = issuance.EncodeEntry(new(big.Int).SetBytes(serial), now, pki.Reason(n%2)*pki.SupersededReason, time.Time{})
	}
	return entries
}

func BenchmarkCRLMillion(b *testing.B) {
	h := newHierarchy(b, pki.RSA3072, config)
	g1, entries := h.Issuers[issuance.G1], million(b)
	var tbs, signature []byte
	var err error
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tbs, err = g1.CRLTBS(1, now, now.Add(time.Hour), entries)
		}
	})
	runtime.GC()
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err = g1.CheckCRLTBS(tbs)
		}
	})
	b.Run("check+sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			signature, err = g1.SignCRL(h.Keys[issuance.G1], tbs)
		}
	})
	b.Run("assemble", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			list := slices.Grow(bytes.Clone(tbs), 1<<10)
			b.StartTimer()
			_, err = g1.AssembleCRL(list, signature)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bytes", len(tbs))
}

func FuzzCheckCRLTBS(f *testing.F) {
	h := newHierarchy(f, pki.P256, config)
	g1 := h.Issuers[issuance.G1]
	for _, entries := range [][][]byte{nil, {issuance.EncodeEntry(issuance.NewSerial(), now, pki.KeyCompromise, now.Add(-time.Hour))}} {
		tbs, err := g1.CRLTBS(9, now, now.Add(time.Hour), entries)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tbs)
	}
	f.Fuzz(func(t *testing.T, tbs []byte) {
		info, err := g1.CheckCRLTBS(tbs)
		if err != nil {
			return
		}
		signature, err := g1.SignCRL(h.Keys[issuance.G1], tbs)
		if err != nil {
			t.Fatal(err)
		}
		der, err := g1.AssembleCRL(tbs, signature)
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil || len(list.RevokedCertificateEntries) != info.Entries {
			t.Fatalf("the standard library disagrees: %v", err)
		}
	})
}
