package pki

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Checkpoint is what is signed about the audit tree: the text of a C2SP
// tlog-checkpoint, inside a signed note (golang.org/x/mod/sumdb/note).
type Checkpoint struct {
	Origin string // "inkan/<instance>"
	Size   int64
	Root   [32]byte
}

// Text gives the three lines to be signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseCheckpoint reads the text of a checkpoint, or a whole note; it does not look
// at signatures.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	malformed := E(Invalid, "audit.checkpoint")
	if len(text) > 64<<10 {
		return Checkpoint{}, malformed
	}
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, malformed
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, malformed
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, malformed
	}
	c = Checkpoint{lines[0], size, [32]byte(root)}
	if !strings.HasPrefix(text, c.Text()) { // a number with a sign, base64 with line ends in it
		return Checkpoint{}, malformed
	}
	return c, nil
}
