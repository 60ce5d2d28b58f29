package pki_test

import (
	"strings"
	"testing"

	"inkan/internal/pki"
)

// TestThreatDL1: of a million reference IDs every letter is equally likely at every place.
// The limit is passed by chance once in ten million runs; a letter drawn modulo 56
// without rejection would be off by ten thousands.
func TestThreatDL1(t *testing.T) {
	const ids, limit = 1_000_000, 135.0 // chi-square, 55 degrees of freedom
	var seen [pki.ReferenceIDLength][128]int
	for range ids {
		id := pki.NewReferenceID().Reveal()
		if len(id) != pki.ReferenceIDLength || strings.Trim(id, pki.ReferenceAlphabet) != "" {
			t.Fatalf("drew %q", id)
		}
		for place, letter := range []byte(id) {
			seen[place][letter]++
		}
	}
	want := float64(ids) / float64(len(pki.ReferenceAlphabet))
	for place, counts := range seen {
		chi := 0.0
		for _, letter := range []byte(pki.ReferenceAlphabet) {
			off := float64(counts[letter]) - want
			chi += off * off / want
		}
		if chi > limit {
			t.Errorf("place %d: chi-square %.0f, limit %.0f", place, chi, limit)
		}
	}
}
