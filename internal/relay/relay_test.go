package relay_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/issuance"
	"inkan/internal/issuance/issuancetest"
	"inkan/internal/keystore"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/relay"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
	"inkan/internal/webkit"
)

// signerAt signs what it is given with the issuing CA's key; away, it answers nothing.
type signerAt struct {
	ca.Signer // whatever else would be called is a mistake and panics
	key       crypto.Signer
	away      bool
}

func (s *signerAt) SignIntents(_ context.Context, requests []keystore.SignRequest) ([]keystore.SignResult, error) {
	if s.away {
		return nil, errors.New("signer is away")
	}
	out := make([]keystore.SignResult, len(requests))
	for i, r := range requests {
		sum := sha256.Sum256(r.TBS)
		sig, err := s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		out[i].Signature = sig
	}
	return out, nil
}

// zone is an api zone with a client that has a grant.
type zone struct {
	t      *testing.T
	db     *store.DB
	office *ra.Service
	ca     *ca.Service
	people *ops.Service
	signer *signerAt
	root   *x509.Certificate
	ops    crypto.Signer
	opsCA  *x509.Certificate
	server *httptest.Server
	client *http.Client // with the certificate of client "vendor"
}

func newZone(t *testing.T, db *store.DB) *zone {
	t.Helper()
	cfg := issuance.Config{Country: "JP", Organization: "ReceiptOnline", StatusURL: "http://127.0.0.1:8080", Demo: true}
	z := &zone{t: t, db: db}
	h, err := issuancetest.Make(cfg, time.Now().Add(-time.Hour), issuancetest.Keys(pki.P256))
	must(t, err)
	issuing, issuer := h.Certs[issuance.G1], h.Issuers[issuance.G1]
	z.root, z.opsCA, z.ops = h.Certs[issuance.Root], h.Certs[issuance.Operations], h.Keys[issuance.Operations]

	quiet := testkit.Quiet
	z.signer = &signerAt{key: h.Keys[issuance.G1]}
	authority := ca.New(ca.Config{DB: db, Signer: z.signer, Issuers: map[string]*issuance.Issuer{issuance.G1: issuer},
		Profiles: issuance.Profiles(cfg), Now: time.Now, Log: quiet})
	z.office = ra.New(ra.Config{DB: db, Issuer: authority, KeyType: pki.P256, Now: time.Now, Log: quiet})
	z.ca, z.people = authority, ops.New(ops.Config{DB: db, Authority: authority, Now: time.Now, Log: quiet})
	draw := relay.Problem{Now: time.Now}.Draw
	mux := http.NewServeMux()
	relay.New(relay.Config{Office: z.office, Clients: z.people, Chain: [][]byte{issuing.Raw, z.root.Raw},
		Report: webkit.NewReporter(quiet, draw)}).Mount(mux)

	z.server = httptest.NewUnstartedServer(mux)
	pool := x509.NewCertPool()
	pool.AddCert(z.opsCA)
	z.server.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	z.server.StartTLS()
	t.Cleanup(z.server.Close)
	z.client = z.newClient("vendor", true)
	z.grant("vendor", pki.Grant{PerDay: 100, Total: 100})
	return z
}

// newClient gives a client with a certificate of the Operations CA.
func (z *zone) newClient(id string, registered bool) *http.Client {
	z.t.Helper()
	pair, hash := z.certified(id, registered)
	if registered {
		must(z.t, z.db.Update(z.t.Context(), func(tx *store.Tx) error {
			return tx.AddAPIClient(store.APIClient{ID: id, Name: id, CertSHA256: hash, Role: pki.RoleRA})
		}))
	}
	return z.browser(&pair)
}

// certified gives a key with a certificate of the Operations CA, which may be stored.
func (z *zone) certified(id string, stored bool) (tls.Certificate, string) {
	z.t.Helper()
	key := testkit.Key(z.t)
	serial := issuance.NewSerial()
	leaf := testkit.Sign(z.t, &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, z.opsCA, key.Public(), z.ops)
	sum := sha256.Sum256(leaf.Raw)
	hash := hex.EncodeToString(sum[:])
	if stored {
		must(z.t, z.db.Update(z.t.Context(), func(tx *store.Tx) error {
			return tx.AddCertificate(pki.Certificate{Serial: pki.SerialHex(serial), Issuer: issuance.Operations, Profile: issuance.ProfileAPIClient,
				DER: leaf.Raw, SHA256: hash, SPKISHA256: id, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)})
		}))
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, hash
}

