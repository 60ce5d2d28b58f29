package catest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/testkit"
)

// Held is a certificate with its key, in the hands of its holder.
type Held struct {
	pki.Request
	Pair tls.Certificate
}

// Holding takes an application all the way to the file that its holder downloads.
func (o *Office) Holding(a pki.Application) Held {
	o.T.Helper()
	r := o.Issued(a)
	ref := o.Reference(r.ID)
	if !o.options.Activate {
		o.Dispatch(r.ID)
	}
	ticket, err := o.RA.PreparePickup(o.T.Context(), Pickup(r.ID, ref))
	Must(o.T, err)
	return o.fetch(r.ID, ticket)
}

// Keeping is a certificate for a key that its holder made.
func (o *Office) Keeping(a pki.Application) Held {
	o.T.Helper()
	key := o.Keyed(pki.P256)
	a.CSR = testkit.CSR(o.T, key)
	r := o.Issued(a)
	leaf := o.Leaf(r.Serial)
	return Held{r, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}}
}

// Fetch takes the file of a renewal with the certificate that it was renewed from.
func (o *Office) Fetch(with Held, request string) Held {
	o.T.Helper()
	ticket, err := o.RA.PrepareRenewal(o.T.Context(), with.Pair.Leaf, Pickup(request, ""))
	Must(o.T, err)
	return o.fetch(request, ticket)
}

func (o *Office) fetch(request string, ticket pki.Secret) Held {
	o.T.Helper()
	_, file, err := o.RA.PickupFile(o.T.Context(), ticket, Cookie)
	Must(o.T, err)
	return Held{o.Request(request), Open(o, file, "1234")}
}

// Open opens a PKCS#12 file.
func Open(o *Office, file []byte, pin string) tls.Certificate {
	o.T.Helper()
	key, leaf, chain, err := pkcs12.DecodeChain(file, pin)
	Must(o.T, err)
	pair := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// DaysBefore lets the time pass until some days before the end of a certificate.
func (o *Office) DaysBefore(h Held, days int) { o.Set(h.Pair.Leaf.NotAfter.AddDate(0, 0, -days)) }

// Wish is the wish of a holder to renew.
func Wish(h Held) ra.RenewInput {
	return ra.RenewInput{Leaf: h.Pair.Leaf, Source: netip.MustParseAddr("192.0.2.7"), Language: "ja"}
}

// Renewed is the renewal of a certificate, issued.
func (o *Office) Renewed(h Held) pki.Request {
	o.T.Helper()
	r, err := o.RA.Renew(o.T.Context(), Wish(h))
	Must(o.T, err)
	r = o.Request(r.ID)
	if r.State != pki.Issued {
		o.T.Fatalf("the renewal is %s\n%s", r.State, o.Log)
	}
	return r
}

// Strangers are certificates that the register does not know, by what they are: of a CA
// that looks like ours, and signed by our CA's own key beside the product.
func (o *Office) Strangers(like Held) map[string]tls.Certificate {
	o.T.Helper()
	at := o.Now()
	key := o.Keyed(pki.P256)
	sign := func(change func(*x509.Certificate), parent *x509.Certificate, by crypto.Signer) tls.Certificate {
		template := &x509.Certificate{SerialNumber: issuance.NewSerial(), RawSubject: like.Pair.Leaf.RawSubject,
			NotBefore: at.Add(-time.Hour), NotAfter: at.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		change(template)
		if parent == nil {
			parent = template
		}
		leaf := testkit.Sign(o.T, template, parent, key.Public(), by)
		return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	}
	as := func(*x509.Certificate) {}
	real := o.CAs[issuance.G1]
	fakeKey := o.Keyed(pki.P256)
	fakeCA := testkit.Sign(o.T, &x509.Certificate{SerialNumber: real.SerialNumber, RawSubject: real.RawSubject, SubjectKeyId: real.SubjectKeyId,
		NotBefore: real.NotBefore, NotAfter: real.NotAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign},
		&x509.Certificate{RawSubject: real.RawIssuer}, fakeKey.Public(), fakeKey)
	lookAlike := sign(as, fakeCA, fakeKey)
	broken := lookAlike
	broken.Certificate = [][]byte{lookAlike.Certificate[0], o.CAs[issuance.TLS].Raw}
	whole := lookAlike
	whole.Certificate = [][]byte{lookAlike.Certificate[0], fakeCA.Raw}
	theft := o.Keys[issuance.G1]
	return map[string]tls.Certificate{
		"look-alike":            whole,
		"look-alike, no chain":  lookAlike,
		"broken chain":          broken,
		"self-signed":           sign(as, nil, key),
		"another subject":       sign(func(c *x509.Certificate) { c.RawSubject, c.Subject = nil, pkix.Name{} }, nil, key),
		"expired stranger":      sign(func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Minute) }, fakeCA, fakeKey),
		"stolen key":            sign(as, real, theft),
		"stolen key, wrong EKU": sign(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, real, theft),
	}
}
