package issuance

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"inkan/internal/pki"
)

// Answers without a signature.
var (
	OCSPMalformed    = ocsp.MalformedRequestErrorResponse
	OCSPInternal     = ocsp.InternalErrorErrorResponse
	OCSPTryLater     = ocsp.TryLaterErrorResponse
	OCSPUnauthorized = ocsp.UnauthorizedErrorResponse
)

// OCSPStatus is the status of a certificate in an answer.
type OCSPStatus int

// The statuses; codes are the tags of RFC 6960.
const (
	OCSPGood    OCSPStatus = 0
	OCSPRevoked OCSPStatus = 1
	OCSPUnknown OCSPStatus = 2
)

// OCSPAnswer is the status of one certificate.
type OCSPAnswer struct {
	ID         CertID
	Status     OCSPStatus
	RevokedAt  time.Time
	Reason     pki.Reason
	ThisUpdate time.Time
	NextUpdate time.Time
	// InvalidSince is the invalidity date of the CRL's entry, which an answer may repeat
	// (RFC 6960 §4.4.5); zero: none.
	InvalidSince time.Time
}

// Responder signs OCSP answers with a short-lived key of its own (threat ST10).
type Responder struct {
	cert *x509.Certificate
	key  crypto.Signer
	alg  algorithm
}

// NewResponder takes a certificate of profile ocsp and its key.
func NewResponder(i *Issuer, cert *x509.Certificate, key crypto.Signer) (*Responder, error) {
	err := cert.CheckSignatureFrom(i.cert)
	if err != nil {
		return nil, fmt.Errorf("check responder: %w", err)
	}
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(cert.PublicKey) || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) {
		return nil, fmt.Errorf("check responder: key or purpose does not fit the certificate")
	}
	keyType, ok := KeyTypeOf(cert.PublicKey)
	if !ok {
		return nil, fmt.Errorf("check responder: key of an unknown type")
	}
	return &Responder{cert: cert, key: key, alg: algorithmOf(keyType)}, nil
}

// Certificate gives the responder's certificate.
func (r *Responder) Certificate() *x509.Certificate { return r.cert }

// Answer signs a response. The library that reads OCSP in Go writes neither a nonce
// nor more than one answer, and takes producedAt from the wall clock, so the encoding
// is ours (threats ST2, ST4). A nonce of nil is left out.
func (r *Responder) Answer(answers []OCSPAnswer, nonce []byte, producedAt time.Time) ([]byte, error) {
	tbs, err := r.responseData(answers, nonce, producedAt)
	if err != nil {
		return nil, fmt.Errorf("encode OCSP answer: %w", err)
	}
	h := r.alg.hash.New()
	h.Write(tbs)
	signature, err := r.key.Sign(rand.Reader, h.Sum(nil), r.alg.hash)
	if err != nil {
		return nil, fmt.Errorf("sign OCSP answer: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidBasicOCSP)
				b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(tbs)
						b.AddBytes(r.alg.der)
						b.AddASN1BitString(signature)
						b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
							b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.cert.Raw) })
						})
					})
				})
			})
		})
	})
	return b.Bytes()
}

func (r *Responder) responseData(answers []OCSPAnswer, nonce []byte, producedAt time.Time) ([]byte, error) {
	if len(answers) == 0 || len(answers) > MaxOCSPIDs {
		return nil, fmt.Errorf("%d answers", len(answers))
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddBytes(r.cert.RawSubject) }) // byName: byKey needs SHA-1
		b.AddASN1GeneralizedTime(producedAt.UTC())
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, a := range answers {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addAnswer(b, a) })
			}
		})
		if nonce != nil {
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addExtension(b, oidNonce, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
				})
			})
		}
	})
	return b.Bytes()
}

func addAnswer(b *cryptobyte.Builder, a OCSPAnswer) {
	b.AddBytes(a.ID.Raw)
	switch a.Status {
	case OCSPGood:
		b.AddASN1(asn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	case OCSPRevoked:
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(a.RevokedAt.UTC())
			if a.Reason != pki.Unspecified {
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(a.Reason)) })
			}
		})
	default:
		b.AddASN1(asn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	}
	b.AddASN1GeneralizedTime(a.ThisUpdate.UTC())
	b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.NextUpdate.UTC()) })
	if a.Status != OCSPRevoked || a.InvalidSince.IsZero() {
		return
	}
	b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addExtension(b, oidInvalidity, false, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.InvalidSince.UTC()) })
		})
	})
}
