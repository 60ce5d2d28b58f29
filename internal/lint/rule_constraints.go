package lint

import (
	"crypto/x509"
	"net"
	"slices"
)

// Nowhere is the only DNS name that client CAs may vouch for: it can never exist
// (RFC 6761). An empty excluded name would do as well, but Java throws on it.
const Nowhere = "client.invalid"

// nameConstraints: a client CA is technically unable to vouch for a server (CK3); the
// site's TLS root vouches for given names and addresses only (ST9).
func nameConstraints(k kind, c *x509.Certificate) string {
	none := len(c.ExcludedDNSDomains) == 0 && len(c.PermittedEmailAddresses) == 0 && len(c.ExcludedEmailAddresses) == 0 &&
		len(c.PermittedURIDomains) == 0 && len(c.ExcludedURIDomains) == 0
	dns, in, out := c.PermittedDNSDomains, c.PermittedIPRanges, c.ExcludedIPRanges
	switch {
	case !none:
		return "a form of constraint that no kind has"
	case k.constraint == noConstraint && (len(dns) > 0 || len(in) > 0 || len(out) > 0):
		return "constraints in a leaf"
	case k.constraint == noConstraint:
		return ""
	case !c.PermittedDNSDomainsCritical:
		return "not critical"
	case k.constraint == noServers && (!slices.Equal(dns, []string{Nowhere}) || len(in) > 0 || !everything(out, 4) || !everything(out, 16)):
		return "a client CA that can vouch for a server"
	case k.constraint == ownServers && (len(dns) == 0 || slices.Contains(dns, "") || slices.Contains(dns, ".")):
		return "a TLS root for every name"
	case k.constraint == ownServers && !(bounded(in, out, 4) && bounded(in, out, 16)):
		return "a TLS root for every address"
	}
	return ""
}

// everything says whether all addresses of a length are among the ranges.
func everything(ranges []*net.IPNet, length int) bool {
	return slices.ContainsFunc(ranges, func(n *net.IPNet) bool {
		ones, bits := n.Mask.Size()
		return bits == 8*length && ones == 0
	})
}

// bounded says whether the addresses of a length are either excluded as a whole
// or permitted in part.
func bounded(permitted, excluded []*net.IPNet, length int) bool {
	if everything(permitted, length) {
		return false
	}
	some := slices.ContainsFunc(permitted, func(n *net.IPNet) bool { return len(n.Mask) == length })
	return some || everything(excluded, length)
}
