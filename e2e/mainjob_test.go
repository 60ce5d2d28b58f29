package e2e

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"inkan/internal/testkit"
)

// demoFile wants demo.json to be what the contract says, and only its owner's.
func demoFile(t *testing.T, w *world) {
	for name, url := range map[string]string{"portal": w.Portal, "portalAuth": w.PortalAuth, "console": w.Console, "api": w.API, "status": w.Status, "mail": w.Mail} {
		if !regexp.MustCompile(`^https?://127\.0\.0\.1:\d+$`).MatchString(url) {
			t.Errorf("%s is %q, want an address on this machine without a path", name, url)
		}
	}
	for _, purpose := range []string{"download", "renew", "revoke", "expired", "revoked", "fresh"} {
		s := w.Sample(t, purpose)
		if !regexp.MustCompile(`^\d{15}$`).MatchString(s.RequestID) {
			t.Errorf("sample %s has the request ID %q", purpose, s.RequestID)
		}
	}
	for _, o := range w.Operators {
		if o.Name == "" || o.Role == "" || o.Password == "" {
			t.Errorf("an operator of demo.json is incomplete: %q %q", o.Name, o.Role)
		}
		w.secret("password of "+o.Name, o.Password)
	}
	for _, name := range []string{"", "demo.json"} {
		info, err := os.Stat(filepath.Join(w.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q is open to others: %v", name, info.Mode())
		}
	}
}

// fourEyes: no single person brings a certificate into being, by the command line
// either.
func fourEyes(t *testing.T, w *world) {
	intake, approver := w.Operator(t, "intake"), w.Operator(t, "approver")
	r := w.Submit(t, "四眼1号機")
	w.Refused(t, "request", "approve", r.RequestID, "--content", r.ContentHash, "--as", intake)
	w.Refused(t, "request", "approve", r.RequestID, "--content", r.ContentHash, "--as", "nobody-known")
	_, _, code := w.Inkan(t, "request", "approve", r.RequestID, "--content", r.ContentHash)
	if code == 0 {
		t.Error("nobody in particular approves")
	}
	w.Refused(t, append([]string{"request", "approve", r.RequestID, "--content", r.ContentHash, "--as", approver}, w.proof(t, intake)...)...)
	w.Must(t, nil, append([]string{"request", "approve", r.RequestID, "--content", r.ContentHash, "--as", approver}, w.proof(t, approver)...)...)
	w.Must(t, &r, "request", "show", r.RequestID, "--as", approver)
	if r.ReferenceID != "" {
		t.Error("who approves can read the letter's reference ID")
	}

	dropped := w.Submit(t, "取消1号機")
	w.Must(t, nil, "request", "cancel", dropped.RequestID, "--as", intake)
	w.Refused(t, "request", "approve", dropped.RequestID, "--content", dropped.ContentHash, "--as", approver)
	w.Must(t, &dropped, "request", "show", dropped.RequestID, "--as", approver)
	if dropped.State != "cancelled" || dropped.Serial != "" {
		t.Errorf("a cancelled request is %q with serial %q", dropped.State, dropped.Serial)
	}

	refused := w.Submit(t, "却下1号機")
	w.Must(t, nil, "request", "reject", refused.RequestID, "--yes", "--as", approver)
	w.Must(t, &refused, "request", "show", refused.RequestID, "--as", approver)
	if refused.State != "rejected" {
		t.Errorf("a rejected request is %q", refused.State)
	}
}

// proof gives the flags with which an operator proves who it is (threat CO1).
func (w *world) proof(t *testing.T, name string) []string {
	t.Helper()
	for _, o := range w.Operators {
		if o.Name == name {
			return []string{"--key", o.P12, "--key-password-file", testkit.WriteFile(t, t.TempDir(), "password", []byte(o.Password+"\n"))}
		}
	}
	t.Fatalf("no operator %q", name)
	return nil
}

// held is one person's certificate after the download: the file and what other
// people's tools made of it.
type held struct {
	Request
	File string // PKCS#12
	Cert string // PEM: the person's certificate alone
	All  string // PEM: certificate, key and chain in one
}

// download fetches a certificate in a browser, as the letter says.
func (w *world) download(t *testing.T, r Request) held {
	t.Helper()
	h := held{Request: r, File: filepath.Join(t.TempDir(), "download.p12")}
	var page struct{ FileName, Heading, Text string }
	NewBrowser(t, w.TLSRoot).Run(t, "download.mjs", map[string]any{
		"portal": w.Portal, "requestId": r.RequestID, "referenceId": r.ReferenceID, "pin": w.pin, "file": h.File,
	}, &page)
	if want := r.RequestID + ".p12"; page.FileName != want {
		t.Errorf("the file is named %q, want %q", page.FileName, want)
	}
	h.unpack(t, w.pin)
	return h
}

// unpack opens the file with OpenSSL.
func (h *held) unpack(t *testing.T, pin string) {
	t.Helper()
	dir := t.TempDir()
	h.All = filepath.Join(dir, "all.pem")
	h.Cert = filepath.Join(dir, "cert.pem")
	testkit.Run(t, "openssl", "pkcs12", "-in", h.File, "-passin", "pass:"+pin, "-noenc", "-out", h.All)
	testkit.Run(t, "openssl", "pkcs12", "-in", h.File, "-passin", "pass:"+pin, "-nokeys", "-clcerts", "-out", h.Cert)
	cert := testkit.CertificateFile(t, h.Cert)
	if h.Serial == "" {
		h.Serial = fmt.Sprintf("%x", cert.SerialNumber.Bytes())
	}
}

// number gives the serial as another tool may print it, to be found in its output.
func (h held) number(t *testing.T) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(h.Serial, 16)
	if !ok {
		t.Fatalf("serial %q", h.Serial)
	}
	return n
}

