package issuance

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
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
	hashes map[crypto.Hash]issuerHashes

	standIn []byte // a signature in the form of the issuer's that nobody made
	shapes  shapes
}

// NewIssuer takes a CA's certificate and checks that it is what its ID says.
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
	i := &Issuer{id: id, cert: cert, cfg: cfg, alg: algorithmOf(keyType), standIn: standIn(keyType)}
	policies, err := cfg.policies()
	if err != nil {
		return nil, err
	}
	if len(policies) > 0 {
		i.policy, err = policies[0].MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("encode policy: %w", err)
		}
	}
	i.hashes = hashIssuer(i)
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

// SPKI gives the DER of the public key. It is not to be changed.
func (l *Linted) SPKI() []byte { return l.cert.RawSubjectPublicKeyInfo }

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

// Prepare builds and lints a certificate (line 3 of issuance): our encoder writes it,
// the standard library reads it back, and what was read must be what was meant. It
// is read with a stand-in for the signature, so that no key is used before the lint,
// and what was linted can never be taken for a certificate (ADR 50).
func (i *Issuer) Prepare(p Params) (*Linted, error) {
	f, err := i.check(p)
	if err != nil {
		return nil, err
	}
	tbs, err := i.encodeTBS(f)
	if err != nil {
		return nil, pki.E(pki.Internal, "profile.build").Because(err)
	}
	der := wrap(tbs, i.alg, i.standIn)
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pki.E(pki.Internal, "profile.build").Because(err)
	}
	if !f.reads(c) {
		return nil, pki.E(pki.Internal, "profile.build").Because(errors.New("what was read is not what was meant"))
	}
	findings := lint.Certificate(f.Profile.ID, c)
	if len(findings) == 0 {
		findings = i.shapes.general(f, der)
	}
	return i.linted(f.Profile, c, findings)
}

// clock skew between two nodes, and how far back a live certificate may begin.
const (
	maxSkew     = time.Minute
	maxBackdate = time.Hour
)

// Relint is the signer's own check of bytes that another process prepared: it
// reads the facts from them, checks these against the profile and the clock, writes
// the certificate anew from the facts alone, and accepts only equal bytes. Whatever
// an attacker adds, drops or changes is therefore refused without a rule for it, and
// no parser but the standard library's is near the keys. Then our own rules look at
// it once more.
func (i *Issuer) Relint(p Profile, tbs []byte, now time.Time) (*Linted, error) {
	refused := pki.E(pki.Forbidden, "profile.tbs")
	if len(tbs) > maxTBS {
		return nil, refused.With("Part", "size")
	}
	c, err := x509.ParseCertificate(wrap(tbs, i.alg, i.standIn))
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
	want, err := i.encodeTBS(f)
	if err != nil {
		return nil, pki.E(pki.Internal, "profile.build").Because(err)
	}
	if !bytes.Equal(want, tbs) {
		return nil, refused.With("Part", difference(want, c))
	}
	return i.linted(p, c, lint.Certificate(p.ID, c))
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

// linted makes the token, unless a rule was broken.
func (i *Issuer) linted(p Profile, c *x509.Certificate, findings []lint.Finding) (*Linted, error) {
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
