package lint

import "crypto/x509"

// keyUsage: a CA signs certificates and CRLs and nothing else; a leaf signs. RSA
// leaves do not carry keys either: RFC 5280 §4.2.1.12 finds keyEncipherment
// inconsistent with clientAuth, and no TLS that we speak needs it.
func keyUsage(k kind, c *x509.Certificate) string {
	want := x509.KeyUsageDigitalSignature
	if k.ca {
		want = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if c.KeyUsage != want {
		return "not the usage of its kind"
	}
	return ""
}
