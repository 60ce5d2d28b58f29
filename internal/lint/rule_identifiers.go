package lint

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
)

// keyIdentifiers: the subject key identifier is 160 bits of the SHA-256 of the key
// (RFC 7093 method 1), so that no SHA-1 is needed and nobody can choose it; the
// authority's is there unless the certificate signs itself.
func keyIdentifiers(k kind, c *x509.Certificate) string {
	want, err := KeyID(c.RawSubjectPublicKeyInfo)
	switch {
	case err != nil || !bytes.Equal(c.SubjectKeyId, want):
		return "subject key identifier is not that of the key"
	case k.issuer == "" && k.ca && !bytes.Equal(c.RawIssuer, c.RawSubject):
		return "not self-issued"
	case (k.issuer != "" || !k.ca) && len(c.AuthorityKeyId) == 0:
		return "no authority key identifier"
	}
	return ""
}

// KeyID computes the key identifier of a SubjectPublicKeyInfo.
func KeyID(spki []byte) ([]byte, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(spki, &info)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}
