package issuance_test

import (
	"crypto"
	"crypto/x509"
	"net"
	"testing"

	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// now is a time in the life of everything that the tests make.
var now = issuancetest.Start

var config = issuancetest.Config

// hierarchy is all CAs with their keys.
type hierarchy struct{ issuancetest.Hierarchy }

func newKey(t testing.TB, keyType pki.KeyType) crypto.Signer {
	t.Helper()
	key, err := issuance.GenerateKey(keyType)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newHierarchy(t testing.TB, keyType pki.KeyType, cfg issuance.Config) hierarchy {
	t.Helper()
	h, err := issuancetest.Make(cfg, now.AddDate(-5, 0, 0), issuancetest.Keys(keyType))
	testkit.Must(t, err)
	return hierarchy{h}
}

// issue runs the whole line: Prepare, Relint, Sign, Assemble.
func (h hierarchy) issue(t testing.TB, cfg issuance.Config, p issuance.Params) *x509.Certificate {
	t.Helper()
	i := h.Issuers[p.Profile.Issuer]
	prepared, err := i.Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	linted, err := i.Relint(p.Profile, prepared.TBS(), p.NotBefore)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := linted.Sign(h.Keys[p.Profile.Issuer])
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
