package issuance_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

func newCSR(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// unsignedCSR carries any RSA key, with a signature that means nothing.
func unsignedCSR(t testing.TB, n *big.Int, e int64) []byte {
	t.Helper()
	key, err := asn1.Marshal(struct {
		N *big.Int
		E *big.Int
	}{n, big.NewInt(e)})
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}
	sha256 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}
	type info struct {
		Version int
		Subject pkix.RDNSequence
		Key     struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	i := info{Subject: pkix.RDNSequence{}, Attributes: []asn1.RawValue{}}
	i.Key.Algorithm, i.Key.Key = rsaKey, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{i, sha256, asn1.BitString{Bytes: []byte{1}, BitLength: 8}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rocaModulus is a number of 2048 bits without small factors whose residues are powers of
// 65537 modulo every prime that marks the keys of CVE-2017-15361.
func rocaModulus(t testing.TB) *big.Int {
	t.Helper()
	product := big.NewInt(2) // and odd
	for p := int64(3); p <= 167; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	power := new(big.Int).Exp(big.NewInt(65537), big.NewInt(5), product)
	n := new(big.Int).Lsh(big.NewInt(3), 2046)
	n.Sub(n, new(big.Int).Mod(n, product))
	n.Add(n, power)
	for !n.ProbablyPrime(20) { // no factor at all: nothing else is wrong with it
		n.Add(n, product)
	}
	if n.BitLen() != 2048 {
		t.Fatalf("%d bits", n.BitLen())
	}
	return n
}

// TestThreatAP11: one request per defect, one code.
func TestThreatAP11(t *testing.T) {
	ec := newKey(t, pki.P256)
	rsaKey := newKey(t, pki.RSA2048).(*rsa.PrivateKey)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	big64k := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 65535), big.NewInt(1))
	even := new(big.Int).Lsh(big.NewInt(3), 2046)
	smallFactor := new(big.Int).Lsh(big.NewInt(1), 2047)
	smallFactor.Add(smallFactor, big.NewInt(1)) // divisible by 3
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(20) {
		q.Add(q, big.NewInt(2))
	}
	foreign := x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody else"}, DNSNames: []string{"www.example.jp"}}
	good := newCSR(t, ec, foreign)
	spoiled := bytes.Clone(good)
	spoiled[len(spoiled)-1] ^= 1
	tests := []struct {
		name string
		der  []byte
		code string
	}{
		{"P-256, foreign names ignored", good, ""},
		{"RSA-2048", newCSR(t, rsaKey, x509.CertificateRequest{}), ""},
		{"RSA-2048 with PSS", newCSR(t, rsaKey, x509.CertificateRequest{SignatureAlgorithm: x509.SHA256WithRSAPSS}), ""},
		{"nothing", nil, "csr.form"},
		{"something behind it", append(bytes.Clone(good), 0), "csr.form"},
		{"too long", make([]byte, issuance.MaxCSR+1), "csr.size"},
		{"no possession", spoiled, "csr.signature"},
		{"Ed25519", newCSR(t, ed, x509.CertificateRequest{}), "csr.key"},
		{"P-521", newCSR(t, p521, x509.CertificateRequest{}), "csr.key"},
		{"RSA-1024", newCSR(t, small, x509.CertificateRequest{}), "csr.key"},
		{"65536 bits", unsignedCSR(t, big64k, 65537), "csr.key"},
		{"even modulus", unsignedCSR(t, even, 65537), "csr.key"},
		{"small factor", unsignedCSR(t, smallFactor, 65537), "csr.key"},
		{"ROCA", unsignedCSR(t, rocaModulus(t), 65537), "csr.key"},
		{"close primes", unsignedCSR(t, new(big.Int).Mul(p, q), 65537), "csr.key"},
		{"e = 3", unsignedCSR(t, rsaKey.N, 3), "csr.key"},
		{"e even", unsignedCSR(t, rsaKey.N, 65538), "csr.key"},
		{"good key, no possession", unsignedCSR(t, rsaKey.N, 65537), "csr.signature"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			public, err := issuance.ParseCSR(test.der)
			if test.code == "" && (err != nil || public == nil) || test.code != "" && (err == nil || pki.CodeOf(err) != test.code) {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
}

func FuzzParseCSR(f *testing.F) {
	key := newKey(f, pki.P256)
	f.Add(newCSR(f, key, x509.CertificateRequest{}))
	f.Add(unsignedCSR(f, big.NewInt(15), 3))
	f.Fuzz(func(t *testing.T, der []byte) {
		public, err := issuance.ParseCSR(der)
		if err != nil {
			if pki.ClassOf(err) != pki.Invalid {
				t.Fatalf("class of %v", err)
			}
			return
		}
		_, ok := issuance.KeyTypeOf(public)
		if !ok {
			t.Fatal("accepted a key that we do not certify")
		}
	})
}
