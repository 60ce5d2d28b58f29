package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// tree is the right edge of the Merkle tree: the roots of its complete subtrees,
// the largest first. That is all one needs to append and to know the root. A tree
// of n records has as many peaks as n has one-bits.
type tree struct {
	size    int64
	peaks   []tlog.Hash
	pending []node         // inner nodes made in this transaction, not yet in audit_hash
	records []fullRecord   // likewise, not yet in audit
	lost    pki.Checkpoint // what this process knew and the tree does not extend; Size 0: nothing
}

type node struct {
	index int64 // tlog.StoredHashIndex
	hash  tlog.Hash
}

func (t *tree) append(leaf [32]byte) {
	h := tlog.RecordHash(leaf[:])
	// tlog stores the nodes that a record completes right behind the record's own.
	index := tlog.StoredHashIndex(0, t.size)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.peaks) - 1
		h = tlog.NodeHash(t.peaks[last], h)
		t.peaks = t.peaks[:last]
		index++
		t.pending = append(t.pending, node{index, h})
	}
	t.peaks = append(t.peaks, h)
	t.size++
}

func (t *tree) root() tlog.Hash {
	if len(t.peaks) == 0 {
		empty, _ := tlog.TreeHash(0, nil) // reads nothing, so it cannot fail
		return empty
	}
	h := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.peaks[i], h)
	}
	return h
}

// clone gives a tree that can be appended to while t stays as it is.
func (t *tree) clone() tree {
	return tree{
		size: t.size, peaks: append([]tlog.Hash(nil), t.peaks...),
		pending: t.pending[:len(t.pending):len(t.pending)], records: t.records[:len(t.records):len(t.records)],
	}
}

// openTree gives the tree that the locked row of audit_tree describes: the cached
// edge if it is still the last, otherwise read anew because another process wrote. The
// tree must extend the head that is known from outside (audit.contradicts); where it does
// not extend the cached edge, that is told by lost. An edge that does not give the stored
// root is an error: nothing must be built on a damaged tree.
func (tx *Tx) openTree(cached tree, head Head) (tree, error) {
	root := cached.root()
	p := tx.page()
	if cached.size == p.size && bytes.Equal(root[:], p.root) {
		return cached.clone(), nil
	}
	knew := pki.Checkpoint{Size: cached.size, Root: root}
	err := tx.extends(Head{Checkpoint: knew})
	if err == nil && knew.Size >= head.Size {
		return tx.readTree() // what was cached extends the head
	}
	if err != nil && pki.CodeOf(err) != contradiction {
		return tree{}, err
	}
	gone := err != nil
	err = tx.extends(head)
	if err != nil {
		return tree{}, err
	}
	t, err := tx.readTree()
	if gone {
		t.lost = knew
	}
	return t, err
}

// readTree reads the edge of the tree.
func (tx *Tx) readTree() (tree, error) {
	p := tx.page()
	t := tree{size: p.size}
	var indexes []int64
	var before int64
	for level := 63 - bits.LeadingZeros64(uint64(p.size)|1); level >= 0; level-- {
		if p.size&(1<<level) != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, before>>level))
			before += 1 << level
		}
	}
	var err error
	t.peaks, err = tx.storedHashes(indexes)
	if err != nil {
		return tree{}, fmt.Errorf("read edge of the audit tree: %w", err)
	}
	root := t.root()
	if !bytes.Equal(root[:], p.root) {
		return tree{}, errTreeDamaged.Because(fmt.Errorf("the edge of the tree of %d records does not give its root", p.size))
	}
	return t, nil
}

// flushTree writes what the transaction added to the tree, and its time.
func (tx *Tx) flushTree() error {
	t := tx.tree()
	err := tx.flushRecords()
	if err != nil {
		return err
	}
	err = tx.flushNodes()
	if err != nil {
		return err
	}
	root := t.root()
	err = tx.sql.One("store audit tree", `UPDATE audit_tree SET size = $1, root = $2, last_at = $3 WHERE id = 1`, t.size, root[:], engine.Micros(tx.sql.Now))
	if errors.Is(err, pki.ErrConflict) {
		return errors.New("store audit tree: its row is gone") // no closure's conflict
	}
	return err
}

func (tx *Tx) flushRecords() error {
	t := tx.tree()
	if t == nil {
		return nil
	}
	for len(t.records) > 0 {
		n := chunk(len(t.records))
		args := make([]any, 0, 10*n)
		for _, r := range t.records[:n] {
			h := r.header
			args = append(args, h.Index, h.At, h.Actor, h.Auth, h.Kind, h.Subject, r.digest, r.leaf, r.salt, r.body)
		}
		err := tx.sql.Add("append audit records", insertRecords[n], args...)
		if err != nil {
			return err
		}
		t.records = t.records[n:]
	}
	return nil
}

func (tx *Tx) flushNodes() error {
	t := tx.tree()
	if t == nil {
		return nil
	}
	for len(t.pending) > 0 {
		n := chunk(len(t.pending))
		args := make([]any, 0, 2*n)
		for _, node := range t.pending[:n] {
			args = append(args, node.index, node.hash[:])
		}
		err := tx.sql.Add("store tree hashes", insertNodes[n], args...)
		if err != nil {
			return err
		}
		t.pending = t.pending[n:]
	}
	return nil
}

// chunks are the numbers of rows inserted at once: few, so that few statements are
// compiled.
var chunks = []int{64, 16, 4, 1}

func chunk(n int) int {
	for _, size := range chunks {
		if n >= size {
			return size
		}
	}
	return 0
}

var (
	insertRecords = inserts("INSERT INTO audit ("+fullColumns+") VALUES ", 10)
	insertNodes   = inserts("INSERT INTO audit_hash (idx, hash) VALUES ", 2)
)

func inserts(head string, columns int) map[int]string {
	texts := map[int]string{}
	for _, n := range chunks {
		texts[n] = head + engine.RowsOf(n, columns)
	}
	return texts
}
