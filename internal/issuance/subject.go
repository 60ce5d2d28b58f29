package issuance

import (
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// attribute is one RDN of a subject.
type attribute struct {
	oid   []byte
	value string
}

var (
	oidCountry      = []byte{0x55, 4, 6}
	oidOrganization = []byte{0x55, 4, 10}
	oidUnit         = []byte{0x55, 4, 11}
	oidCommonName   = []byte{0x55, 4, 3}
)

// encodeName writes a distinguished name, one attribute an RDN, in the given order
// (Windows shows it reversed). Empty values are left out. The standard library
// sorts attributes by its own order and joins several OUs into one RDN, so this is
// written by hand.
func encodeName(attributes []attribute) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range attributes {
			if a.value == "" {
				continue
			}
			b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(a.oid) })
					tag := asn1.UTF8String
					if printable(a.value) {
						tag = asn1.PrintableString
					}
					b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.value)) })
				})
			})
		}
	})
	return b.Bytes()
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune(" '()+,-./:=?", r)
	})
}
