package issuance

import (
	"bytes"
	"crypto/x509"

	"inkan/internal/pki"
)

// standIn gives octets in the form of a signature by a key of the type. Nobody made
// them and they verify under no key: a certificate that is being linted needs a
// signature to be read, and may not have one that means something.
func standIn(t pki.KeyType) []byte {
	size := map[pki.KeyType]int{pki.RSA2048: 256, pki.RSA3072: 384, pki.RSA4096: 512, pki.P256: 32, pki.P384: 48}[t]
	octets := bytes.Repeat([]byte{0x5a}, size)
	if t != pki.P256 && t != pki.P384 {
		return octets
	}
	var both []byte // SEQUENCE of the two INTEGERs r and s
	for range 2 {
		both = append(appendHeader(both, 0x02, size), octets...)
	}
	return append(appendHeader(nil, 0x30, len(both)), both...)
}

// reads says whether the standard library reads in a certificate what was meant by
// the facts. What a profile adds to them is for lint to judge.
func (f facts) reads(c *x509.Certificate) bool {
	return c.SerialNumber.Cmp(f.Serial) == 0 && c.NotBefore.Equal(f.NotBefore) && c.NotAfter.Equal(f.notAfter) &&
		bytes.Equal(c.RawSubject, f.subject) && bytes.Equal(c.RawSubjectPublicKeyInfo, f.spki)
}
