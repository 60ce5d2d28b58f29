package e2e

import (
	"bytes"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"inkan/internal/testkit"

	"golang.org/x/crypto/ocsp"
)

// good and revoked are what a status says; the names are for reading.
const (
	good    = ocsp.Good
	revoked = ocsp.Revoked
)

// ocsp asks our responder as fast as a program can.
func (w *world) ocsp(t *testing.T, h held) int {
	t.Helper()
	return askOCSP(t, w.Status, testkit.CertificateFile(t, h.Cert), testkit.CertificateFile(t, w.Issuer))
}

// askOCSP gives the status that the responder of an instance answers.
func askOCSP(t *testing.T, status string, cert, issuer *x509.Certificate) int {
	t.Helper()
	request, err := ocsp.CreateRequest(cert, issuer, nil)
	testkit.Must(t, err)
	resp, err := http.Post(status+"/ocsp", "application/ocsp-request", bytes.NewReader(request))
	testkit.Must(t, err)
	answer, err := ocsp.ParseResponse(body(t, resp), issuer)
	testkit.Must(t, err)
	return answer.Status
}

func (w *world) opensslOCSP(t *testing.T, h held, chain string) string {
	t.Helper()
	out := testkit.Run(t, "openssl", "ocsp", "-issuer", w.Issuer, "-cert", h.Cert, "-url", w.Status+"/ocsp", "-CAfile", chain)
	says(t, out, "Response verify OK")
	return out
}

func (w *world) gnutlsOCSP(t *testing.T, h held, chain string) string {
	t.Helper()
	out := testkit.Run(t, "ocsptool", "--ask="+w.Status+"/ocsp", "--load-cert", h.Cert, "--load-issuer", w.Issuer, "--load-trust", chain)
	says(t, out, "Verifying OCSP Response: Success")
	return out
}

// nssOCSP asks as NSS does: at the address that stands in the certificate, GET
// first, the responder's chain built from the person's own database.
func (w *world) nssOCSP(t *testing.T, h held) string {
	t.Helper()
	b := NewBrowser(t)
	b.Own(t, h.File, w.pin)
	b.Trust(t, w.ClientRoot, "CT,,")
	nick := b.Nickname(t)
	// This tool knows only plain directory names.
	return testkit.Run(t, "ocspclnt", "-S", nick, "-d", strings.TrimPrefix(b.Database(), "sql:"))
}

// list is a CRL as Go reads it.
type list struct{ *x509.RevocationList }

// crlURL is the address that stands in the issued certificates.
func (w *world) crlURL(t *testing.T) string {
	t.Helper()
	return w.Status + "/crl/g1.crl"
}

func (w *world) crl(t *testing.T) list {
	t.Helper()
	resp, err := http.Get(w.crlURL(t))
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(body(t, resp))
	if err != nil {
		t.Fatal(err)
	}
	err = crl.CheckSignatureFrom(testkit.CertificateFile(t, w.Issuer))
	if err != nil {
		t.Fatal(err)
	}
	return list{crl}
}

func (l list) lists(serial *big.Int) bool {
	for _, entry := range l.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}

// body reads a response that has to be 200.
func body(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%.2000s", resp.Request.URL, resp.Status, data)
	}
	return data
}
