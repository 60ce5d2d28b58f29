package issuance

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
	if len(der) < 2 || der[0]&0x1f == 0x1f {
		return 0, nil, nil, false
	}
	length, at := int(der[1]), 2
	if length > 0x7f {
		octets := length & 0x7f
		if octets == 0 || octets > 4 || len(der) < 2+octets || der[2] == 0 {
			return 0, nil, nil, false
		}
		length = 0
		for _, b := range der[2 : 2+octets] {
			length = length<<8 | int(b)
		}
		if length <= 0x7f {
			return 0, nil, nil, false
		}
		at += octets
	}
	if length > len(der)-at {
		return 0, nil, nil, false
	}
	return der[0], der[at : at+length], der[at+length:], true
}
