package issuance_test

import (
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/lint"
	"inkan/internal/pki"
)

func jst(year int, month time.Month, day, hour, minute, second int) time.Time {
	return time.Date(year, month, day, hour, minute, second, 0, pki.JST)
}

func TestPrepareRefuses(t *testing.T) {
	h := newHierarchy(t, pki.P384, config)
	p256, rsa2048, rsa3072 := newKey(t, pki.P256).Public(), newKey(t, pki.RSA2048).Public(), newKey(t, pki.RSA3072).Public()
	tests := []struct {
		name    string
		profile string
		change  func(*issuance.Params)
		code    string // "" accepted
	}{
		{"holder as it is", "holder", func(*issuance.Params) {}, ""},
		{"RSA-2048 in the last second that ends in 2030", "holder", func(p *issuance.Params) { p.PublicKey, p.NotBefore = rsa2048, jst(2027, 9, 30, 23, 59, 59) }, ""},
		{"RSA-2048 a second later", "holder", func(p *issuance.Params) { p.PublicKey, p.NotBefore = rsa2048, jst(2027, 10, 1, 0, 0, 0) }, "profile.algorithm_until"},
		{"RSA-3072 then", "holder", func(p *issuance.Params) { p.PublicKey, p.NotBefore = rsa3072, jst(2027, 10, 1, 0, 0, 0) }, ""},
		{"P-256 in the last second that ends in 2040", "holder", func(p *issuance.Params) { p.NotBefore = jst(2037, 9, 30, 23, 59, 59) }, ""},
		{"P-256 a second later", "holder", func(p *issuance.Params) { p.NotBefore = jst(2037, 10, 1, 0, 0, 0) }, "profile.algorithm_until"},
		{"P-384 outlives the issuer", "holder", func(p *issuance.Params) {
			p.PublicKey, p.NotBefore = newKey(t, pki.P384).Public(), jst(2037, 10, 1, 0, 0, 0)
		}, "profile.issuer_until"},
		{"before the issuer", "holder", func(p *issuance.Params) { p.NotBefore = now.AddDate(-6, 0, 0) }, "profile.issuer_from"},
		{"key of the CA", "holder", func(p *issuance.Params) { p.PublicKey = h.Keys["g1"].Public() }, "profile.key"},
		{"no key", "holder", func(p *issuance.Params) { p.PublicKey = nil }, "profile.key"},
		{"RSA where P-256 belongs", "tls-server", func(p *issuance.Params) { p.PublicKey = rsa3072 }, "profile.key"},
		{"no serial", "holder", func(p *issuance.Params) { p.Serial = nil }, "profile.serial"},
		{"short serial", "holder", func(p *issuance.Params) { p.Serial = big.NewInt(1 << 62) }, "profile.lint"},
		{"negative serial", "holder", func(p *issuance.Params) { p.Serial = new(big.Int).Neg(p.Serial) }, "profile.build"},
		{"long serial", "holder", func(p *issuance.Params) { p.Serial = new(big.Int).Lsh(p.Serial, 8) }, "profile.lint"},
		{"wrong check digit", "holder", func(p *issuance.Params) { p.Holder.Code = "0110119154" }, "holder.code_check"},
		{"holder with another name", "holder", func(p *issuance.Params) { p.CommonName = "Doctor No" }, "profile.common_name"},
		{"holder with a host name", "holder", func(p *issuance.Params) { p.DNSNames = []string{"localhost"} }, "profile.names"},
		{"responder that Java takes for a host", "ocsp", func(p *issuance.Params) { p.CommonName = "ocsp" }, "profile.common_name"},
		{"V12345", "ocsp", func(p *issuance.Params) { p.CommonName = "V12345" }, "profile.common_name"},
		{"operator in Japanese", "operator", func(p *issuance.Params) { p.CommonName = "受付担当 1" }, ""},
		{"operator without a space", "operator", func(p *issuance.Params) { p.CommonName = "受付担当" }, "profile.common_name"},
		{"operator without a name", "operator", func(p *issuance.Params) { p.CommonName = "" }, "profile.common_name"},
		{"long name", "operator", func(p *issuance.Params) { p.CommonName = "A " + strings.Repeat("x", 63) }, "profile.common_name"},
		{"operator under g1", "operator", func(p *issuance.Params) { p.Profile.Issuer = "g1" }, "profile.issuer"},
		{"operator's profile called holder", "holder", func(p *issuance.Params) { p.Profile.Issuer = "ops" }, "profile.issuer"},
		{"unknown profile", "holder", func(p *issuance.Params) { p.Profile.ID = "server" }, "profile.issuer"},
		{"holder's certificate for servers", "holder", func(p *issuance.Params) { p.Profile.Usage = x509.ExtKeyUsageServerAuth }, "profile.lint"},
		{"server of somebody else", "tls-server", func(p *issuance.Params) { p.DNSNames = []string{"www.example.jp"} }, "profile.names"},
		{"server below the suffix only by letters", "tls-server", func(p *issuance.Params) { p.DNSNames = []string{"evilportal.example"} }, "profile.names"},
		{"server at another address", "tls-server", func(p *issuance.Params) { p.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }, "profile.names"},
		{"wildcard", "tls-server", func(p *issuance.Params) { p.DNSNames = []string{"*.portal.example"} }, "profile.names"},
		{"server without a name", "tls-server", func(p *issuance.Params) { p.DNSNames, p.IPAddresses = nil, nil }, "profile.names"},
		{"server by address alone", "tls-server", func(p *issuance.Params) { p.DNSNames = nil }, ""},
		{"fractions of a second are cut", "holder", func(p *issuance.Params) { p.NotBefore = now.Add(999 * time.Millisecond) }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := params(t, test.profile, p256)
			issuer := h.Issuers[p.Profile.Issuer]
			test.change(&p)
			if test.profile == issuance.ProfileHolder && p.Profile.Issuer == issuance.Operations {
				issuer = h.Issuers[issuance.Operations]
			}
			_, err := issuer.Prepare(p)
			if test.code == "" && err != nil || test.code != "" && (err == nil || pki.CodeOf(err) != test.code) {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
}

// TestHolder looks at every part of a holder's certificate.
func TestHolder(t *testing.T) {
	cfg := config
	cfg.KindOU = map[pki.HolderKind]string{pki.Dental: "shika"}
	h := newHierarchy(t, pki.P256, cfg)
	key := newKey(t, pki.RSA2048).Public()
	tests := []struct {
		holder  pki.Holder
		begin   time.Time
		end     time.Time
		subject string // as Windows shows it, reversed
	}{
		{pki.Holder{Kind: pki.Medical, Code: "0110119153"}, jst(2024, 3, 10, 9, 0, 1), jst(2027, 6, 10, 9, 0, 1), "CN=0110119153,OU=medical,OU=hokkaido,O=ReceiptOnline,C=JP"},
		{pki.Holder{Kind: pki.Dental, Code: "133000000" + string(pki.CheckDigit("133000000"))}, jst(2026, 11, 30, 23, 59, 59), jst(2030, 2, 28, 23, 59, 59), "CN=133000000" + string(pki.CheckDigit("133000000")) + ",OU=shika,OU=tokyo,O=ReceiptOnline,C=JP"},
		{pki.Holder{Kind: pki.Insurer, Code: "0013000" + string(pki.CheckDigit("0013000"))}, jst(2024, 11, 30, 0, 0, 0), jst(2028, 2, 29, 0, 0, 0), "CN=0013000" + string(pki.CheckDigit("0013000")) + ",OU=insurer,OU=tokyo,O=ReceiptOnline,C=JP"},
		// Half past midnight in Japan is still the day before in UTC.
		{pki.Holder{Kind: pki.Medical, Code: "0110119153"}, jst(2026, 12, 1, 0, 30, 0), jst(2030, 3, 1, 0, 30, 0), "CN=0110119153,OU=medical,OU=hokkaido,O=ReceiptOnline,C=JP"},
	}
	for _, test := range tests {
		p := params(t, issuance.ProfileHolder, key)
		p.Holder, p.NotBefore = test.holder, test.begin
		c := h.issue(t, cfg, p)
		switch {
		case !c.NotBefore.Equal(test.begin) || !c.NotAfter.Equal(test.end):
			t.Errorf("%s: %s to %s, want %s", test.subject, c.NotBefore, c.NotAfter, test.end)
		case c.Subject.ToRDNSequence().String() == "" || rdns(c) != test.subject:
			t.Errorf("subject %s, want %s", rdns(c), test.subject)
		case c.OCSPServer[0] != "http://127.0.0.1:8080/ocsp" || c.IssuingCertificateURL[0] != "http://127.0.0.1:8080/ca/g1.cer" || c.CRLDistributionPoints[0] != "http://127.0.0.1:8080/crl/g1.crl":
			t.Errorf("pointers %v %v %v", c.OCSPServer, c.IssuingCertificateURL, c.CRLDistributionPoints)
		case len(c.Policies) != 1 || c.Policies[0].String() != config.PolicyOID:
			t.Errorf("policies %v", c.Policies)
		}
	}
}

// rdns writes the subject as it is in the DER, last one first.
func rdns(c *x509.Certificate) string {
	var out []string
	names := map[string]string{"2.5.4.6": "C", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.3": "CN"}
	for _, n := range c.Subject.Names {
		out = append([]string{names[n.Type.String()] + "=" + n.Value.(string)}, out...)
	}
	return strings.Join(out, ",")
}

func TestThreatCK7(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		serial := issuance.NewSerial()
		text := pki.SerialHex(serial)
		if serial.Sign() != 1 || len(text) != 40 || serial.BitLen() > 159 || seen[text] {
			t.Fatalf("serial %s", text)
		}
		seen[text] = true
	}
}

func TestNewCARefuses(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	dns, _ := issuancetest.Local()
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	good := issuance.CAParams{ID: issuance.TLS, CommonName: "Site Root", Key: newKey(t, pki.P256), NotBefore: now, PermittedDNS: dns}
	tests := []struct {
		name   string
		change func(*issuance.CAParams)
		want   string
	}{
		{"good", func(*issuance.CAParams) {}, ""},
		{"addresses alone", func(p *issuance.CAParams) { _, p.PermittedIPs = issuancetest.Local(); p.PermittedDNS = nil }, ""},
		{"beyond 2040", func(p *issuance.CAParams) { p.NotAfter = jst(2041, 1, 1, 0, 0, 0) }, "ends 2041-01-01"},
		{"every name", func(p *issuance.CAParams) { p.PermittedDNS = []string{""} }, "name_constraints"},
		{"every address", func(p *issuance.CAParams) { p.PermittedIPs = []*net.IPNet{all} }, "name_constraints"},
		{"names for a client root", func(p *issuance.CAParams) { p.ID = issuance.Root }, "names are for the TLS root"},
		{"issuing CA without parent", func(p *issuance.CAParams) { p.ID, p.PermittedDNS = issuance.G1, nil }, "parent"},
		{"root with parent", func(p *issuance.CAParams) {
			p.ID, p.PermittedDNS = issuance.Root, nil
			p.Parent, p.ParentKey = h.Certs["root"], h.Keys["root"]
		}, "parent"},
		{"unknown", func(p *issuance.CAParams) { p.ID, p.PermittedDNS = "g9", nil }, "no such CA"},
		{"no name", func(p *issuance.CAParams) { p.ID, p.PermittedDNS, p.CommonName = issuance.Operations, nil, "" }, "common name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := good
			test.change(&p)
			c, err := issuance.NewCA(p, config)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if err == nil && len(lint.Certificate(p.ID, c)) > 0 {
				t.Error(lint.Certificate(p.ID, c))
			}
		})
	}
	for id, c := range h.Certs {
		if !c.NotAfter.Equal(jst(2040, 12, 31, 23, 59, 59)) {
			t.Errorf("%s ends %s", id, c.NotAfter)
		}
	}
}

// TestNewIssuerRefuses: a certificate of one CA is not another CA.
func TestNewIssuerRefuses(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	bad := config
	bad.StatusURL = "https://127.0.0.1:8080"
	for _, test := range []struct {
		id, cert string
		cfg      issuance.Config
	}{{"g1", "root", config}, {"ops", "tls", config}, {"root", "ops", config}, {"g2", "g1", config}, {"holder", "g1", config}, {"g1", "g1", bad}} {
		_, err := issuance.NewIssuer(test.id, h.Certs[test.cert], test.cfg)
		if err == nil {
			t.Errorf("%s accepted as %s", test.cert, test.id)
		}
	}
}
