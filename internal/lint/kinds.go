package lint

import "crypto/x509"

// constraint says which name constraints a CA carries.
type constraint int

const (
	noConstraint constraint = iota
	noServers               // can never vouch for a server: client.invalid, no address (CK3)
	ownServers              // vouches for the site's own names only (ST9)
)

// kind is the policy of one kind of certificate.
type kind struct {
	issuer     string // the CA it must come from; "" for a self-signed one
	ca         bool
	pathLen    int
	constraint constraint
	purposes   []x509.ExtKeyUsage // exactly these
	names      bool               // carries subjectAltName
	words      bool               // the CN must not look like a host name to Java (CK3)
	noCheck    bool               // id-pkix-ocsp-nocheck
}

var (
	forClients   = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	forServers   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	forResponder = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
)

// kinds is closed on purpose: one CA, one purpose (CO2). What is not listed under
// g1 is refused there.
var kinds = map[string]kind{
	"root": {ca: true, pathLen: 1, constraint: noServers, purposes: forClients},
	"g1":   {issuer: "root", ca: true, constraint: noServers, purposes: forClients},
	"ops":  {ca: true, constraint: noServers, purposes: forClients},
	"tls":  {ca: true, constraint: ownServers, purposes: forServers},

	"holder":     {issuer: "g1", purposes: forClients, words: true},
	"ocsp":       {issuer: "g1", purposes: forResponder, words: true, noCheck: true},
	"operator":   {issuer: "ops", purposes: forClients, words: true},
	"api-client": {issuer: "ops", purposes: forClients, words: true},
	"tls-server": {issuer: "tls", purposes: forServers, names: true},
}

// Issuer gives the ID of the CA that alone may sign a kind; "" for a self-signed
// CA and for an unknown kind.
func Issuer(kindID string) string { return kinds[kindID].issuer }
