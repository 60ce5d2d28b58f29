package lint

import "crypto/x509"

// ocspNoCheck: a responder lives seven days and is not itself checked (ST10); any
// other certificate with the mark would be beyond revocation.
func ocspNoCheck(k kind, c *x509.Certificate) string {
	present := false
	for _, e := range c.Extensions {
		present = present || e.Id.String() == "1.3.6.1.5.5.7.48.1.5"
	}
	if present != k.noCheck {
		return "id-pkix-ocsp-nocheck belongs in responder certificates and nowhere else"
	}
	return ""
}
