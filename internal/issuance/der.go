package issuance

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Raw DER for the one place where a million elements pass: revocation lists.

// headerSize is the number of octets of tag and length.
func headerSize(length int) int {
	size := 2
	if length > 0x7f {
		for n := length; n > 0; n >>= 8 {
			size++
		}
	}
	return size
}

func appendHeader(out []byte, tag byte, length int) []byte {
	out = append(out, tag)
	if length <= 0x7f {
		return append(out, byte(length))
	}
	octets := headerSize(length) - 2
	out = append(out, 0x80|byte(octets))
	for shift := 8 * (octets - 1); shift >= 0; shift -= 8 {
		out = append(out, byte(length>>shift))
	}
	return out
}

// readElement splits the first element from der: its tag, its content, what
// follows. Lengths must be in their shortest form, as DER says.
func readElement(der []byte) (byte, []byte, []byte, bool) {
	rest := cryptobyte.String(der)
	var content cryptobyte.String
	var tag asn1.Tag
	if !rest.ReadAnyASN1(&content, &tag) {
		return 0, nil, nil, false
	}
	return byte(tag), content, rest, true
}
