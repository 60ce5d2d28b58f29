package issuance_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// The hierarchy freezes on this file: certificates of CAs cannot be recalled from a
// quarter of a million machines, so every verifier that we could get says what it
// thinks of them.

// purpose is what a verifier is asked to check a chain for.
type purpose int

const (
	anyPurpose purpose = iota
	asClient
	asServer
	asResponder
)

// question is one chain, leaf first, without the anchor.
type question struct {
	name    string
	purpose purpose
	anchor  *x509.Certificate
	chain   []*x509.Certificate
	refused map[string]bool // by verifier
}

// verifier asks one program; the text says why it refused.
type verifier struct {
	name  string
	needs []string
	ask   func(t *testing.T, q question, dir string) (bool, string)
}

var verifiers = []verifier{
	{"go", nil, askGo},
	{"openssl", []string{"openssl"}, askOpenSSL},
	{"nss", []string{"certutil", "vfychain"}, func(t *testing.T, q question, dir string) (bool, string) { return askNSS(t, q, dir, "-p") }},
	{"nss-pkix", []string{"certutil", "vfychain"}, func(t *testing.T, q question, dir string) (bool, string) { return askNSS(t, q, dir, "-p", "-p") }},
	{"gnutls", []string{"certtool"}, askGnuTLS},
	{"java", []string{"java"}, askJava},
	{"windows", nil, askWindows},
}

// need skips the test when a program is missing, and fails it where all must be there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		_, err := exec.LookPath(program)
		if err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed (scripts/setup-tests.sh installs it)", program)
		}
		t.Skipf("%s is not installed (scripts/setup-tests.sh installs it)", program)
	}
}

func askGo(_ *testing.T, q question, _ string) (bool, string) {
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(q.anchor)
	for _, c := range q.chain[1:] {
		inter.AddCert(c)
	}
	usage := map[purpose]x509.ExtKeyUsage{anyPurpose: x509.ExtKeyUsageAny, asClient: x509.ExtKeyUsageClientAuth,
		asServer: x509.ExtKeyUsageServerAuth, asResponder: x509.ExtKeyUsageAny}[q.purpose]
	_, err := q.chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return false, err.Error()
	}
	return true, ""
}

func askOpenSSL(t *testing.T, q question, dir string) (bool, string) {
	args := []string{"verify", "-x509_strict", "-CAfile", writePEM(t, dir, "anchor.pem", q.anchor)}
	if len(q.chain) > 1 {
		args = append(args, "-untrusted", writePEM(t, dir, "inter.pem", q.chain[1:]...))
	}
	switch q.purpose {
	case asClient:
		args = append(args, "-purpose", "sslclient")
	case asServer:
		args = append(args, "-purpose", "sslserver")
	case asResponder:
		args = append(args, "-purpose", "ocsphelper")
	}
	return run(exec.Command("openssl", append(args, writePEM(t, dir, "leaf.pem", q.chain[0]))...))
}

func askNSS(t *testing.T, q question, dir string, engine ...string) (bool, string) {
	db := "sql:" + nssDatabase(t, q.anchor)
	usage := map[purpose]string{anyPurpose: "0", asClient: "0", asServer: "1", asResponder: "10"}[q.purpose]
	args := append([]string{"-d", db, "-vv", "-u", usage}, engine...)
	for n, c := range q.chain {
		args = append(args, "-a", writePEM(t, dir, fmt.Sprintf("chain%d.pem", n), c))
	}
	return run(exec.Command("vfychain", args...))
}

// nssDatabases has one database an anchor: making one is slow.
var nssDatabases = map[string]string{}

func nssDatabase(t *testing.T, anchor *x509.Certificate) string {
	t.Helper()
	dir, ok := nssDatabases[string(anchor.Raw)]
	if ok {
		return dir
	}
	dir, err := os.MkdirTemp("", "nss")
	if err != nil {
		t.Fatal(err)
	}
	nssDatabases[string(anchor.Raw)] = dir
	for _, args := range [][]string{
		{"-N", "-d", "sql:" + dir, "--empty-password"},
		{"-A", "-d", "sql:" + dir, "-n", "anchor", "-t", "CT,C,C", "-a", "-i", writePEM(t, dir, "anchor.pem", anchor)},
	} {
		ok, text := run(exec.Command("certutil", args...))
		if !ok {
			t.Fatalf("certutil %v: %s", args, text)
		}
	}
	return dir
}

