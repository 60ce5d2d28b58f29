package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// issued is the answer of POST /api/v1/certificates.
type issued struct {
	RequestID   string    `json:"requestId"`
	Serial      string    `json:"serial"`
	Certificate string    `json:"certificate"`
	Chain       string    `json:"chain"`
	NotAfter    time.Time `json:"notAfter"`
}

// apiIssues: a system with a grant gets a certificate for a key of its own, once,
// however often it asks.
func apiIssues(t *testing.T, w *world) {
	pair, err := tls.LoadX509KeyPair(w.APIClient.Cert, w.APIClient.Key)
	if err != nil {
		t.Fatal(err)
	}
	client := apiClient(t, w, pair)
	key := testkit.Key(t)
	order := map[string]string{
		"holderKind": "medical", "holderCode": "0110119153", "terminalName": "API1号機",
		"csr": testkit.CSRText(t, key), "idempotencyKey": "e2e-1",
	}
	var first issued
	status, answer := post(t, client, w.API, order)
	err = json.Unmarshal(answer, &first)
	if status != http.StatusCreated || err != nil {
		t.Fatalf("%d %v %s", status, err, answer)
	}

	cert := testkit.Certificate(t, testkit.DecodePEM(t, []byte(first.Certificate)))
	roots, chain := testkit.Roots(t, w.ClientRoot), x509.NewCertPool()
	if !chain.AppendCertsFromPEM([]byte(first.Chain)) {
		t.Fatal("no chain")
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: chain, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Error(err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		t.Error("the certificate is for another key")
	}
	if cert.Subject.CommonName != "0110119153" || !cert.NotAfter.Equal(first.NotAfter) {
		t.Errorf("subject %q, notAfter %v and %v", cert.Subject, cert.NotAfter, first.NotAfter)
	}

	var again issued
	status, answer = post(t, client, w.API, order)
	err = json.Unmarshal(answer, &again)
	if status/100 != 2 || err != nil || again.Serial != first.Serial || again.RequestID != first.RequestID {
		t.Errorf("the same order again: %d %v, serial %q, want %q", status, err, again.Serial, first.Serial)
	}

	for _, c := range []struct {
		what   string
		change func(map[string]string)
		status int
	}{
		{"same key, another order", func(o map[string]string) { o["terminalName"] = "API2号機" }, http.StatusConflict},
		{"code with a wrong check digit", func(o map[string]string) { o["holderCode"] = "0110119154"; o["idempotencyKey"] = "e2e-2" }, 0},
		{"no CSR", func(o map[string]string) { o["csr"] = ""; o["idempotencyKey"] = "e2e-3" }, 0},
		{"a field that does not exist", func(o map[string]string) { o["subject"] = "CN=me"; o["idempotencyKey"] = "e2e-4" }, 0},
	} {
		changed := map[string]string{}
		for k, v := range order {
			changed[k] = v
		}
		c.change(changed)
		status, answer := post(t, client, w.API, changed)
		var problem struct{ Type, Title string }
		err := json.Unmarshal(answer, &problem)
		if status/100 != 4 || c.status != 0 && status != c.status || err != nil || problem.Title == "" {
			t.Errorf("%s: %d %s", c.what, status, answer)
		}
	}

	// Nobody else: not without a certificate, not with a holder's.
	for what, pair := range map[string]tls.Certificate{"no certificate": {}, "a stranger's certificate": stranger(t)} {
		status, err := attempt(apiClient(t, w, pair), w.API)
		if err == nil && status/100 != 4 {
			t.Errorf("%s: %d", what, status)
		}
	}
}

func stranger(t *testing.T) tls.Certificate {
	t.Helper()
	root, key := authority(t, "E2E Foreign Root")
	return sign(t, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, root, key)
}

func apiClient(t *testing.T, w *world, pair tls.Certificate) *http.Client {
	t.Helper()
	return testkit.HTTP(t, &tls.Config{RootCAs: testkit.Roots(t, w.TLSRoot), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &pair, nil // whatever CAs the server names: a stranger tries all the same
	}}, false)
}

func post(t *testing.T, client *http.Client, api string, order map[string]string) (int, []byte) {
	t.Helper()
	data, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post(api+"/api/v1/certificates", "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode >= 400 && !strings.HasPrefix(kind, "application/problem+json") {
		t.Errorf("%s comes as %q", resp.Status, kind)
	}
	return resp.StatusCode, answer
}

// attempt asks for a certificate and takes a refusal in the handshake as one.
func attempt(client *http.Client, api string) (int, error) {
	resp, err := client.Post(api+"/api/v1/certificates", "application/json", strings.NewReader("{}"))
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
