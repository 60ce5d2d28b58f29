package pki

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// ReferenceAlphabet has the 56 letters and digits without look-alikes
// (0 O o 1 l I).
const ReferenceAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"

// ReferenceIDLength is the length of a reference ID: 56^10 = 2^58.07.
const ReferenceIDLength = 10

// NewReferenceID draws a reference ID (リファレンス ID) from the system's CSPRNG by
// rejection sampling, so that every letter is equally likely.
func NewReferenceID() Secret {
	out := make([]byte, 0, ReferenceIDLength)
	buf := make([]byte, 32)
	const limit = 256 - 256%len(ReferenceAlphabet)
	for len(out) < ReferenceIDLength {
		_, _ = rand.Read(buf) // never fails; see crypto/rand
		for _, b := range buf {
			if int(b) < limit && len(out) < ReferenceIDLength {
				out = append(out, ReferenceAlphabet[int(b)%len(ReferenceAlphabet)])
			}
		}
	}
	return Secret(out)
}

// ParseReferenceID folds what people type (full-width letters, blanks, hyphens) and
// checks length and alphabet. Case is kept: it matters.
func ParseReferenceID(s string) (Secret, bool) {
	s = strings.Map(func(r rune) rune {
		if r >= '！' && r <= '～' { // full-width ASCII
			return r - '！' + '!'
		}
		return r
	}, s)
	s = NarrowDigits(s)
	if len(s) != ReferenceIDLength || strings.Trim(s, ReferenceAlphabet) != "" {
		return "", false
	}
	return Secret(s), true
}

// NewRequestID makes a request ID (リクエスト ID): the day in Japan and a sequence
// of seven digits within that day.
func NewRequestID(now time.Time, seq int) (string, error) {
	if seq < 1 || seq > 9_999_999 {
		return "", E(Limited, "request.day_full")
	}
	return now.In(JST).Format("20060102") + fmt.Sprintf("%07d", seq), nil
}

// ParseRequestID folds what people type and checks the form: 15 digits that begin
// with a date.
func ParseRequestID(s string) (string, bool) {
	s = NarrowDigits(s)
	if len(s) != 15 || !allDigits(s) {
		return "", false
	}
	_, err := time.Parse("20060102", s[:8])
	return s, err == nil
}

// ParsePIN checks a certificate password (証明書パスワード) of the download site:
// exactly four half-width digits (manual §2.3). Full-width digits are not folded:
// Windows would not fold them when the file is opened.
func ParsePIN(s string) (Secret, bool) {
	return Secret(s), len(s) == 4 && allDigits(s)
}

// ParseLongPIN checks a certificate password of 鍵の取得: four half-width digits or more
// (manual §3.2), at most sixteen.
func ParseLongPIN(s string) (Secret, bool) {
	return Secret(s), len(s) >= 4 && len(s) <= 16 && allDigits(s)
}
