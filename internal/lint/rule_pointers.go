package lint

import (
	"crypto/x509"
	"net/url"
	"slices"
)

// pointers: status and CA certificates are fetched by plain http, since a client
// that checks a certificate cannot first check another one to do so. Whatever
// can be revoked says where to ask.
func pointers(k kind, c *x509.Certificate) string {
	for _, s := range slices.Concat(c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL) {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil {
			return "not a plain http address: " + s
		}
	}
	revocable := k.issuer != "" && !k.noCheck
	if revocable && len(c.CRLDistributionPoints) == 0 {
		return "no CRL distribution point"
	}
	return ""
}
