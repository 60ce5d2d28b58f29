package issuance_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inkan/internal/issuance"
	"inkan/internal/lint"
	"inkan/internal/pki"
)

// standardTBS writes a certificate anew with the standard library's encoder.
func standardTBS(t testing.TB, h hierarchy, issuer string, c *x509.Certificate) []byte {
	return rebuild(t, h, issuer, c, func(template *x509.Certificate) {
		for _, e := range c.Extensions {
			if e.Id.String() == "1.3.6.1.5.5.7.48.1.5" { // OCSP nocheck, which it does not know
				template.ExtraExtensions = []pkix.Extension{e}
			}
		}
	})
}

// TestEveryProfile: the standard library's encoding and ours agree for every
// profile, key of the CA and key of the subject, and both linters are content.
func TestEveryProfile(t *testing.T) {
	keys := map[pki.KeyType]any{}
	for _, keyType := range pki.KeyTypes() {
		keys[keyType] = newKey(t, keyType).Public()
	}
	for _, caType := range []pki.KeyType{pki.RSA3072, pki.P256, pki.P384} {
		h := newHierarchy(t, caType, config)
		for id, p := range issuance.Profiles(config) {
			for _, keyType := range p.KeyTypes {
				t.Run(string(caType)+"/"+id+"/"+string(keyType), func(t *testing.T) {
					cert := h.issue(t, config, params(t, id, keys[keyType]))
					if !bytes.Equal(standardTBS(t, h, p.Issuer, cert), cert.RawTBSCertificate) {
						t.Error("the standard library encodes it in another way")
					}
				})
			}
		}
	}
}

// holders are all holders that there can be.
var holders = rapid.Custom(func(r *rapid.T) pki.Holder {
	kind := rapid.SampledFrom(pki.Kinds()).Draw(r, "kind")
	digits := rapid.StringMatching(`(0[1-9]|[1-3][0-9]|4[0-7])[0-9]{7}`).Draw(r, "digits")
	if kind.Table != 0 {
		digits = digits[:2] + string(kind.Table) + digits[3:]
	}
	for _, body := range []string{digits, digits[:7]} { // of ten digits, or of eight
		holder, err := pki.ParseHolder(kind.Kind, body+string(pki.CheckDigit(body)))
		if err == nil {
			return holder
		}
	}
	return pki.Holder{} // none of this kind has such a code
}).Filter(func(h pki.Holder) bool { return h.Code != "" })

// TestEveryHolder: whoever the holder and whenever the issue, our encoding is the
// standard library's, and zlint is content though it was asked about the shape only.
func TestEveryHolder(t *testing.T) {
	h := newHierarchy(t, pki.P256, config)
	key := newKey(t, pki.P256).Public()
	rapid.Check(t, func(r *rapid.T) {
		p := params(t, issuance.ProfileHolder, key)
		p.Holder = holders.Draw(r, "holder")
		p.NotBefore = now.Add(time.Duration(rapid.Int64Range(0, 10*365*86400).Draw(r, "seconds")) * time.Second)
		linted, err := h.Issuers[issuance.G1].Prepare(p)
		if err != nil {
			r.Fatal(err)
		}
		signature, err := linted.Sign(h.Keys[issuance.G1])
		if err != nil {
			r.Fatal(err)
		}
		cert, err := h.Issuers[issuance.G1].Assemble(linted.TBS(), signature)
		if err != nil {
			r.Fatal(err)
		}
		if !bytes.Equal(standardTBS(t, h, issuance.G1, cert), cert.RawTBSCertificate) {
			r.Error("the standard library encodes it in another way")
		}
		found := issuance.General(cert.Raw)
		if len(found) > 0 {
			r.Error(lint.Text(found))
		}
	})
}
