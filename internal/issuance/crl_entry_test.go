package issuance_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// invalidity gives the invalidity date of an entry as the standard library finds it; zero
// where there is none.
func invalidity(t *testing.T, e x509.RevocationListEntry) time.Time {
	t.Helper()
	var at time.Time
	for _, x := range e.Extensions {
		if !x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 24}) {
			continue
		}
		rest, err := asn1.UnmarshalWithParams(x.Value, &at, "generalized")
		if err != nil || len(rest) > 0 || x.Critical || !at.Equal(at.Truncate(time.Second)) {
			t.Fatalf("invalidity date %x, critical %t: %v", x.Value, x.Critical, err)
		}
	}
	return at
}

// TestThreatRV7InvalidityDate: since when a certificate was invalid stands beside the time
// of its revocation and never instead of it; the signer accepts it in one form only.
func TestThreatRV7InvalidityDate(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	g1 := h.Issuers[issuance.G1]
	since := now.AddDate(0, 0, -40)
	for _, row := range []struct {
		reason pki.Reason
		since  time.Time
	}{{pki.KeyCompromise, since}, {pki.Unspecified, since}, {pki.CessationOfOperation, time.Time{}}, {pki.Unspecified, time.Time{}}} {
		der := signCRL(t, h, [][]byte{issuance.EncodeEntry(issuance.NewSerial(), now, row.reason, row.since)})
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		e := list.RevokedCertificateEntries[0]
		if got := invalidity(t, e); !got.Equal(row.since) || !e.RevocationTime.Equal(now) || e.ReasonCode != int(row.reason) {
			t.Errorf("invalid since %s, revoked %s, reason %d, want %+v", got, e.RevocationTime, e.ReasonCode, row)
		}
		_, err = g1.CheckCRLTBS(list.RawTBSRevocationList)
		if err != nil {
			t.Errorf("%+v: %v", row, err)
		}
	}
	// What has no such date is, octet by octet, what it was before there were any.
	got := hex.EncodeToString(issuance.EncodeEntry(big.NewInt(128), time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC), pki.KeyCompromise, time.Time{}))
	if got != "3021"+"02020080"+"170d3236313132333031303230335a"+"300c300a0603551d1504030a0101" {
		t.Errorf("entry %s", got)
	}

	good := issuance.EncodeEntry(issuance.NewSerial(), now, pki.KeyCompromise, since)
	invalid, reason := good[len(good)-26:], good[len(good)-38:len(good)-26]
	head := good[2 : len(good)-40]
	entry := func(extensions ...[]byte) []byte {
		inner := bytes.Join(extensions, nil)
		inner = append([]byte{0x30, byte(len(inner))}, inner...)
		return bytes.Join([][]byte{{0x30, byte(len(head) + len(inner))}, head, inner}, nil)
	}
	if !bytes.Equal(entry(reason, invalid), good) {
		t.Fatal("the parts do not make the whole: the test is blind")
	}
	edit := func(old, new string) []byte { return bytes.Replace(bytes.Clone(good), []byte(old), []byte(new), 1) }
	for name, bad := range map[string][]byte{
		"the other way round": entry(invalid, reason),
		"twice":               entry(invalid, invalid),
		"nothing":             entry(),
		"something behind it": entry(reason, invalid, []byte{5, 0}),
		"month 14":            edit("\x18\x0f202610", "\x18\x0f202614"),
		"UTCTime":             edit("\x18\x0f2026", "\x17\x0f2026"),
		"another extension":   edit("\x55\x1d\x18", "\x55\x1d\x1d"),
	} {
		if bytes.Equal(bad, good) {
			t.Fatalf("%s: nothing was edited", name)
		}
		tbs, err := g1.CRLTBS(5, now, now.Add(time.Hour), [][]byte{bad})
		if err != nil {
			t.Fatal(err)
		}
		_, err = g1.CheckCRLTBS(tbs)
		if pki.CodeOf(err) != "crl.tbs" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestThreatRV7OpenSSL has openssl read the date.
func TestThreatRV7OpenSSL(t *testing.T) {
	testkit.Tool(t, "openssl")
	h := newHierarchy(t, pki.P256, config)
	since := time.Date(2026, 10, 14, 15, 0, 0, 0, time.UTC)
	entry := issuance.EncodeEntry(issuance.NewSerial(), now, pki.KeyCompromise, since)
	c := exec.Command("openssl", "crl", "-inform", "DER", "-noout", "-text")
	c.Stdin = bytes.NewReader(signCRL(t, h, [][]byte{entry}))
	ok, text := run(c)
	_, date, found := strings.Cut(text, "Invalidity Date:")
	if !ok || !found || !strings.Contains(date, "Oct 14 15:00:00 2026 GMT") || !strings.Contains(text, "Key Compromise") {
		t.Errorf("openssl: %s", text)
	}
}
