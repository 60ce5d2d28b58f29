package lint

import (
	"crypto/x509"
	"strings"
)

// commonName: in a subject without alternative names Java reads a CN such as
// "V12345" or "ocsp" as a DNS name, and the CA's constraints then refuse the
// certificate. Digits alone or a space keep it from doing so (CK3).
func commonName(k kind, c *x509.Certificate) string {
	if !k.words {
		return ""
	}
	cn := c.Subject.CommonName
	if cn == "" || strings.Trim(cn, "0123456789") != "" && !strings.Contains(cn, " ") {
		return "neither digits alone nor with a space, some read it as a host name"
	}
	return ""
}
