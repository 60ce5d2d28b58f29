package issuance

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"

	"inkan/internal/pki"
)

// The IDs of our certification authorities.
const (
	Root       = "root" // client root
	G1         = "g1"   // issuing CA: holders and OCSP responders only
	Operations = "ops"  // operators and API clients; its own root
	TLS        = "tls"  // the site's servers; its own root
)

// The IDs of the profiles.
const (
	ProfileHolder    = "holder"
	ProfileOCSP      = "ocsp"
	ProfileOperator  = "operator"
	ProfileAPIClient = "api-client"
	ProfileTLSServer = "tls-server"
)

// Config is what certificates say about this installation.
type Config struct {
	Country      string                    // C of every subject, "JP"
	Organization string                    // O of every subject, "ReceiptOnline"
	PolicyOID    string                    // certificate policy of holders' certificates, dotted; "" for none
	StatusURL    string                    // plain http, without a slash at the end: /crl/<issuer>.crl, /ocsp, /ca/<issuer>.cer below it
	KindOU       map[pki.HolderKind]string // overrides of the OU of a kind
	Demo         bool                      // samples may begin in the past
}

func (c Config) validate() error {
	u, err := url.Parse(c.StatusURL)
	if err != nil || u.Scheme != "http" || u.Host == "" || strings.HasSuffix(c.StatusURL, "/") {
		return fmt.Errorf("status address %q: must be http://host without a slash at the end", c.StatusURL)
	}
	if len(c.Country) != 2 || c.Organization == "" {
		return fmt.Errorf("country %q, organization %q: two letters and a name are needed", c.Country, c.Organization)
	}
	_, err = c.policies()
	return err
}

func (c Config) policies() ([]x509.OID, error) {
	if c.PolicyOID == "" {
		return nil, nil
	}
	oid, err := x509.ParseOID(c.PolicyOID)
	if err != nil {
		return nil, fmt.Errorf("parse policy %q: %w", c.PolicyOID, err)
	}
	return []x509.OID{oid}, nil
}

func (c Config) crlURL(issuer string) string { return c.StatusURL + "/crl/" + issuer + ".crl" }
func (c Config) caURL(issuer string) string  { return c.StatusURL + "/ca/" + issuer + ".cer" }
func (c Config) ocspURL() string             { return c.StatusURL + "/ocsp" }

func (c Config) kindOU(kind pki.HolderKind) string {
	ou := c.KindOU[kind]
	if ou == "" {
		info, _ := kind.Info()
		ou = info.OU
	}
	return ou
}

// Profile is the shape of one sort of certificate. Profiles makes them; nobody
// else needs to.
type Profile struct {
	ID       string
	Issuer   string
	KeyTypes []pki.KeyType
	Months   int           // life in calendar months of Japan, for holders
	Lifetime time.Duration // life of the others
	Usage    x509.ExtKeyUsage
	OU       string // OU of our own certificates; "" for none
	Holder   bool   // the subject is a Params.Holder
	Names    bool   // the subject is Params.DNSNames and IPAddresses
	Policy   bool   // carries Config.PolicyOID
	Status   bool   // OCSP and the issuer's certificate can be fetched
	Revoked  bool   // a CRL is named
	NoCheck  bool   // id-pkix-ocsp-nocheck
}

const day = 24 * time.Hour

// Profiles gives all profiles by ID. One CA has one purpose (threat CO2): g1 never
// signs an operator, and nothing but holders and responders.
func Profiles(Config) map[string]Profile {
	table := []Profile{
		{ID: ProfileHolder, Issuer: G1, KeyTypes: pki.KeyTypes(), Months: pki.ValidityMonths,
			Usage: x509.ExtKeyUsageClientAuth, Holder: true, Policy: true, Status: true, Revoked: true},
		// RSA-3072 for relying systems that cannot check ECDSA answers.
		{ID: ProfileOCSP, Issuer: G1, KeyTypes: []pki.KeyType{pki.P256, pki.RSA3072}, Lifetime: 7 * day,
			Usage: x509.ExtKeyUsageOCSPSigning, NoCheck: true},
		{ID: ProfileOperator, Issuer: Operations, KeyTypes: pki.KeyTypes(), Lifetime: 2 * 365 * day,
			Usage: x509.ExtKeyUsageClientAuth, OU: "operators", Revoked: true},
		{ID: ProfileAPIClient, Issuer: Operations, KeyTypes: pki.KeyTypes(), Lifetime: 365 * day,
			Usage: x509.ExtKeyUsageClientAuth, OU: "api-clients", Revoked: true},
		{ID: ProfileTLSServer, Issuer: TLS, KeyTypes: []pki.KeyType{pki.P256}, Lifetime: 90 * day,
			Usage: x509.ExtKeyUsageServerAuth, Names: true, Revoked: true},
	}
	out := make(map[string]Profile, len(table))
	for _, p := range table {
		out[p.ID] = p
	}
	return out
}

// end gives notAfter for a beginning.
func (p Profile) end(notBefore time.Time) time.Time {
	if p.Months > 0 {
		return pki.AddMonths(notBefore, p.Months)
	}
	return notBefore.Add(p.Lifetime)
}
