package issuance_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// The hierarchy freezes on this file: certificates of CAs cannot be recalled from a
// quarter of a million machines, so every verifier that we could get says what it
// thinks of them.

// forge has a stolen CA key sign whatever a thief likes.
func (h hierarchy) forge(t *testing.T, issuer string, template x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	template.SerialNumber = issuance.NewSerial()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	template.BasicConstraintsValid = true
	if template.Subject.CommonName == "" {
		template.Subject = pkix.Name{Country: []string{"JP"}, Organization: []string{"ReceiptOnline"}, CommonName: "1619931494"}
	}
	template.SubjectKeyId = issuance.NewSerial().Bytes() // anything but another one's: Windows finds issuers by it
	return testkit.Sign(t, &template, h.Certs[issuer], public, h.Keys[issuer])
}

// forgery is one thing that a thief of a CA key would like to have, asked twice: under
// our CA it must be refused, and under a CA that differs only in having no name
// constraints every verifier must accept it. So it is the constraint that refuses.
type forgery struct {
	name    string
	issuer  string
	purpose purpose
	leaf    x509.Certificate
	blind   map[string]bool // verifiers that accept it all the same, see the comments
}

// namesOnly is the TLS root of a real installation: no addresses.
const namesOnly = "tls, names only"

func (h hierarchy) addNamesOnly(t *testing.T, keyType pki.KeyType) {
	t.Helper()
	key := newKey(t, keyType)
	dns, _ := issuancetest.Local()
	cert, err := issuance.NewCA(issuance.CAParams{ID: issuance.TLS, CommonName: "Site Root 2", Key: key, NotBefore: now.AddDate(-1, 0, 0), PermittedDNS: dns}, config)
	if err != nil {
		t.Fatal(err)
	}
	h.Certs[namesOnly], h.Keys[namesOnly] = cert, key
}

func forgeries() []forgery {
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	host := x509.Certificate{DNSNames: []string{"www.example.jp"}, ExtKeyUsage: both}
	v4 := x509.Certificate{IPAddresses: []net.IP{{192, 0, 2, 1}}, ExtKeyUsage: both}
	v6 := x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}, ExtKeyUsage: both}
	// Java takes a trust anchor as a name and a key, and looks at nothing else in its
	// certificate. Holders' chains have g1 in between, which it does obey; a CA that is
	// its own root is not bound before Java, nor is a stolen client root.
	anchor := map[string]bool{"java": true}
	// Wine 8 looks at the DNS names of a root only where its last permitted subtree is a
	// DNS name. A demo's root, with addresses, is no root for Wine; a real one is.
	mixed := map[string]bool{"java": true, "windows": true}
	return []forgery{
		{"g1 for a host", issuance.G1, asClient, host, nil},
		{"g1 for an IPv4 address", issuance.G1, asClient, v4, nil},
		{"g1 for an IPv6 address", issuance.G1, asClient, v6, nil},
		{"ops for a host", issuance.Operations, asClient, host, anchor},
		{"ops for an address", issuance.Operations, asClient, v4, anchor},
		{"tls for another host", issuance.TLS, asServer, host, mixed},
		{"tls for another address", issuance.TLS, asServer, v4, anchor},
		{"tls for another IPv6 address", issuance.TLS, asServer, v6, anchor},
		{"tls with names alone for another host", namesOnly, asServer, host, anchor},
		{"tls with names alone for an address", namesOnly, asServer, v4, anchor},
	}
}

func questions(t *testing.T, h hierarchy) []question {
	rsaKey, ecKey := newKey(t, pki.RSA2048).Public(), newKey(t, pki.P256).Public()
	good := func(id string, key any) []*x509.Certificate {
		p := params(t, id, key)
		p.NotBefore = time.Now()
		return h.chain(p.Profile.Issuer, h.issue(t, config, p))
	}
	root, ops, tls := h.Certs[issuance.Root], h.Certs[issuance.Operations], h.Certs[issuance.TLS]
	out := []question{
		{"holder RSA", asClient, root, good(issuance.ProfileHolder, rsaKey), nil},
		{"holder ECDSA", asClient, root, good(issuance.ProfileHolder, ecKey), nil},
		{"holder, no purpose asked", anyPurpose, root, good(issuance.ProfileHolder, ecKey), nil},
		{"OCSP Responder 1", asResponder, root, good(issuance.ProfileOCSP, ecKey), nil},
		{"operator", asClient, ops, good(issuance.ProfileOperator, ecKey), nil},
		{"API client", asClient, ops, good(issuance.ProfileAPIClient, ecKey), nil},
		{"own server", asServer, tls, good(issuance.ProfileTLSServer, ecKey), nil},
	}
	out = append(out, h.subordinates(t, ecKey)...)
	free := h.unconstrained(t)
	for _, f := range forgeries() {
		refused := map[string]bool{}
		for _, v := range verifiers {
			refused[v.name] = !f.blind[v.name]
		}
		out = append(out,
			question{f.name, f.purpose, h.anchor(f.issuer), h.chain(f.issuer, h.forge(t, f.issuer, f.leaf, ecKey)), refused},
			question{f.name + ", without constraints", f.purpose, free.anchor(f.issuer), free.chain(f.issuer, free.forge(t, f.issuer, f.leaf, ecKey)), nil})
	}
	return out
}

