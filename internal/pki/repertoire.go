package pki

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

// repertoire.txt holds the letters of names, in the order of their numbers: JIS X 0208,
// 0212 and 0213, the extensions of code page 932, printable ASCII and half-width kana.
// What joins with the letter before it, takes no room or has no ink is not among them:
// people type composed letters, and the site composes what they paste.
//
//go:embed repertoire.txt
var repertoireText string

var repertoire = sync.OnceValue(func() []rune { return []rune(strings.ReplaceAll(repertoireText, "\n", "")) })

// seen says whether a letter is printed by every office's printer as the reviewer sees
// it on the screen (threat AP8). Blanks are the two that keyboards have.
func seen(r rune) bool {
	if r == ' ' || r == '\u3000' {
		return true
	}
	_, found := slices.BinarySearch(repertoire(), r)
	return found
}
