package lint

import "crypto/x509"

// validity: begins before it ends. That both lie on whole seconds follows from
// the encoding, which has no fractions.
func validity(_ kind, c *x509.Certificate) string {
	if !c.NotBefore.Before(c.NotAfter) {
		return "ends before it begins"
	}
	return ""
}
