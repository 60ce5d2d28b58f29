package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
)

// Key makes a P-256 key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(t, err)
	return key
}

// CSR makes the certification request of a key.
func CSR(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	Must(t, err)
	return der
}

// CSRText is CSR in PEM.
func CSRText(t testing.TB, key crypto.Signer) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: CSR(t, key)}))
}

// Sign makes a certificate from a template that the issuer's key signs. A template without
// a serial number gets one.
func Sign(t testing.TB, template, issuer *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		Must(t, err)
		template.SerialNumber = serial
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, key)
	Must(t, err)
	return Certificate(t, der)
}

// SelfSigned makes a certificate that its own key signs, with that key.
func SelfSigned(t testing.TB, template *x509.Certificate, key crypto.Signer) tls.Certificate {
	t.Helper()
	cert := Sign(t, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// Certificate parses a certificate.
func Certificate(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	Must(t, err)
	return cert
}

// CertificateFile reads the first certificate of a PEM file; the parts of its path are
// joined.
func CertificateFile(t testing.TB, path ...string) *x509.Certificate {
	t.Helper()
	return Certificate(t, DecodePEM(t, ReadFile(t, path...)))
}

// CertificateText writes certificates in PEM, one after the other.
func CertificateText(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
