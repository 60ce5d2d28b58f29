package lint

import "crypto/x509"

// basicConstraints: a leaf says CA:FALSE; a CA says CA:TRUE and its path length.
func basicConstraints(k kind, c *x509.Certificate) string {
	switch {
	case !c.BasicConstraintsValid:
		return "missing"
	case c.IsCA != k.ca:
		return "wrong CA flag"
	case !k.ca && c.MaxPathLen != -1:
		return "path length in a leaf"
	case k.ca && (c.MaxPathLen != k.pathLen || k.pathLen == 0 && !c.MaxPathLenZero):
		return "wrong path length"
	}
	return ""
}