func askGnuTLS(t *testing.T, q question, dir string) (bool, string) {
	args := []string{"--verify", "--load-ca-certificate", writePEM(t, dir, "anchor.pem", q.anchor), "--infile", writePEM(t, dir, "chain.pem", q.chain...)}
	switch q.purpose {
	case asClient:
		args = append(args, "--verify-purpose", "1.3.6.1.5.5.7.3.2")
	case asServer:
		args = append(args, "--verify-purpose", "1.3.6.1.5.5.7.3.1")
	}
	return run(exec.Command("certtool", args...))
}

// lineServer is a program that answers a line with a line: it is slow to start, so
// one answers all questions.
type lineServer struct {
	in  io.WriteCloser
	out *bufio.Reader
}

var java, wine *lineServer

func start(t *testing.T, name string, args ...string) *lineServer {
	t.Helper()
	command := exec.Command(name, args...)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = command.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = command.Wait()
	})
	return &lineServer{in, bufio.NewReader(out)}
}

func startWine(t *testing.T) *lineServer {
	t.Helper()
	program := filepath.Join(t.TempDir(), "winchain.exe")
	build := exec.Command("go", "build", "-o", program, "./testdata/winchain")
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	ok, text := run(build)
	if !ok {
		t.Fatal(text)
	}
	return start(t, "wine", program)
}

