package lint

import (
	"crypto/x509"
	"crypto/x509/pkix"
)

// allowed says which extensions a certificate may carry, and whether each is
// critical. Nothing else gets past: an extension that nobody here knows is
// somebody else's meaning in our name.
var allowed = map[string]bool{
	"2.5.29.15":            true,  // keyUsage
	"2.5.29.19":            true,  // basicConstraints
	"2.5.29.30":            true,  // nameConstraints
	"2.5.29.14":            false, // subjectKeyIdentifier
	"2.5.29.17":            false, // subjectAltName (the subject is never empty)
	"2.5.29.31":            false, // cRLDistributionPoints
	"2.5.29.32":            false, // certificatePolicies
	"2.5.29.35":            false, // authorityKeyIdentifier
	"2.5.29.37":            false, // extKeyUsage
	"1.3.6.1.5.5.7.1.1":    false, // authorityInfoAccess
	"1.3.6.1.5.5.7.48.1.5": false, // id-pkix-ocsp-nocheck
}

// extensions: known ones, each with its criticality.
func extensions(_ kind, c *x509.Certificate) string {
	return unknown(c.Extensions, allowed)
}

func unknown(present []pkix.Extension, allowed map[string]bool) string {
	for _, e := range present {
		critical, ok := allowed[e.Id.String()]
		switch {
		case !ok:
			return "extension " + e.Id.String()
		case critical != e.Critical:
			return "criticality of " + e.Id.String()
		}
	}
	return ""
}
