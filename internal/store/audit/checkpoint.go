package audit

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// SaveCheckpoint keeps a signed note of our own tree. A note of another tree is
// refused: pki.Error audit.checkpoint_differs. The first note of a number is kept.
func (tx *Tx) SaveCheckpoint(note []byte) error {
	c, err := pki.ParseCheckpoint(string(note))
	if err != nil {
		return err
	}
	holds, err := tx.holds(c)
	if err != nil {
		return err
	}
	if !holds {
		return pki.E(pki.Conflict, "audit.checkpoint_differs")
	}
	_, err = tx.sql.Exec(`INSERT INTO checkpoint (number, size, note, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		c.Number, c.Size, note, engine.Micros(tx.sql.Now))
	return engine.Error("save checkpoint", err)
}

// holds says whether the tree had this root when it was of this size.
func (tx *Tx) holds(c pki.Checkpoint) (bool, error) {
	size, root, err := tx.AuditTree()
	if err != nil || c.Size > size {
		return false, err
	}
	if c.Size < size {
		root, err = tx.treeHash(c.Size)
	}
	if pki.CodeOf(err) == errTreeDamaged.Code {
		return false, nil
	}
	return root == c.Root, err
}

// SignedCheckpoint is a saved note.
type SignedCheckpoint struct {
	pki.Checkpoint
	Note []byte
	At   time.Time
}

// LastCheckpoint gives the saved checkpoint with the highest number; pki.ErrNotFound
// before the first.
func (tx *Tx) LastCheckpoint() (SignedCheckpoint, error) {
	return tx.checkpointBefore(1 << 62)
}

// Checkpoint gives the saved checkpoint of a number; pki.ErrNotFound where there is none.
func (tx *Tx) Checkpoint(number int64) (SignedCheckpoint, error) {
	c, err := tx.checkpointBefore(number + 1)
	if err == nil && c.Number != number {
		return SignedCheckpoint{}, pki.ErrNotFound
	}
	return c, err
}

// checkpointBefore gives the saved checkpoint with the highest number below another.
func (tx *Tx) checkpointBefore(number int64) (SignedCheckpoint, error) {
	var c SignedCheckpoint
	var own, at int64
	err := tx.sql.QueryRow(`SELECT number, note, at FROM checkpoint WHERE number < $1 ORDER BY number DESC LIMIT 1`, number).Scan(&own, &c.Note, &at)
	if err != nil {
		return c, engine.Error("read checkpoint", err)
	}
	c.At = engine.FromMicros(at)
	c.Checkpoint, err = pki.ParseCheckpoint(string(c.Note))
	if err == nil && c.Number != own {
		err = fmt.Errorf("the note of number %d is in the row of %d", c.Number, own)
	}
	if err != nil {
		return c, errForged.With("Number", own).Because(err)
	}
	return c, nil
}

// Checkpoints lists saved checkpoints in the order of their numbers, from the one after a
// number on. Their signatures are not looked at.
func (tx *Tx) Checkpoints(after int64, limit int) ([]pki.Checkpoint, error) {
	rows, err := tx.sql.Query(`SELECT number, note FROM checkpoint WHERE number > $1 ORDER BY number LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list checkpoints", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (pki.Checkpoint, error) {
		var number int64
		var signed []byte
		err := row.Scan(&number, &signed)
		if err != nil {
			return pki.Checkpoint{}, err
		}
		c, err := pki.ParseCheckpoint(string(signed))
		if err == nil && c.Number != number {
			err = fmt.Errorf("the note of number %d is in the row of %d", c.Number, number)
		}
		if err != nil {
			return c, errForged.With("Number", number).Because(err)
		}
		return c, nil
	})
}

// errForged says that a saved checkpoint is not one that the signer signed.
var errForged = pki.E(pki.Conflict, "audit.checkpoint_forged")

// NewestSigned gives the saved checkpoint with the highest number; Number 0: there is none.
// It must be signed by the verifier key: audit.checkpoint_forged.
func (tx *Tx) NewestSigned(verifierKey string) (pki.Checkpoint, error) {
	c, err := tx.LastCheckpoint()
	if errors.Is(err, pki.ErrNotFound) {
		return pki.Checkpoint{}, nil
	}
	if err != nil {
		return pki.Checkpoint{}, err
	}
	key, err := note.NewVerifier(verifierKey)
	if err != nil {
		return pki.Checkpoint{}, pki.E(pki.Invalid, "audit.verifier_key").Because(err)
	}
	_, err = openCheckpoint(c.Note, note.VerifierList(key))
	if err != nil {
		return pki.Checkpoint{}, errForged.With("Number", c.Number).Because(err)
	}
	return c.Checkpoint, nil
}

// LastHolding gives the newest saved checkpoint that is signed by the verifier key and
// holds: the records before its size are those that were signed. Number 0: there is none.
// It asks few of them, because what follows one that does not hold does not hold either.
func (tx *Tx) LastHolding(verifierKey string) (pki.Checkpoint, error) {
	var best pki.Checkpoint
	key, err := note.NewVerifier(verifierKey)
	if err != nil {
		return best, pki.E(pki.Invalid, "audit.verifier_key").Because(err)
	}
	var high int64
	err = tx.sql.QueryRow(`SELECT COALESCE(MAX(number), 0) FROM checkpoint`).Scan(&high)
	if err != nil {
		return best, engine.Error("read checkpoints", err)
	}
	for low := int64(0); low < high; {
		middle := low + (high-low+1)/2
		var number int64
		var signed []byte
		err = tx.sql.QueryRow(`SELECT number, note FROM checkpoint WHERE number <= $1 ORDER BY number DESC LIMIT 1`, middle).Scan(&number, &signed)
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return best, engine.Error("read checkpoint", err)
		}
		if err != nil || number <= low { // none between
			low = middle
			continue
		}
		c, err := openCheckpoint(signed, note.VerifierList(key))
		holds := err == nil && c.Number == number
		if holds {
			holds, err = tx.holds(c)
			if err != nil {
				return best, err
			}
		}
		if !holds {
			high = number - 1
			continue
		}
		best, low = c, middle
	}
	return best, nil
}

// openCheckpoint reads a note that one of the keys signed.
func openCheckpoint(signed []byte, keys note.Verifiers) (pki.Checkpoint, error) {
	n, err := note.Open(signed, keys)
	if err != nil {
		return pki.Checkpoint{}, err
	}
	return pki.ParseCheckpoint(n.Text)
}

// ProveConsistency proves that the tree of the older size is a beginning of the present
// one: what the signer, and a witness, ask before they sign.
func (tx *Tx) ProveConsistency(older int64) (tlog.TreeProof, error) {
	size, _, err := tx.AuditTree()
	if err != nil {
		return nil, err
	}
	if older < 1 || older > size {
		return nil, pki.ErrNotFound
	}
	proof, err := tlog.ProveTree(size, older, tlog.HashReaderFunc(tx.storedHashes))
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
