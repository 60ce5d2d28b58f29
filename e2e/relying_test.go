package e2e

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"inkan/internal/testkit"

	"software.sslmate.com/src/go-pkcs12"
)

// relying is a system that holders log in to: a TLS page that asks for a
// certificate and names our CAs, and only ours, as the ones it accepts.
type relying struct {
	URL  string
	Root string // PEM file of the CA of its own server certificate
}

// newRelying starts such a system. It speaks up to the given TLS version: old
// clients, and keys that can only do RSA PKCS#1, need 1.2.
func newRelying(t *testing.T, d *Demo, version uint16) relying {
	t.Helper()
	root, rootKey := authority(t, "E2E Server Root")
	leaf := sign(t, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "relying system"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature,
	}, root, rootKey)

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "welcome %x over %s", r.TLS.PeerCertificates[0].SerialNumber, tls.VersionName(r.TLS.Version))
	}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{leaf},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    testkit.Roots(t, d.ClientRoot, d.Issuer),
		MinVersion:   tls.VersionTLS12,
		MaxVersion:   version,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return relying{URL: server.URL, Root: testkit.WriteFile(t, t.TempDir(), "server-root.pem", testkit.CertificateText(root))}
}

// decoy writes a PKCS#12 file of a stranger: a certificate for client
// authentication by a CA that is not ours.
func decoy(t *testing.T, password string) string {
	t.Helper()
	root, rootKey := authority(t, "E2E Foreign Root")
	leaf := sign(t, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "stranger"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature,
	}, root, rootKey)
	file, err := pkcs12.Modern2023.Encode(leaf.PrivateKey, leaf.Leaf, []*x509.Certificate{root}, password)
	if err != nil {
		t.Fatal(err)
	}
	return testkit.WriteFile(t, t.TempDir(), "decoy.p12", file)
}

func authority(t *testing.T, name string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	pair := sign(t, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, nil, nil)
	return pair.Leaf, pair.PrivateKey.(crypto.Signer)
}

func sign(t *testing.T, template, parent *x509.Certificate, parentKey crypto.Signer) tls.Certificate {
	t.Helper()
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	key := testkit.Key(t)
	if parent == nil {
		return testkit.SelfSigned(t, template, key)
	}
	leaf := testkit.Sign(t, template, parent, key.Public(), parentKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}