func (z *zone) browser(cert *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(z.server.Certificate())
	c := &tls.Config{RootCAs: pool}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return testkit.HTTP(z.t, c, false)
}

func (z *zone) grant(client string, g pki.Grant) pki.Grant {
	z.t.Helper()
	g.ClientID, g.EndsAt = client, time.Now().Add(24*time.Hour)
	maker := pki.Actor{ID: "admin-1", Auth: pki.AuthKey, Roles: []pki.Role{pki.RoleAdmin}}
	g, err := z.office.MakeGrant(z.t.Context(), maker, g)
	must(z.t, err)
	maker.ID = "approver-1"
	must(z.t, z.office.ApproveGrant(z.t.Context(), maker, g.ID, g.Hash()))
	return g
}

type answer struct {
	http   *http.Response
	fields map[string]any
	raw    string
}

func (a answer) text(name string) string {
	s, _ := a.fields[name].(string)
	return s
}

func (z *zone) post(c *http.Client, body string) answer {
	z.t.Helper()
	return z.postAs(c, "application/json", body)
}

func (z *zone) postAs(c *http.Client, contentType, body string) answer {
	z.t.Helper()
	return z.call(c, http.MethodPost, contentType, body)
}

func (z *zone) call(c *http.Client, method, contentType, body string) answer {
	z.t.Helper()
	r, err := http.NewRequestWithContext(z.t.Context(), method, z.server.URL+"/api/v1/certificates", strings.NewReader(body))
	must(z.t, err)
	r.Header.Set("Content-Type", contentType)
	resp, err := c.Do(r)
	must(z.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(z.t, err)
	a := answer{http: resp, raw: string(raw)}
	must(z.t, json.Unmarshal(raw, &a.fields))
	return a
}

// refused checks a problem document.
func (z *zone) refused(name string, a answer, status int, code string) {
	z.t.Helper()
	if a.http.StatusCode != status || a.text("code") != code || a.fields["status"] != float64(status) {
		z.t.Errorf("%s: answered %d %s, want %d %s", name, a.http.StatusCode, a.raw, status, code)
	}
	if got := a.http.Header.Get("Content-Type"); got != "application/problem+json" {
		z.t.Errorf("%s: content type %q", name, got)
	}
	if len(a.text("lookup")) != 8 || a.text("type") != "urn:inkan:error:"+code || a.text("title") == "" || a.text("detail") == "" {
		z.t.Errorf("%s: document is not whole: %s", name, a.raw)
	}
}

// requests counts those that are stored.
func (z *zone) requests() int {
	z.t.Helper()
	n := 0
	must(z.t, z.db.View(z.t.Context(), func(tx *store.Tx) error {
		requests, err := tx.Requests(store.RequestFilter{})
		n = len(requests)
		return err
	}))
	return n
}

func fields(csr, key string) map[string]string {
	return map[string]string{"holderKind": "medical", "holderCode": "0110119153", "terminalName": "受付1号機", "csr": csr, "idempotencyKey": key}
}

func encode(t *testing.T, m map[string]string) string {
	t.Helper()
	raw, err := json.Marshal(m)
	must(t, err)
	return string(raw)
}

func newCSR(t *testing.T) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key := testkit.Key(t)
	return testkit.CSRText(t, key), key
}

var must = testkit.Must

