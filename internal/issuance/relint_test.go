package issuance_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// rebuild has the real CA key sign a changed copy of a certificate: what a
// captured edge would like the signer to sign.
func rebuild(t testing.TB, h hierarchy, issuer string, good *x509.Certificate, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := *good
	template.ExtraExtensions = nil
	change(&template)
	return testkit.Sign(t, &template, h.Certs[issuer], template.PublicKey, h.Keys[issuer]).RawTBSCertificate
}

// TestThreatCK4 is the signer against everything a captured edge can send.
func TestThreatCK4(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	key := newKey(t, pki.P256).Public()
	g1 := h.Issuers[issuance.G1]
	holder := profile(t, issuance.ProfileHolder)
	good := h.issue(t, config, params(t, issuance.ProfileHolder, key))
	same := func(*x509.Certificate) {}
	tests := []struct {
		name   string
		issuer string
		change func(*x509.Certificate)
		now    time.Time
		code   string
	}{
		{"unchanged", "g1", same, now, ""},
		{"an hour later", "g1", same, now.Add(time.Hour), ""},
		{"backdated", "g1", same, now.Add(time.Hour + time.Second), "profile.backdated"},
		{"a minute early", "g1", same, now.Add(-time.Minute), ""},
		{"postdated", "g1", same, now.Add(-time.Minute - time.Second), "profile.postdated"},
		{"CA:TRUE", "g1", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }, now, "profile.tbs"},
		{"other issuer", "ops", same, now, "profile.tbs"},
		{"foreign purpose", "g1", func(c *x509.Certificate) {
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}, now, "profile.tbs"},
		{"foreign usage", "g1", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, now, "profile.tbs"},
		{"extra extension", "g1", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}
		}, now, "profile.tbs"},
		{"nocheck", "g1", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}
		}, now, "profile.tbs"},
		{"host name", "g1", func(c *x509.Certificate) { c.DNSNames = []string{"client.invalid"} }, now, "profile.names"},
		{"mail name", "g1", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.jp"} }, now, "profile.tbs"},
		{"no CRL", "g1", func(c *x509.Certificate) { c.CRLDistributionPoints = nil }, now, "profile.tbs"},
		{"other status address", "g1", func(c *x509.Certificate) { c.OCSPServer = []string{"http://evil.example/ocsp"} }, now, "profile.tbs"},
		{"other policy", "g1", func(c *x509.Certificate) { c.Policies = nil }, now, "profile.tbs"},
		{"a second longer", "g1", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }, now, "profile.tbs"},
		{"two OUs in one RDN", "g1", func(c *x509.Certificate) { c.RawSubject = nil }, now, "profile.tbs"},
		{"OU of another prefecture", "g1", func(c *x509.Certificate) {
			c.RawSubject = bytes.Replace(bytes.Clone(c.RawSubject), []byte("hokkaido"), []byte("kanagawa"), 1)
		}, now, "profile.tbs"},
		{"code that does not exist", "g1", func(c *x509.Certificate) {
			c.RawSubject = bytes.Replace(bytes.Clone(c.RawSubject), []byte("0110119153"), []byte("0110119154"), 1)
		}, now, "profile.tbs"},
		{"other organization", "g1", func(c *x509.Certificate) {
			c.RawSubject = bytes.Replace(bytes.Clone(c.RawSubject), []byte("ReceiptOnline"), []byte("ReceiptOfflin"), 1)
		}, now, "profile.tbs"},
		{"short serial", "g1", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(12345) }, now, "profile.lint"},
		{"key identifier of another key", "g1", func(c *x509.Certificate) { c.SubjectKeyId = make([]byte, 20) }, now, "profile.tbs"},
		{"key of another certificate", "g1", func(c *x509.Certificate) { c.PublicKey = newKey(t, pki.P256).Public() }, now, "profile.tbs"},
		{"key of the CA", "g1", func(c *x509.Certificate) { c.PublicKey, c.SubjectKeyId = h.Keys["g1"].Public(), nil }, now, "profile.key"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := g1.Relint(holder, rebuild(t, h, test.issuer, good, test.change), test.now)
			if test.code == "" && err != nil || test.code != "" && (err == nil || pki.CodeOf(err) != test.code) {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
	_, err := g1.Relint(profile(t, issuance.ProfileOperator), good.RawTBSCertificate, now)
	if pki.CodeOf(err) != "profile.issuer" {
		t.Errorf("holder's bytes as operator: %v", err)
	}
	_, err = g1.Relint(profile(t, issuance.ProfileOCSP), good.RawTBSCertificate, now)
	if err == nil {
		t.Error("holder's bytes accepted as responder")
	}
}

// FuzzRelint: of all bytes that an edge could send, the signer takes only a certificate of
// the profile under its own issuer, with a serial number of full length.
func FuzzRelint(f *testing.F) {
	h := newHierarchy(f, pki.P256, config)
	f.Add(h.issue(f, config, params(f, issuance.ProfileHolder, newKey(f, pki.P256).Public())).RawTBSCertificate)
	f.Add(h.Certs[issuance.G1].RawTBSCertificate)
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	holder := profile(f, issuance.ProfileHolder)
	f.Fuzz(func(t *testing.T, tbs []byte) {
		if len(tbs) > 16<<10 {
			return
		}
		linted, err := h.Issuers[issuance.G1].Relint(holder, tbs, now)
		if err != nil {
			return
		}
		if !bytes.Equal(linted.TBS(), tbs) || len(linted.Serial().Bytes()) != 20 || linted.NotBefore().After(now.Add(time.Minute)) {
			t.Fatalf("taken: %x", tbs)
		}
	})
}

// TestRelintEveryBit: of all certificates one bit away, only those with another
// serial number are ours.
func TestRelintEveryBit(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	p := params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public())
	p.Serial = new(big.Int).SetBytes(append([]byte{0x41}, make([]byte, 19)...))
	linted, err := h.Issuers[issuance.G1].Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	tbs := linted.TBS()
	serial := bytes.Index(tbs, p.Serial.Bytes())
	for n := range 8 * len(tbs) {
		changed := bytes.Clone(tbs)
		changed[n/8] ^= 1 << (n % 8)
		_, err := h.Issuers[issuance.G1].Relint(p.Profile, changed, now)
		isSerial := n/8 >= serial && n/8 < serial+20
		negative := n == 8*serial+7
		if (err == nil) != (isSerial && !negative) {
			t.Errorf("bit %d of octet %d: %v", n%8, n/8, err)
		}
	}
	longer := append(bytes.Clone(tbs), 0)
	_, err = h.Issuers[issuance.G1].Relint(p.Profile, longer, now)
	if err == nil {
		t.Error("accepted with something behind it")
	}
	_, err = h.Issuers[issuance.G1].Relint(p.Profile, make([]byte, 1<<20), now)
	if err == nil {
		t.Error("accepted a megabyte of nothing")
	}
}

