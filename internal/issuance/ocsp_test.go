package issuance_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// responder makes a responder of g1 whose certificate began at a time.
func responder(t testing.TB, h hierarchy, at time.Time) *issuance.Responder {
	t.Helper()
	key := newKey(t, pki.P256)
	p := params(t, issuance.ProfileOCSP, key.Public())
	p.NotBefore = at
	r, err := issuance.NewResponder(h.Issuers[issuance.G1], h.issue(t, config, p), key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func askOCSP(t testing.TB, cert, issuer *x509.Certificate, hash crypto.Hash) []byte {
	t.Helper()
	request, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func TestOCSP(t *testing.T) {
	h := newHierarchy(t, pki.RSA3072, config)
	cert := h.issue(t, config, params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public()))
	r := responder(t, h, now)
	g1 := h.Issuers[issuance.G1]
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		request, err := issuance.ParseOCSPRequest(askOCSP(t, cert, h.Certs[issuance.G1], hash))
		if err != nil {
			t.Fatal(err)
		}
		id := request.IDs[0]
		if !g1.Asks(id) || h.Issuers[issuance.Root].Asks(id) || h.Issuers[issuance.Operations].Asks(id) || id.Serial.Cmp(cert.SerialNumber) != 0 || request.Nonce != nil {
			t.Errorf("%s: %+v", hash, request)
		}
		swapped := id
		swapped.KeyHash = bytes.Repeat([]byte{1}, len(id.KeyHash))
		if g1.Asks(swapped) {
			t.Errorf("%s: right name, wrong key", hash)
		}
		for _, status := range []issuance.OCSPStatus{issuance.OCSPGood, issuance.OCSPRevoked, issuance.OCSPUnknown} {
			for _, reason := range []pki.Reason{pki.Unspecified, pki.CertificateHold} {
				answer, err := r.Answer([]issuance.OCSPAnswer{{ID: id, Status: status, RevokedAt: now.Add(-time.Hour), Reason: reason,
					ThisUpdate: now, NextUpdate: now.Add(time.Hour)}}, []byte("nonce"), now)
				if err != nil {
					t.Fatal(err)
				}
				got, err := ocsp.ParseResponseForCert(answer, cert, h.Certs[issuance.G1])
				switch {
				case err != nil:
					t.Error(err)
				case got.Status != int(status) || !got.ThisUpdate.Equal(now) || !got.NextUpdate.Equal(now.Add(time.Hour)) || !got.ProducedAt.Equal(now) || got.IssuerHash != hash:
					t.Errorf("%+v", got)
				case status == issuance.OCSPRevoked && (got.RevocationReason != int(reason) || !got.RevokedAt.Equal(now.Add(-time.Hour))):
					t.Errorf("%+v", got)
				case !bytes.Contains(answer, id.Raw):
					t.Error("the answer does not repeat the question")
				}
			}
		}
	}
	for _, hash := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
		request, err := issuance.ParseOCSPRequest(askOCSP(t, cert, h.Certs[issuance.G1], hash))
		if err != nil || g1.Asks(request.IDs[0]) {
			t.Errorf("%s: %v", hash, err)
		}
	}
	_, err := r.Answer(nil, nil, now)
	if err == nil {
		t.Error("an answer to nothing")
	}
}

func TestNewResponderRefuses(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	key := newKey(t, pki.P256)
	good := h.issue(t, config, params(t, issuance.ProfileOCSP, key.Public()))
	holder := h.issue(t, config, params(t, issuance.ProfileHolder, key.Public()))
	g1 := h.Issuers[issuance.G1]
	for name, test := range map[string]struct {
		issuer *issuance.Issuer
		cert   *x509.Certificate
		key    crypto.Signer
	}{
		"another CA's": {h.Issuers[issuance.Operations], good, key},
		"a holder's":   {g1, holder, key},
		"another key":  {g1, good, newKey(t, pki.P256)},
	} {
		_, err := issuance.NewResponder(test.issuer, test.cert, test.key)
		if err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

// extension is one extension of a made-up request.
type extension struct {
	ID       asn1.ObjectIdentifier
	Critical bool `asn1:"optional"`
	Value    []byte
}

var nonceID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

func nonceOf(length int) extension {
	value, err := asn1.Marshal(make([]byte, length))
	if err != nil {
		panic(err) // a byte string always encodes
	}
	return extension{ID: nonceID, Value: value}
}

// makeRequest writes a request with as many IDs and extensions as wanted.
func makeRequest(t testing.TB, raw []byte, ids int, extensions []extension, signature []byte) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				for range ids {
					b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(raw) })
				}
			})
			if extensions != nil {
				list, err := asn1.Marshal(extensions)
				if err != nil {
					t.Fatal(err)
				}
				b.AddASN1(der.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(list) })
			}
		})
		if signature != nil {
			b.AddASN1(der.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(signature) })
		}
	})
	return b.BytesOrPanic()
}

