package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// Head is what is known of the tree from outside of the database: what the signer
// remembers, or the last checkpoint that this node saw.
type Head struct {
	pki.Checkpoint            // the newest; Number 0: none is known
	VerifierKey    string     // of the signer; "" where it is not known
	Losses         []pki.Loss // that the signer accepted, the oldest first
}

// follower holds what the tree of a handle must extend. Nothing is written on another.
type follower struct {
	mu      sync.Mutex
	head    Head
	refusal error // the tree does not extend the head
	anew    bool  // a loss was accepted: what this process wrote before counts no more
}

// Follow compares the tree with a head. Where the tree does not extend it, the answer is
// audit.contradicts, and so is that of every Update from then on, until a later head says
// something else: the tree is right again, or its loss was accepted.
func (db *DB) Follow(ctx context.Context, head Head) error {
	err := db.View(ctx, func(tx *Tx) error { return tx.extends(head) })
	contradicts := pki.CodeOf(err) == contradiction
	if err != nil && !contradicts {
		return err
	}
	f := &db.follow
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusal = err
	if contradicts {
		return err
	}
	f.anew = f.anew || len(head.Losses) > len(f.head.Losses)
	f.head = head
	return nil
}

// mayWrite gives the head that the tree must extend, or says why nothing is written. It
// asks for the head before the first transaction of this process.
func (db *DB) mayWrite(ctx context.Context) (Head, error) {
	if db.ask != nil {
		head, err := db.ask(ctx)
		if err != nil {
			return Head{}, fmt.Errorf("ask for the newest checkpoint: %w", err)
		}
		db.ask = nil // the writer's own, as db.tree is
		db.follow.mu.Lock()
		if head.Number > db.follow.head.Number {
			db.follow.head = head
		}
		db.follow.mu.Unlock()
	}
	f := &db.follow
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.anew {
		db.tree, f.anew = tree{}, false
	}
	return f.head, f.refusal
}

// refuse stops all writing until a later head says something else.
func (db *DB) refuse(err error) {
	db.follow.mu.Lock()
	defer db.follow.mu.Unlock()
	db.follow.refusal = err
}

// kindTailLost is the kind of the record that says that the tree lacks records which this
// node wrote and which no checkpoint covers: a standby that lacked them took over, or
// somebody cut them off.
const kindTailLost = "audit.tail_lost"

// tailLost is the job that records what this node knew of the tree.
func (db *DB) tailLost(knew pki.Checkpoint) *job {
	return &job{done: make(chan error, 1), ctx: context.Background(), fn: func(tx *Tx) error {
		size, root, err := tx.AuditTree()
		if err != nil {
			return err
		}
		db.log.Error("alarm: audit records are gone that this node wrote", "knew", knew.Size, "size", size)
		_, _, err = tx.Audit(pki.System("store"), kindTailLost, "audit", map[string]pki.Checkpoint{"knew": knew, "found": {Size: size, Root: root}})
		return err
	}}
}

const contradiction = "audit.contradicts"

// extends wants the tree that the transaction sees to extend a head (RFC 6962 §2.1.2).
// Otherwise it answers audit.contradicts, with the index from which on no checkpoint
// proves the records.
func (tx *Tx) extends(head Head) error {
	if head.Size == 0 {
		return nil
	}
	size, root, err := tx.AuditTree()
	if err != nil {
		return err
	}
	if head.Size <= size {
		proof, err := tx.ProveConsistency(head.Size)
		if err == nil {
			err = tlog.CheckTree(proof, size, root, head.Size, head.Root)
		}
		if err == nil || pki.ClassOf(err) == pki.Busy || errors.Is(err, context.Canceled) {
			return err
		}
	}
	first := int64(0)
	if head.VerifierKey != "" {
		kept, err := tx.LastHolding(head.VerifierKey)
		if err != nil {
			return err
		}
		first = kept.Size
	}
	return pki.E(pki.Conflict, contradiction).With("Size", size).With("Signed", head.Size).With("First", first)
}
