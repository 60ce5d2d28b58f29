package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Head is what is known of the tree from outside of the database: what the signer
// remembers, or the last checkpoint that this node saw.
type Head struct {
	pki.Checkpoint            // the newest; Number 0: none is known
	VerifierKey    string     // of the signer; "" where it is not known
	Losses         []pki.Loss // that the signer accepted, the oldest first
}

// Ledger is the row of the tree: size, root, time of the last commit. Every transaction
// reads it first; every writing one locks it, and writes it last. It keeps the right edge of
// the tree after the last commit of this process, and holds what the tree must extend:
// nothing is written on another.
type Ledger struct {
	log  *slog.Logger
	ask  func(ctx context.Context) (Head, error) // nil: answered, or nothing to ask
	edge tree                                    // both are the writer goroutine's alone

	mu      sync.Mutex
	head    Head
	refusal error // the tree does not extend the head
	anew    bool  // a loss was accepted: what this process wrote before counts no more
}

// NewLedger makes the ledger of a process. ask is asked before the first writing
// transaction for the newest checkpoint that is known from outside; its error is that of
// the transaction, and it is asked again by the next. nil: none is known.
func NewLedger(ask func(ctx context.Context) (Head, error), log *slog.Logger) *Ledger {
	return &Ledger{ask: ask, log: log}
}

// page is the ledger as one transaction found it.
type page struct {
	ledger *Ledger
	size   int64
	root   []byte
	tree   *tree // to be appended to; nil in a snapshot
}

const selectTree = `SELECT size, root, last_at FROM audit_tree WHERE id = 1`

// On PostgreSQL the write lock is that of the row; SQLite has one for the whole file.
var lockTree = map[string]string{engine.SQLite: selectTree, engine.PostgreSQL: selectTree + " FOR UPDATE"}

// Read is a part of engine.Ledger.
func (l *Ledger) Read(tx *engine.Tx) (engine.Page, int64, error) {
	query := selectTree
	if tx.Writing() {
		query = lockTree[tx.Engine()]
	}
	p := &page{ledger: l}
	var last int64
	err := tx.QueryRow(query).Scan(&p.size, &p.root, &last)
	if err != nil {
		return nil, 0, fmt.Errorf("read audit tree: %w", err)
	}
	return p, last, nil
}

// Ready is a part of engine.Ledger. It asks for the head before the first transaction of
// this process, and says why nothing is written.
func (l *Ledger) Ready(ctx context.Context) error {
	if l.ask != nil {
		head, err := l.ask(ctx)
		if err != nil {
			return fmt.Errorf("ask for the newest checkpoint: %w", err)
		}
		l.ask = nil
		l.mu.Lock()
		if head.Number > l.head.Number {
			l.head = head
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.anew {
		l.edge, l.anew = tree{}, false
	}
	return l.refusal
}

// Open is a part of engine.Page. Where the tree lacks what this process wrote and no
// checkpoint covers, it gives the closure that puts that on the record.
func (p *page) Open(tx *engine.Tx) (func(tx *engine.Tx) error, error) {
	l := p.ledger
	l.mu.Lock()
	head := l.head
	l.mu.Unlock()
	t, err := Of(tx).openTree(l.edge, head)
	if pki.CodeOf(err) == contradiction {
		l.mu.Lock()
		l.refusal = err
		l.mu.Unlock()
	}
	if err != nil {
		return nil, err
	}
	if t.lost.Size > 0 {
		l.edge = tree{}
		return l.tailLost(t.lost), nil
	}
	p.tree = &t
	return nil, nil
}

// Fork is a part of engine.Page.
func (p *page) Fork() engine.Page {
	mine, t := *p, p.tree.clone()
	mine.tree = &t
	return &mine
}

// Flush is a part of engine.Page.
func (p *page) Flush(tx *engine.Tx) error { return Of(tx).flushTree() }

// Committed is a part of engine.Page.
func (p *page) Committed() { p.ledger.edge = *p.tree }

// Follow compares the tree with a head. Where the tree does not extend it, the answer is
// audit.contradicts, and so is that of every Update from then on, until a later head says
// something else: the tree is right again, or its loss was accepted.
func (l *Ledger) Follow(ctx context.Context, db *engine.DB, head Head) error {
	err := db.View(ctx, func(tx *engine.Tx) error { return Of(tx).extends(head) })
	contradicts := pki.CodeOf(err) == contradiction
	if err != nil && !contradicts {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal = err
	if contradicts {
		return err
	}
	l.anew = l.anew || len(head.Losses) > len(l.head.Losses)
	l.head = head
	return nil
}

// kindTailLost is the kind of the record that says that the tree lacks records which this
// node wrote and which no checkpoint covers: a standby that lacked them took over, or
// somebody cut them off.
const kindTailLost = "audit.tail_lost"

// tailLost is the closure that records what this node knew of the tree.
func (l *Ledger) tailLost(knew pki.Checkpoint) func(tx *engine.Tx) error {
	return func(sql *engine.Tx) error {
		tx := Of(sql)
		size, root, err := tx.AuditTree()
		if err != nil {
			return err
		}
		l.log.Error("alarm: audit records are gone that this node wrote", "knew", knew.Size, "size", size)
		_, _, err = tx.Audit(pki.System("store"), kindTailLost, "audit", map[string]pki.Checkpoint{"knew": knew, "found": {Size: size, Root: root}})
		return err
	}
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
