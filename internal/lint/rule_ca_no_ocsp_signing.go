package lint

import (
	"crypto/x509"
	"slices"
)

// caNoOCSPSigning: a CA certificate with OCSPSigning would be a responder for its
// own parent (ST10), and so would one that names any purpose.
func caNoOCSPSigning(_ kind, c *x509.Certificate) string {
	if c.IsCA && (slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)) {
		return "a CA certificate may answer OCSP for its parent"
	}
	return ""
}
