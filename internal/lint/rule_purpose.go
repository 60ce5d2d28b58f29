package lint

import (
	"crypto/x509"
	"slices"
)

// purpose: extended key usage is exactly that of the kind. Self-signed CAs carry it
// too: Windows applies it to everything below the root, which keeps a stolen
// root from signing code (CK3).
func purpose(k kind, c *x509.Certificate) string {
	if !slices.Equal(c.ExtKeyUsage, k.purposes) || len(c.UnknownExtKeyUsage) > 0 {
		return "not the extended key usage of its kind"
	}
	return ""
}
