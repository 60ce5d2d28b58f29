package pki

import "slices"

// Authority is what a presented certificate gives power over: itself, what it was
// renewed from and what was renewed from it, and nothing else. All terminals of an
// institution share one subject name, so a name is never authority (threat RS8).
type Authority struct {
	Certificate Certificate
	State       CertificateState // at the time of the request
	Chain       []string         // serials: predecessors and successors, and itself
}

// Covers says whether a certificate is of the chain.
func (a Authority) Covers(serial string) bool {
	return serial != "" && slices.Contains(a.Chain, serial)
}