// TestRelintDemo: only a demo's samples may begin in the past.
func TestRelintDemo(t *testing.T) {
	demo := config
	demo.Demo = true
	h := newHierarchy(t, pki.P256, demo)
	p := params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public())
	p.NotBefore = now.AddDate(-4, 0, 0)
	linted, err := h.Issuers[issuance.G1].Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Issuers[issuance.G1].Relint(p.Profile, linted.TBS(), now)
	if err != nil {
		t.Error(err)
	}
}

func TestSignOnce(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	g1, key := h.Issuers[issuance.G1], newKey(t, pki.P256).Public()
	prepare := func() *issuance.Linted {
		linted, err := g1.Prepare(params(t, issuance.ProfileHolder, key))
		if err != nil {
			t.Fatal(err)
		}
		return linted
	}
	linted := prepare()
	signature, err := linted.Sign(h.Keys[issuance.G1])
	if err != nil {
		t.Fatal(err)
	}
	_, err = linted.Sign(h.Keys[issuance.G1])
	if pki.CodeOf(err) != "issuance.signed" {
		t.Errorf("second signature: %v", err)
	}
	other := prepare()
	_, err = other.Sign(h.Keys[issuance.Operations])
	if pki.CodeOf(err) != "issuance.key" {
		t.Errorf("signed by another CA: %v", err)
	}
	_, err = other.Sign(h.Keys[issuance.G1])
	if pki.CodeOf(err) != "issuance.signed" {
		t.Errorf("signed after a failure: %v", err)
	}
	tbs := linted.TBS()
	tbs[0] ^= 1
	if bytes.Equal(tbs, linted.TBS()) {
		t.Error("TBS gives the inside away")
	}
	for n := range signature {
		bad := bytes.Clone(signature)
		bad[n] ^= 1
		_, err = g1.Assemble(linted.TBS(), bad)
		if err == nil {
			t.Errorf("assembled with octet %d of the signature changed", n)
		}
	}
	for n := range linted.TBS() {
		bad := linted.TBS()
		bad[n] ^= 1
		_, err = g1.Assemble(bad, signature)
		if err == nil {
			t.Errorf("assembled with octet %d changed", n)
		}
	}
	_, err = h.Issuers[issuance.Operations].Assemble(linted.TBS(), signature)
	if err == nil {
		t.Error("assembled under another CA")
	}
}

// TestAssembleForeignIssuer: the issuer's key alone does not make it the issuer's.
func TestAssembleForeignIssuer(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	good := h.issue(t, config, params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public()))
	tbs := bytes.Replace(bytes.Clone(good.RawTBSCertificate), []byte("CA - G1"), []byte("CA - G9"), 1)
	digest := sha256.Sum256(tbs)
	signature, err := h.Keys[issuance.G1].Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Issuers[issuance.G1].Assemble(tbs, signature)
	if err == nil {
		t.Error("assembled with another issuer's name")
	}
}

// faulty is an HSM whose signatures have one wrong bit.
type faulty struct{ crypto.Signer }

func (f faulty) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := f.Signer.Sign(r, digest, opts)
	if err == nil {
		signature[len(signature)-1] ^= 1
	}
	return signature, err
}

func TestFaultySigner(t *testing.T) {
	for _, keyType := range []pki.KeyType{pki.RSA2048, pki.P256, pki.P384} {
		h := newHierarchy(t, keyType, config)
		linted, err := h.Issuers[issuance.G1].Prepare(params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public()))
		if err != nil {
			t.Fatal(err)
		}
		_, err = linted.Sign(faulty{h.Keys[issuance.G1]})
		if pki.CodeOf(err) != "issuance.signature" {
			t.Errorf("%s: a faulty signature left: %v", keyType, err)
		}
	}
}
