package lint

import "crypto/x509"

func goodSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384:
		return true
	}
	return false
}

// signatureAlgorithm: PKCS#1 or ECDSA with SHA-256 or SHA-384; no SHA-1 anywhere.
// PSS is not used: old Windows key providers cannot check it.
func signatureAlgorithm(_ kind, c *x509.Certificate) string {
	if !goodSignature(c.SignatureAlgorithm) {
		return "algorithm " + c.SignatureAlgorithm.String()
	}
	return ""
}

func crlSignatureAlgorithm(l *x509.RevocationList) string {
	if !goodSignature(l.SignatureAlgorithm) {
		return "algorithm " + l.SignatureAlgorithm.String()
	}
	return ""
}