func TestIssue(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		z := newZone(t, db)
		csr, key := newCSR(t)
		a := z.post(z.client, encode(t, fields(csr, "k1")))
		if a.http.StatusCode != http.StatusCreated {
			t.Fatalf("answered %d %s", a.http.StatusCode, a.raw)
		}
		block, rest := pem.Decode([]byte(a.text("certificate")))
		if block == nil || len(rest) > 0 {
			t.Fatalf("certificate %q is not one PEM block", a.text("certificate"))
		}
		leaf := testkit.Certificate(t, block.Bytes)
		if !key.PublicKey.Equal(leaf.PublicKey) {
			t.Error("certificate is for another key")
		}
		var chain [][]byte
		for text := []byte(a.text("chain")); ; {
			block, text = pem.Decode(text)
			if block == nil {
				break
			}
			chain = append(chain, block.Bytes)
		}
		if len(chain) != 2 || !bytes.Equal(chain[1], z.root.Raw) {
			t.Fatalf("chain has %d certificates, want issuing CA and root", len(chain))
		}
		issuing := testkit.Certificate(t, chain[0])
		must(t, leaf.CheckSignatureFrom(issuing))
		must(t, issuing.CheckSignatureFrom(z.root))
		if a.text("serial") != pki.SerialHex(leaf.SerialNumber) || a.text("notAfter") != leaf.NotAfter.UTC().Format(time.RFC3339) {
			t.Errorf("answer and certificate differ: %s", a.raw)
		}
		_, ok := pki.ParseRequestID(a.text("requestId"))
		if !ok {
			t.Errorf("request ID %q", a.text("requestId"))
		}

		again := z.post(z.client, encode(t, fields("\r\n"+strings.ReplaceAll(csr, "\n", "\r\n"), "k1")))
		if again.raw != a.raw || again.http.StatusCode != http.StatusCreated {
			t.Errorf("repeated: %d %s, want the same answer", again.http.StatusCode, again.raw)
		}
		other, _ := newCSR(t)
		z.refused("another body", z.post(z.client, encode(t, fields(other, "k1"))), http.StatusConflict, "idempotency.body")
		z.refused("key used before", z.post(z.client, encode(t, fields(csr, "k2"))), http.StatusUnprocessableEntity, "csr.key_reused")

		z.newClientHasItsOwnKeys(other)
	})
}

// newClientHasItsOwnKeys: the idempotency key of one client means nothing for another
// (threat AP13).
func (z *zone) newClientHasItsOwnKeys(csr string) {
	z.t.Helper()
	second := z.newClient("other", true)
	z.refused("no grant", z.post(second, encode(z.t, fields(csr, "k1"))), http.StatusForbidden, "grant.none")
	z.grant("other", pki.Grant{PerDay: 1, Total: 1, Kinds: []pki.HolderKind{pki.Medical}})
	a := z.post(second, encode(z.t, fields(csr, "k1")))
	if a.http.StatusCode != http.StatusCreated {
		z.t.Errorf("other client, same key: %d %s", a.http.StatusCode, a.raw)
	}
	third, _ := newCSR(z.t)
	z.refused("grant used up", z.post(second, encode(z.t, fields(third, "k9"))), http.StatusForbidden, "grant.exhausted")
}

func TestThreatCO2Clients(t *testing.T) {
	z := newZone(t, storetest.SQLite(t))
	csr, _ := newCSR(t)
	body := encode(t, fields(csr, "k1"))
	z.refused("no certificate", z.post(z.browser(nil), body), http.StatusUnauthorized, "client.no_certificate")
	z.refused("unregistered", z.post(z.newClient("stranger", false), body), http.StatusForbidden, "client.unknown")
}