// mainJob is the reason for all of this: the file from the browser opens in the
// real tools, and the certificate logs in.
func mainJob(t *testing.T, w *world) {
	sample := w.Sample(t, "download")
	h := w.download(t, Request{RequestID: sample.RequestID, ReferenceID: sample.ReferenceID})
	dir := t.TempDir()
	chain := bundle(t, dir, "chain.pem", w.ClientRoot, w.Issuer)

	t.Run("OpenSSL", func(t *testing.T) {
		says(t, testkit.Run(t, "openssl", "verify", "-CAfile", w.ClientRoot, "-untrusted", w.Issuer, "-purpose", "sslclient", "-x509_strict", h.Cert), ": OK")
		_, err := testkit.Try(t, "openssl", "verify", "-CAfile", w.ClientRoot, "-untrusted", w.Issuer, "-purpose", "sslserver", h.Cert)
		if err == nil {
			t.Error("a holder's certificate passes as a server's")
		}
		says(t, testkit.Run(t, "openssl", "x509", "-in", h.Cert, "-noout", "-subject"), "0110119153")
		info := testkit.Run(t, "openssl", "pkcs12", "-in", h.File, "-passin", "pass:"+w.pin, "-info", "-noenc")
		says(t, info, "AES-256-CBC")
		if n := strings.Count(info, "-----BEGIN CERTIFICATE-----"); n < 2 {
			t.Errorf("the file holds %d certificates, want the chain", n)
		}
		_, err = testkit.Try(t, "openssl", "pkcs12", "-in", h.File, "-passin", "pass:0000", "-noenc")
		if err == nil {
			t.Error("the file opens with another PIN")
		}
	})

	t.Run("OpenSSL s_client", func(t *testing.T) {
		r := newRelying(t, w.Demo, tls.VersionTLS13)
		page := strings.TrimPrefix(r.URL, "https://")
		out := testkit.Run(t, "sh", "-c", `printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -ign_eof -connect "$0" -CAfile "$1" -verify_return_error -cert "$2" -key "$2" -cert_chain "$2"`, page, r.Root, h.All)
		says(t, out, "welcome "+fmt.Sprintf("%x", h.number(t)))
	})

	t.Run("OpenSSL and our CRL", func(t *testing.T) {
		crl := filepath.Join(dir, "issuer.crl")
		testkit.Run(t, "curl", "-sS", "--fail", "-o", crl, w.crlURL(t))
		says(t, testkit.Run(t, "openssl", "crl", "-in", crl, "-inform", "DER", "-noout", "-CAfile", chain, "-verify"), "verify OK")
		testkit.Run(t, "openssl", "crl", "-in", crl, "-inform", "DER", "-out", crl+".pem")
		says(t, testkit.Run(t, "openssl", "verify", "-crl_check", "-CAfile", chain, "-CRLfile", crl+".pem", h.Cert), ": OK")
		says(t, testkit.Run(t, "certtool", "--crl-info", "--infile", crl+".pem"), "CRL Number")
		says(t, testkit.Run(t, "certtool", "--verify-crl", "--infile", crl+".pem", "--load-ca-certificate", w.Issuer), "Verified")
	})

	t.Run("OCSP says good", func(t *testing.T) {
		says(t, w.opensslOCSP(t, h, chain), ": good")
		says(t, w.gnutlsOCSP(t, h, chain), "Certificate Status: good")
		says(t, w.nssOCSP(t, h), " succeeded.")
	})

	t.Run("NSS", func(t *testing.T) {
		b := NewBrowser(t)
		b.Own(t, h.File, w.pin)
		says(t, testkit.Run(t, "pk12util", "-l", h.File, "-W", w.pin), "Certificate(has private key)")
		// The chain came with the file; only the root's standing is the person's to give.
		nick := b.Nickname(t)
		b.Trust(t, w.ClientRoot, "T,,")
		says(t, testkit.Run(t, "certutil", "-V", "-d", b.Database(), "-n", nick, "-u", "C"), "valid")
	})

	t.Run("GnuTLS", func(t *testing.T) {
		info := testkit.Run(t, "certtool", "--p12-info", "--inraw", "--infile", h.File, "--password", w.pin)
		key := regexp.MustCompile(`(?s)-----BEGIN ENCRYPTED PRIVATE KEY-----.*?-----END ENCRYPTED PRIVATE KEY-----\n`).FindString(info)
		file := testkit.WriteFile(t, dir, "key.p8", []byte(key))
		says(t, testkit.Run(t, "certtool", "--key-info", "--pkcs8", "--infile", file, "--password", w.pin), "Key Security Level")
		both := bundle(t, dir, "both.pem", h.Cert, w.Issuer)
		says(t, testkit.Run(t, "certtool", "--verify", "--load-ca-certificate", w.ClientRoot, "--infile", both), "Chain verification output: Verified")
	})

	t.Run("Java", func(t *testing.T) {
		out := testkit.Run(t, "keytool", "-J-Duser.language=en", "-list", "-v", "-keystore", h.File, "-storetype", "PKCS12", "-storepass", w.pin)
		says(t, out, "PrivateKeyEntry")
		says(t, out, "Certificate chain length: ")
		says(t, out, fmt.Sprintf("Serial number: %x", h.number(t)))
	})

	t.Run("log in", func(t *testing.T) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			r := newRelying(t, w.Demo, version)
			want := fmt.Sprintf("welcome %x over %s", h.number(t), tls.VersionName(version))

			b := NewBrowser(t, r.Root)
			b.Own(t, decoy(t, "0000"), "0000")
			b.Own(t, h.File, w.pin)
			b.Choose(t, r.URL)
			var page struct {
				Status int
				Text   string
			}
			b.Run(t, "login.mjs", map[string]any{"url": r.URL}, &page)
			if page.Text != want {
				t.Errorf("Chromium got %d %q, want %q", page.Status, page.Text, want)
			}

			says(t, testkit.Run(t, "curl", "-sS", "--cacert", r.Root, "--cert-type", "P12", "--cert", h.File+":"+w.pin, r.URL), want)
			out, err := testkit.Try(t, "curl", "-sS", "--cacert", r.Root, r.URL)
			if err == nil {
				t.Errorf("the page lets curl in without a certificate: %s", out)
			}
		}
	})
}

