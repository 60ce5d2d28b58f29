package lint

import (
	"crypto/x509"
	"strings"
)

// Finding is one thing that is wrong. Text is for operators and logs.
type Finding struct {
	Rule string // stable name, for example "ca_no_ocsp_signing"
	Text string
}

// String gives rule and text.
func (f Finding) String() string { return f.Rule + ": " + f.Text }

// rule checks certificates. The check gives "" when all is well.
type rule struct {
	name  string
	check func(kind, *x509.Certificate) string
}

// crlRule checks certificate revocation lists.
type crlRule struct {
	name  string
	check func(*x509.RevocationList) string
}

// rules is every rule for certificates, in the order of findings.
var rules = []rule{
	{"serial", serial},
	{"signature_algorithm", signatureAlgorithm},
	{"key", key},
	{"validity", validity},
	{"ca_until", caUntil},
	{"basic_constraints", basicConstraints},
	{"key_usage", keyUsage},
	{"purpose", purpose},
	{"ca_no_ocsp_signing", caNoOCSPSigning},
	{"name_constraints", nameConstraints},
	{"key_identifiers", keyIdentifiers},
	{"extensions", extensions},
	{"common_name", commonName},
	{"alternative_names", alternativeNames},
	{"tls_no_wildcard", tlsNoWildcard},
	{"ocsp_nocheck", ocspNoCheck},
	{"pointers", pointers},
}

// crlRules is every rule for CRLs.
var crlRules = []crlRule{
	{"crl_signature_algorithm", crlSignatureAlgorithm},
	{"crl_number", crlNumber},
	{"crl_times", crlTimes},
	{"crl_extensions", crlExtensions},
}

// Certificate checks a certificate against the policy of a kind: the ID of one of
// our issuers (root, g1, ops, tls) or of a profile (holder, ocsp, operator,
// api-client, tls-server). No finding means that it may be signed.
func Certificate(kindID string, c *x509.Certificate) []Finding {
	k, ok := kinds[kindID]
	if !ok {
		return []Finding{{"kind", "no policy for " + kindID}}
	}
	var found []Finding
	for _, r := range rules {
		text := r.check(k, c)
		if text != "" {
			found = append(found, Finding{r.name, text})
		}
	}
	return found
}

// CRL checks a revocation list. Entries are not looked at.
func CRL(l *x509.RevocationList) []Finding {
	var found []Finding
	for _, r := range crlRules {
		text := r.check(l)
		if text != "" {
			found = append(found, Finding{r.name, text})
		}
	}
	return found
}

// Text joins findings for a log line.
func Text(found []Finding) string {
	texts := make([]string, len(found))
	for i, f := range found {
		texts[i] = f.String()
	}
	return strings.Join(texts, "; ")
}
