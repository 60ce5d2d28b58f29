package pki_test

import (
	"strings"
	"testing"

	"inkan/internal/pki"
)

// DL1: every letter of a reference ID is equally likely at every place. With 55
// degrees of freedom chi-square is outside 18…121 once in a million draws.
func TestThreatDL1ReferenceIDsAreUniform(t *testing.T) {
	ids := 1_000_000
	if testing.Short() {
		ids = 100_000
	}
	var counts [pki.ReferenceIDLength][128]int
	for range ids {
		id := pki.NewReferenceID().Reveal()
		if len(id) != pki.ReferenceIDLength {
			t.Fatalf("%d letters", len(id))
		}
		for place := range counts {
			counts[place][id[place]&127]++
		}
	}
	want := float64(ids) / float64(len(pki.ReferenceAlphabet))
	for place := range counts {
		chi, seen := 0.0, 0
		for i := range len(pki.ReferenceAlphabet) {
			n := counts[place][pki.ReferenceAlphabet[i]]
			chi += (float64(n) - want) * (float64(n) - want) / want
			seen += n
		}
		if chi < 18 || chi > 121 {
			t.Errorf("place %d: chi-square %.1f", place, chi)
		}
		if seen != ids {
			t.Errorf("place %d: %d letters are not of the alphabet", place, ids-seen)
		}
	}
}

func TestReferenceAlphabet(t *testing.T) {
	if len(pki.ReferenceAlphabet) != 56 || strings.ContainsAny(pki.ReferenceAlphabet, "0Oo1lI") {
		t.Errorf("alphabet %s", pki.ReferenceAlphabet)
	}
	for i := range len(pki.ReferenceAlphabet) {
		if strings.Count(pki.ReferenceAlphabet, pki.ReferenceAlphabet[i:i+1]) != 1 {
			t.Errorf("%c is there twice", pki.ReferenceAlphabet[i])
		}
	}
}

func TestParseReferenceID(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"Abcde23456", "Abcde23456", true},
		{" Abcde 23456 ", "Abcde23456", true},
		{"Abcde-23456", "Abcde23456", true},
		{"Ａｂｃｄｅ２３４５６", "Abcde23456", true},
		{"abcde23456", "abcde23456", true}, // case is kept: it is another ID
		{"Abcde2345", "", false},
		{"Abcde234567", "", false},
		{"Abcde2345O", "", false},
		{"Abcde2345é", "", false},
		{"", "", false},
	} {
		got, ok := pki.ParseReferenceID(tt.in)
		if ok != tt.ok || got.Reveal() != tt.want {
			t.Errorf("%q: got %q, %v", tt.in, got.Reveal(), ok)
		}
	}
}
