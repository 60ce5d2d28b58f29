package issuance

import (
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
