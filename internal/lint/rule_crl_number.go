package lint

import "crypto/x509"

// crlNumber: there is one, positive, of at most 20 octets.
func crlNumber(l *x509.RevocationList) string {
	if l.Number == nil || l.Number.Sign() <= 0 || len(l.Number.Bytes()) > 20 {
		return "no positive number"
	}
	return ""
}
