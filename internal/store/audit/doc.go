// Package audit is the record of what was done: a Merkle tree (RFC 6962) whose records are
// written in the transaction of the change that they tell of, the signed checkpoints of that
// tree, what the tree must extend, and its verification.
//
// It owns the tables audit, audit_hash, audit_tree and checkpoint, and with the row of
// audit_tree the write lock between processes and the time of the last commit: it is the
// Ledger of the engine. It does not own what a record tells: the packages that change
// something say that.
package audit

import (
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/store/engine"
)

// Tx is what a transaction can do with the tree.
type Tx struct{ sql *engine.Tx }

// Of gives the tree of a transaction.
func Of(tx *engine.Tx) *Tx { return &Tx{tx} }

func (tx *Tx) page() *page { return tx.sql.Page().(*page) }

// tree gives what may be appended to; nil in a snapshot.
func (tx *Tx) tree() *tree { return tx.page().tree }

// EmptyRoot gives the root of a tree without records.
func EmptyRoot() tlog.Hash { return (&tree{}).root() }