// TestThreatST2ST4Requests: nonces and several IDs.
func TestThreatST2ST4Requests(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	cert := h.issue(t, config, params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public()))
	first, err := issuance.ParseOCSPRequest(askOCSP(t, cert, h.Certs[issuance.G1], crypto.SHA1))
	if err != nil {
		t.Fatal(err)
	}
	raw := first.IDs[0].Raw
	other := extension{ID: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}
	critical := extension{ID: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}
	criticalNonce := nonceOf(32)
	criticalNonce.Critical = true
	tests := []struct {
		name       string
		ids        int
		extensions []extension
		signature  []byte
		nonce      int // length; -1 malformed
	}{
		{"one", 1, nil, nil, 0},
		{"two", 2, nil, nil, 0},
		{"eight", 8, nil, nil, 0},
		{"none", 0, nil, nil, -1},
		{"nine", 9, nil, nil, -1},
		{"signed, and the signature ignored", 1, nil, []byte{0x30, 0}, 0},
		{"nonce 0", 1, []extension{nonceOf(0)}, nil, -1},
		{"nonce 1", 1, []extension{nonceOf(1)}, nil, 1},
		{"nonce 15", 1, []extension{nonceOf(15)}, nil, 15},
		{"nonce 16", 1, []extension{nonceOf(16)}, nil, 16},
		{"nonce 32", 1, []extension{nonceOf(32)}, nil, 32},
		{"nonce 33", 1, []extension{nonceOf(33)}, nil, 33},
		{"nonce 128", 1, []extension{nonceOf(128)}, nil, 128},
		{"nonce 129", 1, []extension{nonceOf(129)}, nil, -1},
		{"nonce twice", 1, []extension{nonceOf(32), nonceOf(32)}, nil, -1},
		{"nonce critical", 1, []extension{criticalNonce}, nil, 32},
		{"nonce not wrapped", 1, []extension{{ID: nonceID, Value: []byte{1, 2, 3}}}, nil, -1},
		{"unknown extension", 1, []extension{other, nonceOf(32)}, nil, 32},
		{"unknown critical extension", 1, []extension{critical}, nil, -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := issuance.ParseOCSPRequest(makeRequest(t, raw, test.ids, test.extensions, test.signature))
			if test.nonce < 0 {
				if pki.CodeOf(err) != "ocsp.malformed" {
					t.Errorf("accepted %+v, %v", got, err)
				}
				return
			}
			if err != nil || len(got.IDs) != test.ids || len(got.Nonce) != test.nonce {
				t.Errorf("got %d IDs, nonce %d, %v", len(got.IDs), len(got.Nonce), err)
			}
		})
	}
	_, err = issuance.ParseOCSPRequest(make([]byte, issuance.MaxOCSPRequest+1))
	if pki.CodeOf(err) != "ocsp.malformed" {
		t.Errorf("too long: %v", err)
	}
}

