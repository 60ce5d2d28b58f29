package lint

import (
	"crypto/x509"
	"time"
)

// lastDay is the end of 2040 in Japan: CRYPTREC LS-0003 ends 128-bit strength
// there, and no root of ours may outlive it, whatever its key (CK3).
var lastDay = time.Date(2040, 12, 31, 23, 59, 59, 0, time.FixedZone("JST", 9*60*60))

// caUntil: no CA certificate lives beyond 2040.
func caUntil(k kind, c *x509.Certificate) string {
	if k.ca && c.NotAfter.After(lastDay) {
		return "a CA that ends after 2040-12-31"
	}
	return ""
}
