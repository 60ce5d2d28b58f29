package lint

import "crypto/x509"

// alternativeNames: server certificates have DNS names or addresses, nothing else;
// no other certificate has any.
func alternativeNames(k kind, c *x509.Certificate) string {
	servers := len(c.DNSNames) + len(c.IPAddresses)
	others := len(c.EmailAddresses) + len(c.URIs)
	present := false
	for _, e := range c.Extensions {
		present = present || e.Id.String() == "2.5.29.17"
	}
	switch {
	case !k.names && present:
		return "alternative names where none belong"
	case k.names && servers == 0:
		return "a server without a name"
	case others > 0:
		return "mail or URI names"
	}
	return ""
}
