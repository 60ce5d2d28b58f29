// Package issuancetest makes the CAs of tests: a whole hierarchy with its keys.
//
// It owns the names of these CAs. It does not own how a CA is made. Program code must
// not import it.
package issuancetest

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// Start is the time at which the clocks of tests begin.
var Start = time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)

// Config is what certificates say about a test's instance.
var Config = issuance.Config{Country: "JP", Organization: "ReceiptOnline", PolicyOID: "1.3.6.1.4.1.99999.1.1", StatusURL: "http://127.0.0.1:8080"}

// Hierarchy is the four CAs by their ID.
type Hierarchy struct {
	Certs   map[string]*x509.Certificate
	Keys    map[string]crypto.Signer
	Issuers map[string]*issuance.Issuer
}

// Make makes the CAs, which are valid from a time on. newKey makes the key of each.
func Make(cfg issuance.Config, from time.Time, newKey func(id string) (crypto.Signer, error)) (Hierarchy, error) {
	h := Hierarchy{map[string]*x509.Certificate{}, map[string]crypto.Signer{}, map[string]*issuance.Issuer{}}
	dns, ips := Local()
	for _, p := range []issuance.CAParams{
		{ID: issuance.Root, CommonName: "Test Root CA"},
		{ID: issuance.G1, CommonName: "Test Root CA - G1"},
		{ID: issuance.Operations, CommonName: "Test Operations CA"},
		{ID: issuance.TLS, CommonName: "Test Site Root CA", PermittedDNS: dns, PermittedIPs: ips},
	} {
		key, err := newKey(p.ID)
		if err != nil {
			return h, fmt.Errorf("make key of %s: %w", p.ID, err)
		}
		p.NotBefore, p.Key = from, key
		if p.ID == issuance.G1 {
			p.Parent, p.ParentKey = h.Certs[issuance.Root], h.Keys[issuance.Root]
		}
		cert, err := issuance.NewCA(p, cfg)
		if err != nil {
			return h, fmt.Errorf("make CA %s: %w", p.ID, err)
		}
		h.Certs[p.ID], h.Keys[p.ID] = cert, key
		h.Issuers[p.ID], err = issuance.NewIssuer(p.ID, cert, cfg)
		if err != nil {
			return h, fmt.Errorf("make issuer %s: %w", p.ID, err)
		}
	}
	return h, nil
}

// Local are the names and addresses for which the CA of the site may vouch.
func Local() ([]string, []*net.IPNet) {
	_, v4, _ := net.ParseCIDR("127.0.0.0/8")
	_, v6, _ := net.ParseCIDR("::1/128")
	return []string{"localhost", "portal.example"}, []*net.IPNet{v4, v6}
}

// Keys makes keys of one type.
func Keys(t pki.KeyType) func(id string) (crypto.Signer, error) {
	return func(string) (crypto.Signer, error) { return issuance.GenerateKey(t) }
}