// subordinates are CAs that a thief makes, and the names that lint keeps away.
func (h hierarchy) subordinates(t *testing.T, public any) []question {
	thief := newKey(t, pki.P256)
	everyone := map[string]bool{"go": true, "openssl": true, "nss": true, "nss-pkix": true, "gnutls": true, "java": true, "windows": true}
	butJava := map[string]bool{"go": true, "openssl": true, "nss": true, "nss-pkix": true, "gnutls": true, "windows": true} // see forgeries
	sub := x509.Certificate{IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "Thief CA"}}
	host := x509.Certificate{DNSNames: []string{"www.example.jp"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	plain := x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	below := func(issuer string, leaf x509.Certificate) []*x509.Certificate {
		ca := h.forge(t, issuer, sub, thief.Public())
		stolen := hierarchy{issuancetest.Hierarchy{Certs: map[string]*x509.Certificate{"thief": ca}, Keys: map[string]crypto.Signer{"thief": thief}}}
		return append([]*x509.Certificate{stolen.forge(t, "thief", leaf, public)}, h.chain(issuer, ca)...)
	}
	named := plain
	named.Subject = pkix.Name{Country: []string{"JP"}, Organization: []string{"ReceiptOnline"}, CommonName: "V12345"}
	root := h.Certs[issuance.Root]
	return []question{
		{"root makes a CA for hosts", asServer, root, below(issuance.Root, host), butJava},
		{"g1 makes a CA", asClient, root, below(issuance.G1, plain), everyone},
		{"ops makes a CA", asClient, h.Certs[issuance.Operations], below(issuance.Operations, plain), butJava},
		{"tls makes a CA", asServer, h.Certs[issuance.TLS], below(issuance.TLS, host), butJava},
		{"V12345", asClient, root, h.chain(issuance.G1, h.forge(t, issuance.G1, named, public)), map[string]bool{"java": true}},
	}
}

func (h hierarchy) anchor(issuer string) *x509.Certificate {
	if issuer == issuance.G1 {
		issuer = issuance.Root
	}
	return h.Certs[issuer]
}

func (h hierarchy) chain(issuer string, leaf *x509.Certificate) []*x509.Certificate {
	if issuer == issuance.G1 {
		return []*x509.Certificate{leaf, h.Certs[issuer]}
	}
	return []*x509.Certificate{leaf}
}

// unconstrained is the same hierarchy with the same keys but no name constraints.
func (h hierarchy) unconstrained(t *testing.T) hierarchy {
	t.Helper()
	free := hierarchy{issuancetest.Hierarchy{Certs: map[string]*x509.Certificate{}, Keys: h.Keys}}
	for _, id := range []string{issuance.Root, issuance.G1, issuance.Operations, issuance.TLS, namesOnly} {
		template := *h.Certs[id]
		template.PermittedDNSDomains, template.PermittedIPRanges, template.ExcludedIPRanges = nil, nil, nil
		parent, key := &template, h.Keys[id]
		if id == issuance.G1 {
			parent, key = free.Certs[issuance.Root], h.Keys[issuance.Root]
		}
		free.Certs[id] = testkit.Sign(t, &template, parent, h.Keys[id].Public(), key)
	}
	return free
}

func TestThreatCK3ST9(t *testing.T) {
	keyTypes := []pki.KeyType{pki.RSA3072, pki.P384}
	if testing.Short() {
		keyTypes = keyTypes[:1]
	}
	for _, keyType := range keyTypes {
		t.Run(string(keyType), func(t *testing.T) { realTools(t, keyType) })
	}
}

func realTools(t *testing.T, keyType pki.KeyType) {
	h := newHierarchy(t, keyType, config)
	h.addNamesOnly(t, keyType)
	if testkit.Find("java") != "" { // else each question to it is missing
		java = start(t, "java", "testdata/CheckChain.java")
	}
	if os.Getenv("WINEPREFIX") != "" {
		testkit.Tool(t, "wine")
		wine = startWine(t)
	}
	t.Cleanup(func() {
		for anchor, dir := range nssDatabases {
			_ = os.RemoveAll(dir)
			delete(nssDatabases, anchor)
		}
	})
	for _, q := range questions(t, h) {
		for _, v := range verifiers {
			if v.only != 0 && v.only != q.anchor.SignatureAlgorithm {
				continue
			}
			t.Run(q.name+"/"+v.name, func(t *testing.T) {
				testkit.Tool(t, v.needs...)
				ok, text := v.ask(t, q, t.TempDir())
				if ok == q.refused[v.name] {
					t.Errorf("accepted %t, want %t: %s", ok, !ok, text)
				}
			})
		}
	}
}
