package lint

import (
	"crypto/x509"
	"slices"
	"strings"
)

// tlsNoWildcard: one leaf a zone (RS4). A wildcard would let a browser carry a
// request for one zone on another zone's connection.
func tlsNoWildcard(k kind, c *x509.Certificate) string {
	star := func(s string) bool { return strings.Contains(s, "*") }
	if k.names && (star(c.Subject.CommonName) || slices.ContainsFunc(c.DNSNames, star)) {
		return "wildcard"
	}
	return ""
}
