package lint

import "crypto/x509"

var crlAllowed = map[string]bool{
	"2.5.29.20": false, // cRLNumber
	"2.5.29.35": false, // authorityKeyIdentifier
}

// crlExtensions: number and authority key identifier, nothing else: our lists are
// full ones, and a critical extension would make old clients refuse them.
func crlExtensions(l *x509.RevocationList) string {
	if len(l.AuthorityKeyId) == 0 {
		return "no authority key identifier"
	}
	return unknown(l.Extensions, crlAllowed)
}
