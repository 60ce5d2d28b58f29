package issuance

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"inkan/internal/lint"
	"inkan/internal/pki"
)

// Issuer is one of our CAs without its key. It may be used by several goroutines.
type Issuer struct {
	id     string
	cert   *x509.Certificate
	cfg    Config
	alg    algorithm
	policy []byte // content octets of the policy's object identifier
	oids   []x509.OID
	hashes map[crypto.Hash]issuerHashes

	throwAway crypto.Signer
	standIn   *x509.Certificate // the issuer's certificate with the throw-away public key
}

// NewIssuer takes a CA's certificate, checks that it is what its ID says, and makes
// the throw-away key.
func NewIssuer(id string, cert *x509.Certificate, cfg Config) (*Issuer, error) {
	err := cfg.validate()
	if err != nil {
		return nil, fmt.Errorf("check config of issuer %s: %w", id, err)
	}
	found := lint.Certificate(id, cert)
	if len(found) > 0 || !cert.IsCA {
		return nil, fmt.Errorf("check certificate of issuer %s: %s", id, lint.Text(found))
	}
	keyType, ok := KeyTypeOf(cert.PublicKey)
	if !ok {
		return nil, fmt.Errorf("check certificate of issuer %s: key of an unknown type", id)
	}
	i := &Issuer{id: id, cert: cert, cfg: cfg, alg: algorithmOf(keyType)}
	// The TBS names the algorithm but not the size of the issuer's key, and nothing
	// verifies under the throw-away key, so RSA need not be larger than this.
	throwAwayType := keyType
	if i.alg.x509 == x509.SHA256WithRSA {
		throwAwayType = pki.RSA2048
	}
	i.throwAway, err = GenerateKey(throwAwayType)
	if err != nil {
		return nil, fmt.Errorf("make throw-away key: %w", err)
	}
	i.oids, err = cfg.policies()
	if err != nil {
		return nil, err
	}
	if len(i.oids) > 0 {
		i.policy, err = i.oids[0].MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("encode policy: %w", err)
		}
	}
	i.hashes = hashIssuer(i)
	standIn := *cert
	standIn.PublicKey = i.throwAway.Public()
	i.standIn = &standIn
	return i, nil
}

// ID gives the issuer's ID.
func (i *Issuer) ID() string { return i.id }

// Certificate gives the issuer's certificate.
func (i *Issuer) Certificate() *x509.Certificate { return i.cert }

// Linted is a certificate that may be signed, once. Only Prepare and Relint make one.
type Linted struct {
	issuer  *Issuer
	profile string
	cert    *x509.Certificate // with a signature that means nothing
	signed  atomic.Bool
}

// TBS gives a copy of the bytes to be signed.
func (l *Linted) TBS() []byte { return bytes.Clone(l.cert.RawTBSCertificate) }

// Serial gives the serial number.
func (l *Linted) Serial() *big.Int { return new(big.Int).Set(l.cert.SerialNumber) }

// NotBefore gives the beginning of validity.
func (l *Linted) NotBefore() time.Time { return l.cert.NotBefore }

// NotAfter gives the last second of validity.
func (l *Linted) NotAfter() time.Time { return l.cert.NotAfter }

// Profile gives the ID of the profile.
func (l *Linted) Profile() string { return l.profile }

// Sign signs the linted bytes with the issuer's key and checks the signature with
// the issuer's public key (threat CK4). It works once: a second call is an error,
// also after a failure, so that a token is never a standing permission.
func (l *Linted) Sign(key crypto.Signer) ([]byte, error) {
	if l.signed.Swap(true) {
		return nil, pki.E(pki.Conflict, "issuance.signed")
	}
	return sign(key, l.issuer.cert.PublicKey, l.issuer.alg, l.cert.RawTBSCertificate)
}

// Prepare builds and lints a certificate (line 3 of issuance). The standard library
// encodes it, the throw-away key signs it, then it must be byte for byte what
// encodeTBS writes.
func (i *Issuer) Prepare(p Params) (*Linted, error) {
	f, err := i.check(p)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, i.template(f), i.standIn, f.PublicKey, i.throwAway)
	if err != nil {
		return nil, pki.E(pki.Internal, "profile.build").Because(err)
	}
	return i.lint(f.Profile, der, f)
}

// clock skew between two nodes, and how far back a live certificate may begin.
const (
	maxSkew     = time.Minute
	maxBackdate = time.Hour
)

// Relint is the signer's own check of bytes that another process prepared: it
// reads the facts from them, checks these against the profile and the clock, writes
// the certificate anew from the facts alone, and accepts only equal bytes. Whatever
// an attacker adds, drops or changes is therefore refused without a rule for it.
func (i *Issuer) Relint(p Profile, tbs []byte, now time.Time) (*Linted, error) {
	refused := pki.E(pki.Forbidden, "profile.tbs")
	if len(tbs) > maxTBS {
		return nil, refused.With("Part", "size")
	}
	der := wrap(tbs, i.alg, make([]byte, 64))
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refused.With("Part", "form").Because(err)
	}
	switch {
	case c.NotBefore.After(now.Add(maxSkew)):
		return nil, pki.E(pki.Forbidden, "profile.postdated").With("NotBefore", c.NotBefore)
	case !i.cfg.Demo && c.NotBefore.Before(now.Add(-maxBackdate)):
		return nil, pki.E(pki.Forbidden, "profile.backdated").With("NotBefore", c.NotBefore)
	}
	params := Params{Profile: p, Serial: c.SerialNumber, NotBefore: c.NotBefore, PublicKey: c.PublicKey,
		CommonName: c.Subject.CommonName, DNSNames: c.DNSNames, IPAddresses: c.IPAddresses}
	if p.Holder {
		params.Holder = i.holderOf(c)
		if params.Holder == (pki.Holder{}) {
			return nil, refused.With("Part", "subject")
		}
	}
	f, err := i.check(params)
	if err != nil {
		return nil, err
	}
	return i.lint(p, der, f)
}

