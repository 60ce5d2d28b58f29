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
		list := issuance.ReadCRL(der)
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

// OpenCRL takes what its issuer signed, and nothing else.
func TestOpenCRL(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	for _, n := range []int{0, 3} {
		der := signedList(t, h, n)
		info, entries, err := h.Issuers[issuance.G1].OpenCRL(der)
		if err != nil || info.Number != 77 || !info.ThisUpdate.Equal(now) || !info.NextUpdate.Equal(now.Add(24*time.Hour)) {
			t.Fatalf("%+v, %v", info, err)
		}
		draft := issuance.NewCRLDraft(0)
		err = entries.Copy(draft, nil)
		if err != nil || draft.Count() != n {
			t.Errorf("%d entries, want %d; %v", draft.Count(), n, err)
		}
		for name, bad := range map[string][]byte{"empty": nil, "cut short": der[:len(der)-1], "longer": append(bytes.Clone(der), 0)} {
			_, _, err = h.Issuers[issuance.G1].OpenCRL(bad)
			if pki.CodeOf(err) != "issuance.signature" {
				t.Errorf("%s: %v", name, err)
			}
		}
		for at := range der {
			bad := bytes.Clone(der)
			bad[at] ^= 1
			_, _, err = h.Issuers[issuance.G1].OpenCRL(bad)
			if pki.CodeOf(err) != "issuance.signature" {
				t.Errorf("bit flipped in octet %d of %d: %v", at, len(der), err)
			}
		}
		_, _, err = h.Issuers[issuance.Operations].OpenCRL(der)
		if pki.CodeOf(err) != "issuance.signature" {
			t.Errorf("list of another issuer: %v", err)
		}
	}
}

func TestCopyEntries(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	g1 := h.Issuers[issuance.G1]
	var all [][]byte
	for n := range 6 {
		all = append(all, issuance.EncodeEntry(big.NewInt(int64(n+1)), now, pki.KeyCompromise, time.Time{}))
	}
	for _, row := range []struct {
		but  []byte // serials
		left []int
	}{
		{nil, []int{0, 1, 2, 3, 4, 5}},
		{[]byte{99}, []int{0, 1, 2, 3, 4, 5}},
		{[]byte{1}, []int{1, 2, 3, 4, 5}},
		{[]byte{6}, []int{0, 1, 2, 3, 4}},
		{[]byte{3}, []int{0, 1, 3, 4, 5}},
		{[]byte{2, 3, 6}, []int{0, 3, 4}},
		{[]byte{1, 2, 3, 4, 5, 6}, nil},
	} {
		but := map[string]bool{}
		for _, serial := range row.but {
			but[string([]byte{serial})] = true
		}
		draft := issuance.NewCRLDraft(10) // it grows
		err := issuance.ReadEntries(bytes.Join(all, nil)).Copy(draft, but)
		var want [][]byte
		for _, n := range row.left {
			want = append(want, all[n])
		}
		if err != nil || draft.Count() != len(want) {
			t.Errorf("but %v: %d entries, want %d; %v", row.but, draft.Count(), len(want), err)
		}
		got, err := g1.FinishCRL(draft, 5, now, now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		whole, err := g1.CRLTBS(5, now, now.Add(time.Hour), want)
		if err != nil || !bytes.Equal(got, whole) {
			t.Errorf("but %v: %x, want %x; %v", row.but, got, whole, err)
		}
	}
	err := issuance.ReadEntries(append(all[0], 0x30, 5)).Copy(issuance.NewCRLDraft(0), nil)
	if err == nil {
		t.Error("half an entry is taken")
	}
}

func FuzzReadCRL(f *testing.F) {
	h := newHierarchy(f, pki.P256, config)
	genuine := map[string]bool{}
	for _, n := range []int{0, 1, 3} {
		der := signedList(f, h, n)
		genuine[string(der)] = true
		f.Add(der)
		f.Add(der[:len(der)/2])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		_, _, err := h.Issuers[issuance.G1].OpenCRL(der)
		if err == nil && !genuine[string(der)] {
			t.Error("a list that nobody signed")
		}
		list := issuance.ReadCRL(der)
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
		first, ok := issuance.ReadCRL(der).Next()
		if ok && !bytes.Equal(new(big.Int).SetBytes(first).Bytes(), want.RevokedCertificateEntries[0].SerialNumber.Bytes()) {
			t.Errorf("first serial is %x", first)
		}
	})
}
