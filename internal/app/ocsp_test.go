package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// TestThreatST12: a probe from outside fails where nobody answers, where something else
// answers, and where somebody repeats an old answer.
func TestThreatST12(t *testing.T) {
	key := testkit.Key(t)
	pair := selfSigned(t, key)
	other := testkit.Key(t)
	stranger := selfSigned(t, other)
	serial := big.NewInt(4711)
	answer := func(by *x509.Certificate, key *ecdsa.PrivateKey, serial *big.Int, until time.Time) []byte {
		body, err := ocsp.CreateResponse(by, by, ocsp.Response{Status: ocsp.Good, SerialNumber: serial, ThisUpdate: until.Add(-time.Hour), NextUpdate: until}, key)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	soon := time.Now().Add(time.Hour)
	for name, row := range map[string]struct {
		code int
		body []byte
		want string
	}{
		"good":                {200, answer(pair.Leaf, key, serial, soon), ""},
		"an old answer":       {200, answer(pair.Leaf, key, serial, time.Now().Add(-time.Minute)), "ocsp.answer"},
		"another certificate": {200, answer(pair.Leaf, key, big.NewInt(4712), soon), "ocsp.answer"},
		"another issuer":      {200, answer(stranger.Leaf, other, serial, soon), "ocsp.answer"},
		"try later":           {200, ocsp.TryLaterErrorResponse, "ocsp.answer"},
		"a page":              {200, []byte("<html>"), "ocsp.answer"},
		"an error":            {503, nil, "ocsp.away"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.code)
				_, _ = w.Write(row.body)
			}))
			defer s.Close()
			var out bytes.Buffer
			err := (&cli{stdout: &out}).checkOCSP(t.Context(), s.URL, pair.Leaf, serial)
			if row.want == "" && err != nil || row.want != "" && pki.CodeOf(err) != row.want {
				t.Errorf("got %v, want %q; said %s", err, row.want, out.String())
			}
		})
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	err := (&cli{}).checkOCSP(t.Context(), gone.URL, pair.Leaf, serial)
	if pki.CodeOf(err) != "ocsp.away" {
		t.Errorf("nobody there: %v", err)
	}
}
