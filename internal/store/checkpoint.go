package store

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// Checkpoint is what is signed about the audit tree: the text of a C2SP
// tlog-checkpoint, inside a signed note (golang.org/x/mod/sumdb/note).
type Checkpoint struct {
	Origin string // "inkan/<instance>"
	Size   int64
	Root   tlog.Hash
}

// Text gives the three lines to be signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseCheckpoint reads the text of a checkpoint, or a whole note; it does not look
// at signatures.
func ParseCheckpoint(text string) (Checkpoint, error) {
	malformed := pki.E(pki.Invalid, "audit.checkpoint")
	if len(text) > 64<<10 {
		return Checkpoint{}, malformed
	}
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, malformed
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, malformed
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, malformed
	}
	return Checkpoint{lines[0], size, tlog.Hash(root)}, nil
}

// SaveCheckpoint keeps a signed note of our own tree. A note of another tree is
// refused: pki.Error audit.checkpoint_differs. The first note of a size is kept.
func (tx *Tx) SaveCheckpoint(note []byte) error {
	c, err := ParseCheckpoint(string(note))
	if err != nil {
		return err
	}
	differs := pki.E(pki.Conflict, "audit.checkpoint_differs")
	size, root, err := tx.AuditTree()
	if err != nil {
		return err
	}
	if c.Size > size {
		return differs
	}
	if c.Size < size {
		root, err = tx.treeHash(c.Size)
		if err != nil {
			return err
		}
	}
	if root != c.Root {
		return differs
	}
	_, err = tx.exec(`INSERT INTO checkpoint (size, note, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, c.Size, note, micros(tx.Now))
	return dbError("save checkpoint", err)
}

// SignedCheckpoint is a saved note.
type SignedCheckpoint struct {
	Checkpoint
	Note []byte
	At   time.Time
}

// LastCheckpoint gives the newest saved checkpoint; pki.ErrNotFound before the
// first.
func (tx *Tx) LastCheckpoint() (SignedCheckpoint, error) {
	var c SignedCheckpoint
	var at int64
	err := tx.queryRow(`SELECT note, at FROM checkpoint ORDER BY size DESC LIMIT 1`).Scan(&c.Note, &at)
	if err != nil {
		return c, dbError("read checkpoint", err)
	}
	c.At = fromMicros(at)
	c.Checkpoint, err = ParseCheckpoint(string(c.Note))
	return c, err
}

// ProveConsistency proves that the tree of the older size is a beginning of the
// tree of the newer: what a witness asks.
func (tx *Tx) ProveConsistency(older, newer int64) (tlog.TreeProof, error) {
	size, _, err := tx.AuditTree()
	if err != nil {
		return nil, err
	}
	if older < 1 || older > newer || newer > size {
		return nil, pki.ErrNotFound
	}
	proof, err := tlog.ProveTree(newer, older, tlog.HashReaderFunc(tx.storedHashes))
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return proof, nil
}

func (tx *Tx) treeHash(size int64) (tlog.Hash, error) {
	h, err := tlog.TreeHash(size, tlog.HashReaderFunc(tx.storedHashes))
	if err != nil {
		return h, fmt.Errorf("hash audit tree of %d records: %w", size, err)
	}
	return h, nil
}