func (s *lineServer) ask(t *testing.T, q question, dir, drive string) (bool, string) {
	words := []string{map[purpose]string{anyPurpose: "any", asClient: "client", asServer: "server", asResponder: "any"}[q.purpose]}
	for n, c := range append([]*x509.Certificate{q.anchor}, q.chain...) {
		words = append(words, drive+writeFile(t, dir, fmt.Sprintf("%d.der", n), c.Raw))
	}
	_, err := fmt.Fprintln(s.in, strings.Join(words, " "))
	if err != nil {
		t.Fatal(err)
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(line, "OK"), line
}

func askJava(t *testing.T, q question, dir string) (bool, string) {
	return java.ask(t, q, dir, "")
}

// askWindows runs testdata/winchain under Wine. WINEPREFIX must name a prefix in
// which Go programs start (before Wine 8.13 that takes a bcryptprimitives.dll).
func askWindows(t *testing.T, q question, dir string) (bool, string) {
	if wine == nil {
		t.Skip("wine is not installed, or WINEPREFIX names no prefix in which Go programs start")
	}
	return wine.ask(t, q, dir, "Z:")
}

func run(command *exec.Cmd) (bool, string) {
	out, err := command.CombinedOutput()
	return err == nil, string(out)
}

func writePEM(t *testing.T, dir, name string, certs ...*x509.Certificate) string {
	t.Helper()
	var b bytes.Buffer
	for _, c := range certs {
		err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, name)
	err := os.WriteFile(file, b.Bytes(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

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
	template.SubjectKeyId = []byte{1, 2, 3, 4, 5, 6, 7, 8}
	der, err := x509.CreateCertificate(rand.Reader, &template, h.certs[issuer], public, h.keys[issuer])
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
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

func forgeries() []forgery {
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	host := x509.Certificate{DNSNames: []string{"www.example.jp"}, ExtKeyUsage: both}
	v4 := x509.Certificate{IPAddresses: []net.IP{{192, 0, 2, 1}}, ExtKeyUsage: both}
	v6 := x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}, ExtKeyUsage: both}
	// Java takes a trust anchor as a name and a key, and looks at nothing else in its
	// certificate. Holders' chains have g1 in between, which it does obey; a CA that is
	// its own root is not bound before Java, nor is a stolen client root.
	anchor := map[string]bool{"java": true}
	return []forgery{
		{"g1 for a host", issuance.G1, asClient, host, nil},
		{"g1 for an IPv4 address", issuance.G1, asClient, v4, nil},
		{"g1 for an IPv6 address", issuance.G1, asClient, v6, nil},
		{"ops for a host", issuance.Operations, asClient, host, anchor},
		{"ops for an address", issuance.Operations, asClient, v4, anchor},
		{"tls for another host", issuance.TLS, asServer, host, anchor},
		{"tls for another address", issuance.TLS, asServer, v4, anchor},
		{"tls for another IPv6 address", issuance.TLS, asServer, v6, anchor},
	}
}

func questions(t *testing.T, h hierarchy) []question {
	rsaKey, ecKey := newKey(t, pki.RSA2048).Public(), newKey(t, pki.P256).Public()
	good := func(id string, key any) []*x509.Certificate {
		p := params(t, id, key)
		p.NotBefore = time.Now()
		return h.chain(p.Profile.Issuer, h.issue(t, config, p))
	}
	root, ops, tls := h.certs[issuance.Root], h.certs[issuance.Operations], h.certs[issuance.TLS]
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
	everyone := map[string]bool{"go": true, "openssl": true, "nss": true, "nss-pkix": true, "gnutls": true, "java": true}
	butJava := map[string]bool{"go": true, "openssl": true, "nss": true, "nss-pkix": true, "gnutls": true} // see forgeries
	sub := x509.Certificate{IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "Thief CA"}}
	host := x509.Certificate{DNSNames: []string{"www.example.jp"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	plain := x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	below := func(issuer string, leaf x509.Certificate) []*x509.Certificate {
		ca := h.forge(t, issuer, sub, thief.Public())
		stolen := hierarchy{certs: map[string]*x509.Certificate{"thief": ca}, keys: map[string]crypto.Signer{"thief": thief}}
		return append([]*x509.Certificate{stolen.forge(t, "thief", leaf, public)}, h.chain(issuer, ca)...)
	}
	named := plain
	named.Subject = pkix.Name{Country: []string{"JP"}, Organization: []string{"ReceiptOnline"}, CommonName: "V12345"}
	root := h.certs[issuance.Root]
	return []question{
		{"root makes a CA for hosts", asServer, root, below(issuance.Root, host), butJava},
		{"g1 makes a CA", asClient, root, below(issuance.G1, plain), everyone},
		{"ops makes a CA", asClient, h.certs[issuance.Operations], below(issuance.Operations, plain), butJava},
		{"tls makes a CA", asServer, h.certs[issuance.TLS], below(issuance.TLS, host), butJava},
		{"V12345", asClient, root, h.chain(issuance.G1, h.forge(t, issuance.G1, named, public)), map[string]bool{"java": true}},
	}
}

func (h hierarchy) anchor(issuer string) *x509.Certificate {
	if issuer == issuance.G1 {
		issuer = issuance.Root
	}
	return h.certs[issuer]
}

func (h hierarchy) chain(issuer string, leaf *x509.Certificate) []*x509.Certificate {
	if issuer == issuance.G1 {
		return []*x509.Certificate{leaf, h.certs[issuer]}
	}
	return []*x509.Certificate{leaf}
}

// unconstrained is the same hierarchy with the same keys but no name constraints.
func (h hierarchy) unconstrained(t *testing.T) hierarchy {
	t.Helper()
	free := hierarchy{map[string]*x509.Certificate{}, h.keys, nil}
	for _, id := range []string{issuance.Root, issuance.G1, issuance.Operations, issuance.TLS} {
		template := *h.certs[id]
		template.PermittedDNSDomains, template.PermittedIPRanges, template.ExcludedIPRanges = nil, nil, nil
		parent, key := &template, h.keys[id]
		if id == issuance.G1 {
			parent, key = free.certs[issuance.Root], h.keys[issuance.Root]
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, parent, h.keys[id].Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		free.certs[id], err = x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
	}
	return free
}

func TestThreatCK3(t *testing.T) {
	for _, keyType := range []pki.KeyType{pki.RSA3072, pki.P384} {
		t.Run(string(keyType), func(t *testing.T) { realTools(t, keyType) })
	}
}

func realTools(t *testing.T, keyType pki.KeyType) {
	h := newHierarchy(t, keyType, config)
	_, err := exec.LookPath("java")
	if err == nil {
		java = start(t, "java", "testdata/CheckChain.java")
	}
	_, err = exec.LookPath("wine")
	if err == nil && os.Getenv("WINEPREFIX") != "" {
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
			t.Run(q.name+"/"+v.name, func(t *testing.T) {
				need(t, v.needs...)
				ok, text := v.ask(t, q, t.TempDir())
				if ok == q.refused[v.name] {
					t.Errorf("accepted %t, want %t: %s", ok, !ok, text)
				}
			})
		}
	}
}

func writeFile(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	err := os.WriteFile(file, content, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
