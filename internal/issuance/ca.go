package issuance

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"inkan/internal/lint"
	"inkan/internal/pki"
)

// CAParams are what a CA's certificate is made from. The shape follows from the ID:
//
//	root  client root: path length 1, never vouches for a server (threat CK3)
//	g1    issuing CA under root: path length 0, the same constraints
//	ops   operators' and API clients' own root: path length 0, the same constraints
//	tls   the site's servers' own root: only the given names and addresses (ST9)
//
// All carry one extended key usage, the self-signed ones too: Windows applies it
// to everything below, so that a stolen client root cannot sign code either.
type CAParams struct {
	ID         string
	CommonName string
	Key        crypto.Signer
	Parent     *x509.Certificate // of g1: root
	ParentKey  crypto.Signer
	NotBefore  time.Time
	NotAfter   time.Time // zero: as long as the key's algorithm and the parent allow, 2040 at most

	PermittedDNS []string     // of tls: names and everything below them
	PermittedIPs []*net.IPNet // of tls
}

// lastDay is the end of 2040 in Japan, where 128-bit strength ends (threats §4).
var lastDay = time.Date(2040, 12, 31, 23, 59, 59, 0, pki.JST)

// allIPs are every address of both families.
func allIPs() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
}

// NewCA makes and lints the certificate of a CA. It is for `inkan init` and for
// tests: a CA's certificate is a ceremony, not a request.
func NewCA(p CAParams, cfg Config) (*x509.Certificate, error) {
	err := cfg.validate()
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", p.ID, err)
	}
	template, err := caTemplate(p, cfg)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", p.ID, err)
	}
	parent, key := template, p.Key
	if p.Parent != nil {
		parent, key = p.Parent, p.ParentKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, p.Key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", p.ID, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse new CA %s: %w", p.ID, err)
	}
	found := append(lint.Certificate(p.ID, c), general(der)...)
	if len(found) > 0 {
		return nil, fmt.Errorf("lint new CA %s: %s", p.ID, lint.Text(found))
	}
	above := c
	if p.Parent != nil {
		above = p.Parent
	}
	err = c.CheckSignatureFrom(above)
	if err != nil {
		return nil, fmt.Errorf("verify new CA %s: %w", p.ID, err)
	}
	return c, nil
}

func caTemplate(p CAParams, cfg Config) (*x509.Certificate, error) {
	if p.Key == nil || (p.ID == G1) != (p.Parent != nil && p.ParentKey != nil) {
		return nil, fmt.Errorf("key, or parent of an issuing CA, is missing or too many")
	}
	if p.CommonName == "" {
		return nil, fmt.Errorf("common name is missing")
	}
	if p.ID != TLS && (len(p.PermittedDNS) > 0 || len(p.PermittedIPs) > 0) {
		return nil, fmt.Errorf("names are for the TLS root only")
	}
	keyType, ok := KeyTypeOf(p.Key.Public())
	if !ok {
		return nil, fmt.Errorf("key of an unknown type")
	}
	subject, err := encodeName([]attribute{{oidCountry, cfg.Country}, {oidOrganization, cfg.Organization}, {oidCommonName, p.CommonName}})
	if err != nil {
		return nil, fmt.Errorf("encode subject: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(p.Key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	notAfter, err := caEnd(p, keyType)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: NewSerial(), RawSubject: subject, NotBefore: p.NotBefore.UTC().Truncate(time.Second), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, SubjectKeyId: keyID(spki),
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{lint.Nowhere}, ExcludedIPRanges: allIPs(),
	}
	switch p.ID {
	case Root:
		t.MaxPathLen, t.MaxPathLenZero = 1, false
	case G1:
		// anyPolicy, since this certificate cannot be recalled: a later version of the
		// policy gets a number of its own without a new CA, and whoever holds this key
		// could assert any number anyway.
		anyPolicy, err := x509.ParseOID("2.5.29.32.0")
		if err != nil {
			return nil, fmt.Errorf("parse anyPolicy: %w", err)
		}
		t.Policies = []x509.OID{anyPolicy}
		t.CRLDistributionPoints = []string{cfg.crlURL(Root)}
		t.IssuingCertificateURL = []string{cfg.caURL(Root)}
	case Operations:
	case TLS:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		t.PermittedDNSDomains = p.PermittedDNS
		t.PermittedIPRanges = p.PermittedIPs
		t.ExcludedIPRanges = nil
		if len(p.PermittedDNS) == 0 {
			t.PermittedDNSDomains = []string{lint.Nowhere} // addresses only
		}
		for _, all := range allIPs() {
			if !hasFamily(p.PermittedIPs, all) {
				t.ExcludedIPRanges = append(t.ExcludedIPRanges, all)
			}
		}
	default:
		return nil, fmt.Errorf("no such CA")
	}
	return t, nil
}

func caEnd(p CAParams, keyType pki.KeyType) (time.Time, error) {
	end := p.NotAfter
	limits := []time.Time{lastDay, keyType.UsableUntil()}
	if p.Parent != nil {
		limits = append(limits, p.Parent.NotAfter)
	}
	for _, limit := range limits {
		if end.IsZero() || p.NotAfter.IsZero() && limit.Before(end) {
			end = limit
		}
		if end.After(limit) {
			return time.Time{}, fmt.Errorf("ends %s, after %s", end.Format(time.DateOnly), limit.Format(time.DateOnly))
		}
	}
	return end, nil
}

func hasFamily(nets []*net.IPNet, like *net.IPNet) bool {
	for _, n := range nets {
		if len(n.Mask) == len(like.Mask) {
			return true
		}
	}
	return false
}
