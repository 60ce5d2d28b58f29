package issuance

import (
	"bytes"
	"time"

	"inkan/internal/pki"
)

// What stands before the value of each entry extension that we write (RFC 5280 §5.3),
// with headers: reasonCode, and invalidityDate, which always is a GeneralizedTime.
var (
	reasonHead     = []byte{0x30, 10, 6, 3, 0x55, 0x1d, 21, 4, 3, 0x0a, 1}
	invalidityHead = []byte{0x30, 24, 6, 3, 0x55, 0x1d, 24, 4, 17, 0x18, 15}
)

const invalidityForm = "20060102150405Z"

// entryExtensions gives crlEntryExtensions; nothing at all where there is nothing to say.
func entryExtensions(reason pki.Reason, invalidSince time.Time) []byte {
	var inner []byte
	if reason != pki.Unspecified { // RFC 5280 §5.3.1: rather absent than unspecified
		inner = append(append(inner, reasonHead...), byte(reason))
	}
	if !invalidSince.IsZero() {
		inner = append(append(inner, invalidityHead...), invalidSince.UTC().Format(invalidityForm)...)
	}
	if len(inner) == 0 {
		return nil
	}
	return append(appendHeader(nil, 0x30, len(inner)), inner...)
}

// goodExtensions accepts what entryExtensions writes, and not nothing.
func goodExtensions(der []byte) bool {
	tag, inner, rest, ok := readElement(der)
	if !ok || tag != 0x30 || len(rest) != 0 || len(inner) == 0 {
		return false
	}
	value, ok := bytes.CutPrefix(inner, reasonHead)
	if ok {
		if len(value) == 0 || !goodReason(value[0]) {
			return false
		}
		inner = value[1:]
	}
	if len(inner) == 0 {
		return true
	}
	value, ok = bytes.CutPrefix(inner, invalidityHead)
	return ok && goodTime(0x18, value)
}

// goodReason: 1 to 6, 9 and 10; neither unspecified (then the extension is absent)
// nor removeFromCRL (that is for delta lists).
func goodReason(r byte) bool { return r >= 1 && r <= 6 || r == 9 || r == 10 }
