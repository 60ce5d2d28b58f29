package lint_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/lint"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

var now = issuancetest.Start

// samples makes a good certificate of every kind, and a CRL.
func samples(t *testing.T) (map[string]*x509.Certificate, *x509.RevocationList) {
	t.Helper()
	cfg := issuancetest.Config
	h, err := issuancetest.Make(cfg, now, issuancetest.Keys(pki.P256))
	testkit.Must(t, err)
	certs, keys, issuers := h.Certs, h.Keys, h.Issuers
	for id, profile := range issuance.Profiles(cfg) {
		key, err := issuance.GenerateKey(pki.P256)
		if err != nil {
			t.Fatal(err)
		}
		p := issuance.Params{Profile: profile, Serial: issuance.NewSerial(), NotBefore: now, PublicKey: key.Public()}
		switch {
		case profile.Holder:
			p.Holder = pki.Holder{Kind: pki.Medical, Code: "0110119153"}
		case profile.Names:
			p.DNSNames = []string{"localhost"}
		default:
			p.CommonName = "Sample 1"
		}
		linted, err := issuers[profile.Issuer].Prepare(p)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := linted.Sign(keys[profile.Issuer])
		if err != nil {
			t.Fatal(err)
		}
		certs[id], err = issuers[profile.Issuer].Assemble(linted.TBS(), signature)
		if err != nil {
			t.Fatal(err)
		}
	}
	tbs, err := issuers[issuance.G1].CRLTBS(1, now, now.Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := issuers[issuance.G1].SignCRL(keys[issuance.G1], tbs)
	if err != nil {
		t.Fatal(err)
	}
	der, err := issuers[issuance.G1].AssembleCRL(tbs, signature)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return certs, list
}

func TestRules(t *testing.T) {
	certs, list := samples(t)
	_, every4, _ := net.ParseCIDR("0.0.0.0/0")
	spare := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}}
	noCheck := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}}
	altName := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}}
	tests := []struct {
		kind   string
		rule   string
		change func(*x509.Certificate)
	}{
		{"holder", "serial", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }},
		{"holder", "serial", func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Neg(c.SerialNumber) }},
		{"holder", "serial", func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) }},
		{"holder", "signature_algorithm", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }},
		{"g1", "signature_algorithm", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }},
		{"holder", "key", func(c *x509.Certificate) { c.PublicKey = nil }},
		{"holder", "validity", func(c *x509.Certificate) { c.NotAfter = c.NotBefore }},
		{"root", "ca_until", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }},
		{"tls", "ca_until", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(1, 0, 0) }},
		{"holder", "basic_constraints", func(c *x509.Certificate) { c.IsCA = true }},
		{"holder", "basic_constraints", func(c *x509.Certificate) { c.BasicConstraintsValid = false }},
		{"g1", "basic_constraints", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false }},
		{"root", "basic_constraints", func(c *x509.Certificate) { c.MaxPathLen = -1 }},
		{"holder", "key_usage", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
		{"g1", "key_usage", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }},
		{"holder", "purpose", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }},
		{"holder", "purpose", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }},
		{"root", "purpose", func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		{"g1", "ca_no_ocsp_signing", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) }},
		{"g1", "ca_no_ocsp_signing", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		{"g1", "name_constraints", func(c *x509.Certificate) { c.PermittedDNSDomains = nil }},
		{"g1", "name_constraints", func(c *x509.Certificate) { c.PermittedDNSDomains = append(c.PermittedDNSDomains, "example.jp") }},
		{"g1", "name_constraints", func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false }},
		{"g1", "name_constraints", func(c *x509.Certificate) { c.ExcludedIPRanges = c.ExcludedIPRanges[:1] }},
		{"g1", "name_constraints", func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{every4} }},
		{"root", "name_constraints", func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"example.jp"} }},
		{"ops", "name_constraints", func(c *x509.Certificate) { c.ExcludedIPRanges = nil }},
		{"tls", "name_constraints", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{""} }},
		{"tls", "name_constraints", func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{every4} }},
		{"tls", "name_constraints", func(c *x509.Certificate) { c.PermittedIPRanges = c.PermittedIPRanges[:1] }},
		{"holder", "name_constraints", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{lint.Nowhere} }},
		{"holder", "key_identifiers", func(c *x509.Certificate) { c.SubjectKeyId = make([]byte, 20) }},
		{"holder", "key_identifiers", func(c *x509.Certificate) { c.AuthorityKeyId = nil }},
		{"root", "key_identifiers", func(c *x509.Certificate) { c.RawIssuer = []byte{0x30, 0} }},
		{"holder", "extensions", func(c *x509.Certificate) { c.Extensions = append(slices.Clone(c.Extensions), spare) }},
		{"holder", "extensions", func(c *x509.Certificate) {
			c.Extensions = slices.Clone(c.Extensions)
			c.Extensions[0].Critical = !c.Extensions[0].Critical
		}},
		{"holder", "common_name", func(c *x509.Certificate) { c.Subject.CommonName = "V12345" }},
		{"ocsp", "common_name", func(c *x509.Certificate) { c.Subject.CommonName = "ocsp" }},
		{"operator", "common_name", func(c *x509.Certificate) { c.Subject.CommonName = "" }},
		{"holder", "alternative_names", func(c *x509.Certificate) { c.Extensions = append(slices.Clone(c.Extensions), altName) }},
		{"tls-server", "alternative_names", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }},
		{"tls-server", "alternative_names", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.jp"} }},
		{"tls-server", "tls_no_wildcard", func(c *x509.Certificate) { c.DNSNames = []string{"*.localhost"} }},
		{"tls-server", "tls_no_wildcard", func(c *x509.Certificate) { c.Subject.CommonName = "*.localhost" }},
		{"holder", "ocsp_nocheck", func(c *x509.Certificate) { c.Extensions = append(slices.Clone(c.Extensions), noCheck) }},
		{"ocsp", "ocsp_nocheck", func(c *x509.Certificate) { c.Extensions = nil }},
		{"holder", "pointers", func(c *x509.Certificate) { c.CRLDistributionPoints = nil }},
		{"holder", "pointers", func(c *x509.Certificate) { c.OCSPServer = []string{"https://status.example/ocsp"} }},
		{"holder", "pointers", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://user@status.example/"} }},
	}
	tried := map[string]bool{}
	for _, test := range tests {
		c := *certs[test.kind]
		test.change(&c)
		found := lint.Certificate(test.kind, &c)
		tried[test.rule] = true
		if !slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Rule == test.rule }) {
			t.Errorf("%s: rule %s says nothing, only %s", test.kind, test.rule, lint.Text(found))
		}
	}
	for rule, change := range map[string]func(*x509.RevocationList){
		"crl_signature_algorithm": func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.SHA1WithRSA },
		"crl_number":              func(l *x509.RevocationList) { l.Number = nil },
		"crl_times":               func(l *x509.RevocationList) { l.NextUpdate = time.Time{} },
		"crl_extensions":          func(l *x509.RevocationList) { l.Extensions = append(slices.Clone(l.Extensions), spare) },
	} {
		l := *list
		change(&l)
		tried[rule] = true
		found := lint.CRL(&l)
		if !slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Rule == rule }) {
			t.Errorf("rule %s says nothing, only %s", rule, lint.Text(found))
		}
	}
	if len(lint.CRL(list)) > 0 {
		t.Error(lint.CRL(list))
	}
	for _, rule := range lint.RuleNames() {
		if !tried[rule] {
			t.Errorf("rule %s has no case here", rule)
		}
	}
}

