package issuance_test

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// signedList gives a list of n entries.
func signedList(t testing.TB, h hierarchy, n int) []byte {
	t.Helper()
	entries := make([][]byte, n)
	for i := range entries {
		serial := issuance.NewSerial()
		if i == 0 {
			serial = new(big.Int).Rsh(serial, 100) // a foreign one: shorter
		}
		var since time.Time
		if i%3 == 1 {
			since = now.AddDate(0, 0, -i)
		}
		entries[i] = issuance.EncodeEntry(serial, now, pki.Reason(i%2)*pki.SupersededReason, since)
	}
	return signCRL(t, h, entries)
}

func TestCRLSerialsAreThoseOfTheStandardLibrary(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	for _, n := range []int{0, 1, 2, 300} {
		der := signedList(t, h, n)
		want, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		list := issuance.NewCRLSerials(der)
		for _, e := range want.RevokedCertificateEntries {
			got, ok := list.Next()
			if !ok || new(big.Int).SetBytes(got).Cmp(e.SerialNumber) != 0 {
				t.Fatalf("%d entries: got %x, want %x", n, got, e.SerialNumber)
			}
		}
		rest, ok := list.Next()
		if ok || list.Err() != nil {
			t.Errorf("%d entries: then %x, %v", n, rest, list.Err())
		}
	}
}

func FuzzCRLSerials(f *testing.F) {
	h := newHierarchy(f, pki.P256, config)
	for _, n := range []int{0, 1, 3} {
		der := signedList(f, h, n)
		f.Add(der)
		f.Add(der[:len(der)/2])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		list := issuance.NewCRLSerials(der)
		octets := 0
		for {
			serial, ok := list.Next()
			if !ok {
				break
			}
			octets += len(serial)
		}
		if octets > len(der) {
			t.Errorf("%d octets of serials in %d", octets, len(der))
		}
		want, err := x509.ParseRevocationList(der)
		if err != nil || len(want.RevokedCertificateEntries) == 0 {
			return
		}
		first, ok := issuance.NewCRLSerials(der).Next()
		if ok && !bytes.Equal(new(big.Int).SetBytes(first).Bytes(), want.RevokedCertificateEntries[0].SerialNumber.Bytes()) {
			t.Errorf("first serial is %x", first)
		}
	})
}
