package lint

import "crypto/x509"

// crlTimes: a list without an end would be believed for ever.
func crlTimes(l *x509.RevocationList) string {
	if l.NextUpdate.IsZero() || !l.ThisUpdate.Before(l.NextUpdate) {
		return "nextUpdate is not after thisUpdate"
	}
	return ""
}