// oldWindows: what says it is Windows 8.1 gets a file that Windows 8.1 opens.
func oldWindows(t *testing.T, w *world) {
	r := w.issue(t, "旧端末1号機")
	v := newVisitor(t, w.Demo, "Mozilla/5.0 (Windows NT 6.3; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0.0.0 Safari/537.36")
	h := held{Request: r, File: testkit.WriteFile(t, t.TempDir(), "old.p12", v.download(t, r, w.pin))}
	info := testkit.Run(t, "openssl", "pkcs12", "-in", h.File, "-passin", "pass:"+w.pin, "-info", "-noenc")
	says(t, info, "pbeWithSHA1And3-KeyTripleDES-CBC")
	h.unpack(t, w.pin)
	if h.Serial != r.Serial {
		t.Errorf("the file holds certificate %s, want %s", h.Serial, r.Serial)
	}

	v = newVisitor(t, w.Demo, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36")
	h.File = testkit.WriteFile(t, t.TempDir(), "new.p12", v.download(t, r, w.pin))
	says(t, testkit.Run(t, "openssl", "pkcs12", "-in", h.File, "-passin", "pass:"+w.pin, "-info", "-noenc"), "AES-256-CBC")
}

// revocation: what is revoked is seen as revoked by everybody, at once.
func revocation(t *testing.T, w *world) {
	h := w.download(t, w.issue(t, "失効1号機"))
	dir := t.TempDir()
	chain := bundle(t, dir, "chain.pem", w.ClientRoot, w.Issuer)
	says(t, w.opensslOCSP(t, h, chain), ": good")
	before := w.crl(t)
	w.Refused(t, "revoke", h.Serial, "--reason", "keyCompromise", "--as", w.Operator(t, "letters"))
	w.Refused(t, "revoke", h.Serial, "--reason", "noSuchReason", "--as", w.Operator(t, "officer"))
	says(t, w.opensslOCSP(t, h, chain), ": good")

	w.Must(t, nil, "revoke", h.Serial, "--reason", "keyCompromise", "--as", w.Operator(t, "officer"))
	w.becomes(t, h, revoked)
	out := w.opensslOCSP(t, h, chain)
	says(t, out, ": revoked")
	says(t, out, "Reason: keyCompromise")
	out = w.gnutlsOCSP(t, h, chain)
	says(t, out, "Certificate Status: revoked")
	says(t, w.nssOCSP(t, h), "revoked")

	w.listed(t, h, true)
	after := w.crl(t)
	if after.Number.Cmp(before.Number) <= 0 {
		t.Errorf("the CRL's number went from %v to %v", before.Number, after.Number)
	}
	crl := testkit.WriteFile(t, dir, "after.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: after.Raw}))
	out, err := testkit.Try(t, "openssl", "verify", "-crl_check", "-CAfile", chain, "-CRLfile", crl, h.Cert)
	if err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("openssl verify with the CRL: %v\n%s", err, out)
	}

	// Revoking again changes nothing, and says so or succeeds; the reason stays.
	w.Inkan(t, "revoke", h.Serial, "--reason", "superseded", "--as", w.Operator(t, "officer"))
	says(t, w.opensslOCSP(t, h, chain), "Reason: keyCompromise")

	// The letter's IDs give no file any more, and the page says why.
	v := newVisitor(t, w.Demo, "")
	page := v.submit(t, h.RequestID, h.ReferenceID, w.pin)
	wrong := v.submit(t, h.RequestID, "ABCDEFGHJK", w.pin)
	if page.file != "" || page.heading == wrong.heading {
		t.Errorf("right IDs of a revoked certificate: heading %q, file %q", page.heading, page.file)
	}
}

// commandLine: what a person types wrong gets one line and a way on.
func commandLine(t *testing.T, w *world) {
	w.Refused(t, "request", "show", "202001010000001", "--as", w.Operator(t, "intake"))
	w.Refused(t, "request", "submit", "--as", w.Operator(t, "intake"), "--kind", "medical", "--code", "0110119154", "--terminal", "T", "--email", "clinic@example.jp")
	for _, args := range [][]string{{"request", "submit", "--no-such-flag"}, {"no-such-command"}} {
		_, stderr, code := w.Inkan(t, args...)
		if code != 2 || stderr == "" {
			t.Errorf("inkan %v: exit code %d, want 2 with words: %q", args, code, stderr)
		}
	}
	var list any
	w.Must(t, &list, "request", "list", "--as", w.Operator(t, "intake"))
	w.Must(t, nil, "audit", "verify")
	// A demo never becomes production, and one directory is served once.
	w.Refused(t, "serve")
}

// nickname of the only certificate with a key in the database.
func (b *Browser) Nickname(t *testing.T) string {
	t.Helper()
	out := testkit.Run(t, "certutil", "-K", "-d", b.Database())
	m := regexp.MustCompile(`(?m)^<\s*0>\s+\S+\s+[0-9a-f]+\s+(.+)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no certificate with a key in\n%s", out)
	}
	return strings.TrimPrefix(strings.TrimSpace(m[1]), "NSS Certificate DB:")
}
