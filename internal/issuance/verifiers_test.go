package issuance_test

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"inkan/internal/testkit"
)

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
	only  x509.SignatureAlgorithm // of the anchors about which it is asked; 0: of all
	ask   func(t *testing.T, q question, dir string) (bool, string)
}

var verifiers = []verifier{
	{"go", nil, 0, askGo},
	{"openssl", []string{"openssl"}, 0, askOpenSSL},
	{"nss", []string{"certutil", "vfychain"}, 0, func(t *testing.T, q question, dir string) (bool, string) { return askNSS(t, q, dir, "-p") }},
	{"nss-pkix", []string{"certutil", "vfychain"}, 0, func(t *testing.T, q question, dir string) (bool, string) { return askNSS(t, q, dir, "-p", "-p") }},
	{"gnutls", []string{"certtool"}, 0, askGnuTLS},
	{"java", []string{"java"}, 0, askJava},
	{"windows", nil, x509.SHA256WithRSA, askWindows}, // Wine 8 now and then finds a good ECDSA signature bad
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
		words = append(words, drive+testkit.WriteFile(t, dir, fmt.Sprintf("%d.der", n), c.Raw))
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
	testkit.Asked(t, "WINEPREFIX", "it names a prefix of Wine in which Go programs start")
	return wine.ask(t, q, dir, "Z:")
}

func run(command *exec.Cmd) (bool, string) {
	out, err := command.CombinedOutput()
	return err == nil, string(out)
}

func writePEM(t *testing.T, dir, name string, certs ...*x509.Certificate) string {
	t.Helper()
	return testkit.WriteFile(t, dir, name, testkit.CertificateText(certs...))
}