// TestThreatCO2: each sample is its own kind and no other's: one CA, one purpose
// (CO2).
func TestThreatCO2(t *testing.T) {
	certs, _ := samples(t)
	clients := []string{"holder", "operator", "api-client"} // told apart by issuer and subject
	for kind := range certs {
		for other, c := range certs {
			found := lint.Certificate(kind, c)
			alike := kind == other || slices.Contains(clients, kind) && slices.Contains(clients, other)
			if (len(found) == 0) != alike {
				t.Errorf("%s linted as %s: %s", other, kind, lint.Text(found))
			}
		}
	}
	if len(lint.Certificate("server", certs["holder"])) != 1 {
		t.Error("an unknown kind passes")
	}
}

func TestKey(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	// A modulus that is a power of 65537 modulo each of the primes of the fingerprint.
	product := big.NewInt(1)
	for _, p := range []int64{3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
		101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167} {
		product.Mul(product, big.NewInt(p))
	}
	roca := new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), product)
	for roca.BitLen() < 2048 {
		roca.Add(roca, new(big.Int).Lsh(product, uint(2047-product.BitLen())))
	}
	for lint.Key(&rsa.PublicKey{N: roca, E: 65537}) == "modulus has a small factor" || roca.Bit(0) == 0 {
		roca.Add(roca, product)
	}
	tests := []struct {
		name string
		key  crypto.PublicKey
		want string // part of the finding
	}{
		{"RSA-2048", good.Public(), ""},
		{"P-384", p384.Public(), ""},
		{"P-224", p224.Public(), "curve"},
		{"nothing", nil, "neither"},
		{"no modulus", &rsa.PublicKey{}, "no modulus"},
		{"2047 bits", &rsa.PublicKey{N: new(big.Int).Rsh(good.N, 1), E: 65537}, "size"},
		{"even", &rsa.PublicKey{N: new(big.Int).SetBit(good.N, 0, 0), E: 65537}, "even"},
		{"e = 3", &rsa.PublicKey{N: good.N, E: 3}, "exponent"},
		{"ROCA", &rsa.PublicKey{N: roca, E: 65537}, "ROCA"},
	}
	for _, test := range tests {
		got := lint.Key(test.key)
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestOneFileARule: an auditor finds the policy by the names of the files.
func TestOneFileARule(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	ruleFiles := 0
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "rule_") {
			ruleFiles++
		}
	}
	// The two rules about signature algorithms share a list and a file.
	if ruleFiles != len(lint.RuleNames())-1 {
		t.Errorf("%d files for %d rules", ruleFiles, len(lint.RuleNames()))
	}
}
