package pki

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Checkpoint (チェックポイント) is what is signed about the audit tree: the text of a C2SP
// tlog-checkpoint with one extension line, inside a signed note
// (golang.org/x/mod/sumdb/note).
type Checkpoint struct {
	Origin string // "inkan/<instance>"
	Size   int64
	Root   [32]byte
	Number int64 // of the instance's checkpoints: 1, 2, 3 …; a missing one leaves a gap
}

// numberLine begins the extension line.
const numberLine = "number "

// Text gives the four lines to be signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n%s%d\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), numberLine, c.Number)
}

// Same says whether two checkpoints are of one tree and bear one number.
func (c Checkpoint) Same(other Checkpoint) bool {
	return c.Number == other.Number && c.Size == other.Size && c.Root == other.Root
}

// checkpointJSON is a checkpoint as JSON; its origin is said elsewhere.
type checkpointJSON struct {
	Number int64  `json:"number"`
	Size   int64  `json:"size"`
	Root   []byte `json:"root"`
}

// MarshalJSON gives number, size and root, the root in base64.
func (c Checkpoint) MarshalJSON() ([]byte, error) {
	return json.Marshal(checkpointJSON{c.Number, c.Size, c.Root[:]})
}

// UnmarshalJSON reads what MarshalJSON gives.
func (c *Checkpoint) UnmarshalJSON(raw []byte) error {
	var in checkpointJSON
	err := json.Unmarshal(raw, &in)
	if err != nil {
		return err
	}
	if len(in.Root) != len(c.Root) {
		return fmt.Errorf("root of %d octets", len(in.Root))
	}
	*c = Checkpoint{Number: in.Number, Size: in.Size, Root: [32]byte(in.Root)}
	return nil
}

// ParseCheckpoint reads the text of a checkpoint, or a whole note; it does not look
// at signatures.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	malformed := E(Invalid, "audit.checkpoint")
	if len(text) > 64<<10 {
		return Checkpoint{}, malformed
	}
	lines := strings.SplitN(text, "\n", 5)
	if len(lines) < 5 || lines[0] == "" {
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
	number, err := strconv.ParseInt(strings.TrimPrefix(lines[3], numberLine), 10, 64)
	if err != nil || number < 0 {
		return Checkpoint{}, malformed
	}
	c = Checkpoint{lines[0], size, [32]byte(root), number}
	if !strings.HasPrefix(text, c.Text()) { // a number with a sign, base64 with line ends in it
		return Checkpoint{}, malformed
	}
	return c, nil
}