// TestOCSPOpenSSL has openssl ask about two certificates in one request with a nonce,
// and check the answer.
func TestOCSPOpenSSL(t *testing.T) {
	testkit.Tool(t, "openssl")
	for _, keyType := range []pki.KeyType{pki.RSA3072, pki.P384} {
		h := newHierarchy(t, keyType, config)
		live := func() *x509.Certificate {
			p := params(t, issuance.ProfileHolder, newKey(t, pki.P256).Public())
			p.NotBefore = time.Now()
			return h.issue(t, config, p)
		}
		dir := t.TempDir()
		root, g1 := writePEM(t, dir, "root.pem", h.Certs[issuance.Root]), writePEM(t, dir, "g1.pem", h.Certs[issuance.G1])
		one, two := writePEM(t, dir, "one.pem", live()), writePEM(t, dir, "two.pem", live())
		at := time.Now()
		r := responder(t, h, at)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, err := io.ReadAll(io.LimitReader(q.Body, issuance.MaxOCSPRequest+1))
			if err != nil {
				t.Error(err)
			}
			request, err := issuance.ParseOCSPRequest(body)
			if err != nil || len(request.IDs) != 2 || len(request.Nonce) == 0 {
				t.Error(request, err)
				return
			}
			answer, err := r.Answer([]issuance.OCSPAnswer{
				{ID: request.IDs[0], Status: issuance.OCSPGood, ThisUpdate: at, NextUpdate: at.Add(time.Hour)},
				{ID: request.IDs[1], Status: issuance.OCSPRevoked, RevokedAt: at, Reason: pki.KeyCompromise, ThisUpdate: at, NextUpdate: at.Add(time.Hour)},
			}, request.Nonce, at)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/ocsp-response")
			_, _ = w.Write(answer)
		}))
		defer server.Close()
		ok, text := run(exec.Command("openssl", "ocsp", "-url", server.URL, "-issuer", g1, "-cert", one, "-cert", two, "-CAfile", root, "-verify_other", g1))
		for _, want := range []string{"Response verify OK", "one.pem: good", "two.pem: revoked", "Reason: keyCompromise"} {
			if !ok || !strings.Contains(text, want) || strings.Contains(text, "WARNING") {
				t.Errorf("want %q in: %s", want, text)
			}
		}
	}
}

func FuzzParseOCSPRequest(f *testing.F) {
	h := newHierarchy(f, pki.P256, config)
	raw := askOCSP(f, h.Certs[issuance.G1], h.Certs[issuance.Root], crypto.SHA256)
	f.Add(raw)
	first, err := issuance.ParseOCSPRequest(raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(makeRequest(f, first.IDs[0].Raw, 8, []extension{nonceOf(32)}, []byte{0x30, 0}))
	r := responder(f, h, now)
	f.Fuzz(func(t *testing.T, request []byte) {
		got, err := issuance.ParseOCSPRequest(request)
		if err != nil {
			if pki.CodeOf(err) != "ocsp.malformed" {
				t.Fatal(err)
			}
			return
		}
		var answers []issuance.OCSPAnswer
		for _, id := range got.IDs {
			if id.Serial == nil || h.Issuers[issuance.G1].Asks(id) && id.Hash == 0 {
				t.Fatal("half an ID")
			}
			answers = append(answers, issuance.OCSPAnswer{ID: id, ThisUpdate: now, NextUpdate: now})
		}
		_, err = r.Answer(answers, got.Nonce, now)
		if err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkOCSPAnswer(b *testing.B) {
	h := newHierarchy(b, pki.P256, config)
	r := responder(b, h, now)
	request, err := issuance.ParseOCSPRequest(askOCSP(b, h.Certs[issuance.G1], h.Certs[issuance.Root], crypto.SHA256))
	if err != nil {
		b.Fatal(err)
	}
	answers := []issuance.OCSPAnswer{{ID: request.IDs[0], ThisUpdate: now, NextUpdate: now.Add(time.Hour)}}
	for b.Loop() {
		_, err = r.Answer(answers, nil, now)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkPrepare(b *testing.B) { benchmarkIssue(b, false) }
func BenchmarkRelint(b *testing.B)  { benchmarkIssue(b, true) }

func benchmarkIssue(b *testing.B, relint bool) {
	for _, caType := range []pki.KeyType{pki.P256, pki.RSA3072} {
		b.Run(string(caType), func(b *testing.B) {
			h := newHierarchy(b, caType, config)
			p := params(b, issuance.ProfileHolder, newKey(b, pki.P256).Public())
			p.Serial = new(big.Int).Set(p.Serial)
			g1 := h.Issuers[issuance.G1]
			linted, err := g1.Prepare(p)
			if err != nil {
				b.Fatal(err)
			}
			tbs := linted.TBS()
			b.ReportAllocs()
			for b.Loop() {
				if relint {
					_, err = g1.Relint(p.Profile, tbs, now)
				} else {
					_, err = g1.Prepare(p)
				}
			}
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
