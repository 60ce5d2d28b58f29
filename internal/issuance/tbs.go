package issuance

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Content octets of the object identifiers that we write.
var (
	oidKeyUsage    = []byte{0x55, 0x1d, 15}
	oidExtKeyUsage = []byte{0x55, 0x1d, 37}
	oidBasic       = []byte{0x55, 0x1d, 19}
	oidSubjectKey  = []byte{0x55, 0x1d, 14}
	oidAuthority   = []byte{0x55, 0x1d, 35}
	oidAltName     = []byte{0x55, 0x1d, 17}
	oidPolicies    = []byte{0x55, 0x1d, 32}
	oidCRLPoints   = []byte{0x55, 0x1d, 31}
	oidCRLNumber   = []byte{0x55, 0x1d, 20}
	oidInvalidity  = []byte{0x55, 0x1d, 24}
	oidInfoAccess  = mustHex("2b06010505070101")
	oidAccessOCSP  = mustHex("2b06010505073001")
	oidAccessCA    = mustHex("2b06010505073002")
	oidNoCheck     = mustHex("2b0601050507300105")
	oidNonce       = mustHex("2b0601050507300102")
	oidBasicOCSP   = mustHex("2b0601050507300101")
	oidForServers  = mustHex("2b06010505070301")
	oidForClients  = mustHex("2b06010505070302")
	oidForOCSP     = mustHex("2b06010505070309")
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return b
}

type build = func(*cryptobyte.Builder)

func addOID(b *cryptobyte.Builder, oid []byte) {
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
}

// addTime writes a Time of RFC 5280: UTCTime through 2049.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t.UTC())
		return
	}
	b.AddASN1GeneralizedTime(t.UTC())
}

func addExtension(b *cryptobyte.Builder, oid []byte, critical bool, value build) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(asn1.OCTET_STRING, value)
	})
}

// encodeTBS writes the bytes that a certificate of these facts must have: the only
// ones that get signed. It is written apart from the standard library's encoder
// on purpose, and from the same facts.
func (i *Issuer) encodeTBS(f facts) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1BigInt(f.Serial)
		b.AddBytes(i.alg.der)
		b.AddBytes(i.cert.RawSubject)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, f.NotBefore)
			addTime(b, f.notAfter)
		})
		b.AddBytes(f.subject)
		b.AddBytes(f.spki)
		b.AddASN1(asn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { i.addExtensions(b, f) })
		})
	})
	return b.Bytes()
}

func (i *Issuer) addExtensions(b *cryptobyte.Builder, f facts) {
	p := f.Profile
	// digitalSignature alone, for RSA too: RFC 5280 §4.2.1.12 finds keyEncipherment
	// inconsistent with clientAuth, and no TLS that we speak needs it.
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) { b.AddBytes([]byte{3, 2, 7, 0x80}) })
	addExtension(b, oidExtKeyUsage, false, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, purposeOID(p.Usage)) })
	})
	addExtension(b, oidBasic, true, func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, func(*cryptobyte.Builder) {}) })
	addExtension(b, oidSubjectKey, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID(f.spki)) })
	i.addAuthorityKey(b)
	if p.Status {
		addExtension(b, oidInfoAccess, false, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addAccess(b, oidAccessOCSP, i.cfg.ocspURL())
				addAccess(b, oidAccessCA, i.cfg.caURL(i.id))
			})
		})
	}
	if p.Names {
		addExtension(b, oidAltName, false, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, name := range f.DNSNames {
					b.AddASN1(asn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
				}
				for _, ip := range f.IPAddresses {
					b.AddASN1(asn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(ip) })
				}
			})
		})
	}
	if p.Policy && len(i.policy) > 0 {
		addExtension(b, oidPolicies, false, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, i.policy) })
			})
		})
	}
	if p.Revoked {
		addExtension(b, oidCRLPoints, false, func(b *cryptobyte.Builder) { addCRLPoint(b, i.cfg.crlURL(i.id)) })
	}
	if p.NoCheck {
		addExtension(b, oidNoCheck, false, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
	}
}

func (i *Issuer) addAuthorityKey(b *cryptobyte.Builder) {
	addExtension(b, oidAuthority, false, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(i.cert.SubjectKeyId) })
		})
	})
}

func addURL(b *cryptobyte.Builder, url string) {
	b.AddASN1(asn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
}

func addAccess(b *cryptobyte.Builder, method []byte, url string) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, method)
		addURL(b, url)
	})
}

func addCRLPoint(b *cryptobyte.Builder, url string) {
	explicit := asn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(explicit, func(b *cryptobyte.Builder) {
				b.AddASN1(explicit, func(b *cryptobyte.Builder) { addURL(b, url) })
			})
		})
	})
}

func purposeOID(usage x509.ExtKeyUsage) []byte {
	switch usage {
	case x509.ExtKeyUsageServerAuth:
		return oidForServers
	case x509.ExtKeyUsageOCSPSigning:
		return oidForOCSP
	}
	return oidForClients
}

// wrap puts a TBS, an algorithm and a signature together: a certificate or a CRL.
func wrap(tbs []byte, alg algorithm, signature []byte) []byte {
	seal := afterTBS(alg, signature)
	inner := len(tbs) + len(seal)
	out := appendHeader(make([]byte, 0, headerSize(inner)+inner), 0x30, inner)
	return append(append(out, tbs...), seal...)
}

// afterTBS is what follows a TBS.
func afterTBS(alg algorithm, signature []byte) []byte {
	out := appendHeader(bytes.Clone(alg.der), 0x03, len(signature)+1)
	out = append(out, 0) // no unused bits
	return append(out, signature...)
}