// maxTBS is generous: a holder's TBS with RSA-4096 has about 1,300 bytes.
const maxTBS = 8 << 10

// holderOf finds the holder whose subject this is; zero when there is none.
func (i *Issuer) holderOf(c *x509.Certificate) pki.Holder {
	for _, info := range pki.Kinds() {
		h, err := pki.ParseHolder(info.Kind, c.Subject.CommonName)
		ous := c.Subject.OrganizationalUnit
		if err == nil && slices.Equal(ous, []string{h.Prefecture(), i.cfg.kindOU(h.Kind)}) {
			return h
		}
	}
	return pki.Holder{}
}

// lint compares with our own encoding and asks both linters.
func (i *Issuer) lint(p Profile, der []byte, f facts) (*Linted, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pki.E(pki.Internal, "profile.build").Because(err)
	}
	want, err := i.encodeTBS(f)
	if err != nil {
		return nil, pki.E(pki.Internal, "profile.build").Because(err)
	}
	if !bytes.Equal(want, c.RawTBSCertificate) {
		return nil, pki.E(pki.Forbidden, "profile.tbs").With("Part", difference(want, c))
	}
	findings := append(lint.Certificate(p.ID, c), general(der)...)
	if len(findings) > 0 {
		return nil, pki.E(pki.Forbidden, "profile.lint").With("Rule", findings[0].Rule).Because(fmt.Errorf("%s", lint.Text(findings)))
	}
	return &Linted{issuer: i, profile: p.ID, cert: c}, nil
}

// difference names the first part that is not as it should be, for the log.
func difference(tbs []byte, got *x509.Certificate) string {
	want, err := x509.ParseCertificate(wrap(tbs, rsaSHA256, []byte{0}))
	if err != nil { // another algorithm than RSA: the inner one does not match the wrapper
		for _, alg := range []algorithm{ecdsaSHA256, ecdsaSHA384} {
			want, err = x509.ParseCertificate(wrap(tbs, alg, []byte{0}))
			if err == nil {
				break
			}
		}
	}
	switch {
	case err != nil:
		return "unknown"
	case !bytes.Equal(want.RawIssuer, got.RawIssuer):
		return "issuer"
	case !bytes.Equal(want.RawSubject, got.RawSubject):
		return "subject"
	case !want.NotAfter.Equal(got.NotAfter) || !want.NotBefore.Equal(got.NotBefore):
		return "validity"
	case !slices.EqualFunc(want.Extensions, got.Extensions, sameExtension):
		return "extensions"
	}
	return "encoding"
}

func sameExtension(a, b pkix.Extension) bool {
	return a.Id.Equal(b.Id) && a.Critical == b.Critical && bytes.Equal(a.Value, b.Value)
}

// Assemble joins the linted bytes and a signature (line 6): the result parses,
// holds exactly these bytes, and its signature verifies under the issuer.
func (i *Issuer) Assemble(tbs, signature []byte) (*x509.Certificate, error) {
	refused := pki.E(pki.Internal, "issuance.signature")
	c, err := x509.ParseCertificate(wrap(tbs, i.alg, signature))
	if err != nil {
		return nil, refused.Because(err)
	}
	if !bytes.Equal(c.RawTBSCertificate, tbs) || !bytes.Equal(c.RawIssuer, i.cert.RawSubject) {
		return nil, refused
	}
	err = i.cert.CheckSignature(i.alg.x509, tbs, c.Signature)
	if err != nil {
		return nil, refused.Because(err)
	}
	return c, nil
}

// template is the certificate in the standard library's words.
func (i *Issuer) template(f facts) *x509.Certificate {
	p := f.Profile
	t := &x509.Certificate{
		SerialNumber: f.Serial, RawSubject: f.subject, NotBefore: f.NotBefore, NotAfter: f.notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{p.Usage},
		BasicConstraintsValid: true, SubjectKeyId: keyID(f.spki), SignatureAlgorithm: i.alg.x509,
	}
	if p.Status {
		t.OCSPServer = []string{i.cfg.ocspURL()}
		t.IssuingCertificateURL = []string{i.cfg.caURL(i.id)}
	}
	if p.Revoked {
		t.CRLDistributionPoints = []string{i.cfg.crlURL(i.id)}
	}
	if p.Policy {
		t.Policies = i.oids
	}
	if p.Names {
		t.DNSNames = f.DNSNames
		t.IPAddresses = append([]net.IP(nil), f.IPAddresses...)
	}
	if p.NoCheck {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}}
	}
	return t
}
