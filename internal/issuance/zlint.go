package issuance

import (
	"fmt"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/rfc" // the rules of RFC 5280

	"inkan/internal/lint"
)

// accepted are rules of zlint that we break on purpose, each with the reason.
var accepted = map[string]string{}

// rfcLints are made once: filtering the registry is dear.
var rfcLints = sync.OnceValue(func() []*zlint.CertificateLint {
	var out []*zlint.CertificateLint
	for _, l := range zlint.GlobalRegistry().CertificateLints().Lints() {
		if l.Source == zlint.RFC5280 && accepted[l.Name] == "" {
			out = append(out, l)
		}
	}
	return out
})

// shapes are the holders' certificates that zlint was content with. Two holders'
// certificates of one issuer and one shape differ in serial, seconds, digits of the
// code and bits of the key alone, each of which rules of our own look at in every
// certificate (internal/lint: serial, validity, common_name, key). zlint would say the
// same of both, and it costs more than all else that an issue does (ADR 50).
type shapes struct{ content sync.Map }

// shape names everything else in which holders' certificates may differ.
func (f facts) shape() string {
	keyType, _ := KeyTypeOf(f.PublicKey) // known: it was checked
	return fmt.Sprintf("%s %s %s %s %d %t %t", f.Profile.ID, keyType, f.Holder.Kind, f.Holder.Prefecture(), len(f.Holder.Code),
		f.NotBefore.Year() < 2050, f.notAfter.Year() < 2050)
}

// general asks zlint about RFC 5280: once a shape for holders, always for the others.
func (s *shapes) general(f facts, der []byte) []lint.Finding {
	if !f.Profile.Holder {
		return general(der)
	}
	shape := f.shape()
	_, seen := s.content.Load(shape)
	if seen {
		return nil
	}
	found := general(der)
	if len(found) == 0 {
		s.content.Store(shape, true)
	}
	return found
}

// general asks zlint about RFC 5280. A warning refuses too: what we mean is listed
// in accepted.
func general(der []byte) []lint.Finding {
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		return []lint.Finding{{Rule: "zlint_parse", Text: err.Error()}}
	}
	config := zlint.NewEmptyConfig()
	var found []lint.Finding
	for _, l := range rfcLints() {
		result := l.Execute(c, config)
		if result.Status >= zlint.Notice {
			found = append(found, lint.Finding{Rule: l.Name, Text: result.Status.String() + " " + result.Details})
		}
	}
	return found
}
