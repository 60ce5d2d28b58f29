package issuance_test

import (
	"crypto"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// now is a time in the life of everything that the tests make.
var now = time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)

var config = issuance.Config{Country: "JP", Organization: "ReceiptOnline", PolicyOID: "1.3.6.1.4.1.99999.1.1", StatusURL: "http://127.0.0.1:8080"}

// hierarchy is all CAs with their keys.
type hierarchy struct {
	certs   map[string]*x509.Certificate
	keys    map[string]crypto.Signer
	issuers map[string]*issuance.Issuer
}

func newKey(t testing.TB, keyType pki.KeyType) crypto.Signer {
	t.Helper()
	key, err := issuance.GenerateKey(keyType)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func localNames() ([]string, []*net.IPNet) {
	_, v4, _ := net.ParseCIDR("127.0.0.0/8")
	_, v6, _ := net.ParseCIDR("::1/128")
	return []string{"localhost", "portal.example"}, []*net.IPNet{v4, v6}
}

func newHierarchy(t testing.TB, keyType pki.KeyType, cfg issuance.Config) hierarchy {
	t.Helper()
	h := hierarchy{map[string]*x509.Certificate{}, map[string]crypto.Signer{}, map[string]*issuance.Issuer{}}
	dns, ips := localNames()
	for _, p := range []issuance.CAParams{
		{ID: issuance.Root, CommonName: "Online Billing NW Common Root CA"},
		{ID: issuance.G1, CommonName: "Online Billing NW Common Root CA - G1"},
		{ID: issuance.Operations, CommonName: "Inkan Operations CA"},
		{ID: issuance.TLS, CommonName: "Inkan Site Root CA", PermittedDNS: dns, PermittedIPs: ips},
	} {
		p.NotBefore = now.AddDate(-5, 0, 0)
		p.Key = newKey(t, keyType)
		if p.ID == issuance.G1 {
			p.Parent, p.ParentKey = h.certs[issuance.Root], h.keys[issuance.Root]
		}
		cert, err := issuance.NewCA(p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.certs[p.ID], h.keys[p.ID] = cert, p.Key
		h.issuers[p.ID], err = issuance.NewIssuer(p.ID, cert, cfg)
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// issue runs the whole line: Prepare, Relint, Sign, Assemble.
func (h hierarchy) issue(t testing.TB, cfg issuance.Config, p issuance.Params) *x509.Certificate {
	t.Helper()
	i := h.issuers[p.Profile.Issuer]
	prepared, err := i.Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	linted, err := i.Relint(p.Profile, prepared.TBS(), p.NotBefore)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := linted.Sign(h.keys[p.Profile.Issuer])
	if err != nil {
		t.Fatal(err)
	}
	cert, err := i.Assemble(prepared.TBS(), signature)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func profile(t testing.TB, id string) issuance.Profile {
	t.Helper()
	p, ok := issuance.Profiles(config)[id]
	if !ok {
		t.Fatalf("no profile %s", id)
	}
	return p
}

// params are good facts for each profile.
func params(t testing.TB, id string, key crypto.PublicKey) issuance.Params {
	p := issuance.Params{Profile: profile(t, id), Serial: issuance.NewSerial(), NotBefore: now, PublicKey: key}
	switch id {
	case issuance.ProfileHolder:
		p.Holder = pki.Holder{Kind: pki.Medical, Code: "0110119153"}
	case issuance.ProfileOCSP:
		p.CommonName = "OCSP Responder 1"
	case issuance.ProfileOperator:
		p.CommonName = "Operator 1"
	case issuance.ProfileAPIClient:
		p.CommonName = "API client 1"
	case issuance.ProfileTLSServer:
		p.DNSNames = []string{"localhost", "www.portal.example"}
		p.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	return p
}
