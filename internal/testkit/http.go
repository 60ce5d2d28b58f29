package testkit

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
)

// HTTP makes a client whose connections end with the test. Over TLS it speaks HTTP/2 where
// http2 says so.
func HTTP(t testing.TB, config *tls.Config, http2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: Patience}
}

// Roots are the certificates of PEM files that somebody believes.
func Roots(t testing.TB, files ...string) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, file := range files {
		if !pool.AppendCertsFromPEM(ReadFile(t, file)) {
			t.Fatalf("%s holds no certificate", file)
		}
	}
	return pool
}