func TestBodies(t *testing.T) {
	z := newZone(t, storetest.SQLite(t))
	csr, _ := newCSR(t)
	with := func(name, value string) string {
		m := maps.Clone(fields(csr, "k1"))
		m[name] = value
		return encode(t, m)
	}
	whole := encode(t, fields(csr, "k1"))
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
		detail string // a word that the text must hold
	}{
		"empty":             {"", 400, "json.form", ""},
		"array":             {"[]", 400, "json.form", ""},
		"cut off":           {whole[:len(whole)-1], 400, "json.form", ""},
		"something follows": {whole + "{}", 400, "json.form", ""},
		"not UTF-8":         {strings.Replace(whole, "medical", "medic\xff", 1), 400, "json.form", ""},
		"unknown field":     {with("notBefore", "2020-01-01T00:00:00Z"), 400, "json.field", "notBefore"},
		"other case":        {strings.Replace(whole, "holderCode", "HolderCode", 1), 400, "json.field", "HolderCode"},
		"field twice":       {`{"holderKind":"medical","holderKind":"dental"}`, 400, "json.field", "holderKind"},
		"number":            {`{"holderCode":110119153}`, 400, "json.field", "holderCode"},
		"null":              {`{"csr":null}`, 400, "json.field", "csr"},
		"nested":            {`{"csr":{"a":"b"}}`, 400, "json.field", "csr"},
		"too large":         {with("csr", strings.Repeat("A", relay.MaxBody)), 413, "http.too_large", ""},
		"no kind":           {with("holderKind", ""), 422, "holder.kind", ""},
		"check digit":       {with("holderCode", "0110119154"), 422, "holder.code_check", ""},
		"no terminal":       {with("terminalName", ""), 422, "terminal.missing", ""},
		"hidden letter":     {with("terminalName", "a\u202eb"), 422, "terminal.letters", ""},
		"no key":            {with("idempotencyKey", ""), 422, "idempotency.form", ""},
		"no CSR":            {with("csr", ""), 422, "csr.form", ""},
		"CSR with more":     {with("csr", csr+csr), 422, "csr.form", ""},
		"text before CSR":   {with("csr", "x\n"+csr), 422, "csr.form", ""},
		"certificate":       {with("csr", strings.ReplaceAll(csr, "CERTIFICATE REQUEST", "CERTIFICATE")), 422, "csr.form", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := z.post(z.client, c.body)
			z.refused(name, a, c.status, c.code)
			if !strings.Contains(a.text("detail"), c.detail) {
				t.Errorf("detail %q does not name %q", a.text("detail"), c.detail)
			}
		})
	}
	z.refused("form", z.postAs(z.client, "application/x-www-form-urlencoded", whole), 415, "json.type")
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		a := z.call(z.client, method, "application/json", whole)
		z.refused(method, a, 405, "http.method")
		if a.http.Header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: Allow is %q", method, a.http.Header.Get("Allow"))
		}
	}

	// None of them may have left a request behind, and the whole one still works.
	if n := z.requests(); n != 0 {
		t.Errorf("%d requests were stored", n)
	}
	a := z.post(z.client, whole)
	if a.http.StatusCode != http.StatusCreated {
		t.Errorf("whole body: %d %s", a.http.StatusCode, a.raw)
	}
}

func TestSignerAway(t *testing.T) {
	z := newZone(t, storetest.SQLite(t))
	csr, _ := newCSR(t)
	body := encode(t, fields(csr, "k1"))
	z.signer.away = true
	a := z.post(z.client, body)
	z.refused("away", a, http.StatusServiceUnavailable, "signer.away")
	if a.http.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", a.http.Header.Get("Retry-After"))
	}
	z.signer.away = false
	a = z.post(z.client, body)
	if a.http.StatusCode != http.StatusCreated {
		t.Errorf("signer is back: %d %s", a.http.StatusCode, a.raw)
	}
}

func TestThreatAP13SameKeyAtOnce(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		z := newZone(t, db)
		csr, _ := newCSR(t)
		body := encode(t, fields(csr, "k1"))
		answers := make([]answer, 8)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() { answers[i] = z.post(z.client, body) })
		}
		group.Wait()
		for _, a := range answers {
			if a.http.StatusCode != http.StatusCreated || a.raw != answers[0].raw {
				t.Errorf("answered %d %s", a.http.StatusCode, a.raw)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	draw := relay.Problem{Now: func() time.Time { return now }}.Draw
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"limited until": {pki.E(pki.Limited, "x").With("Until", now.Add(90*time.Second+1)), "91"},
		"until is past": {pki.E(pki.Limited, "x").With("Until", now.Add(-time.Second)), "1"},
		"busy":          {pki.E(pki.Busy, "x"), "5"},
		"forbidden":     {pki.E(pki.Forbidden, "x"), ""},
		"unknown error": {errors.New("password is 1234"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/api/v1/x", nil)
			webkit.NewReporter(testkit.Quiet, draw).Fail(w, r, c.err)
			if w.Header().Get("Retry-After") != c.want {
				t.Errorf("Retry-After %q, want %q", w.Header().Get("Retry-After"), c.want)
			}
			if strings.Contains(w.Body.String(), "1234") {
				t.Errorf("private text in %s", w.Body)
			}
		})
	}
}
