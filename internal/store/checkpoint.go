package store

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// SaveCheckpoint keeps a signed note of our own tree. A note of another tree is
// refused: pki.Error audit.checkpoint_differs. The first note of a size is kept.
func (tx *Tx) SaveCheckpoint(note []byte) error {
	c, err := pki.ParseCheckpoint(string(note))
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
	pki.Checkpoint
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
	c.Checkpoint, err = pki.ParseCheckpoint(string(c.Note))
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
