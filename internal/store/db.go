// Package store is the database: one DB over SQLite or PostgreSQL with one SQL text for
// both, and its tables, one file an aggregate. Below it lie two rooms: engine (connections,
// the writer, transactions) and audit (the tree of records).
//
// It owns SQL. It does not own rules, states or permissions: those are pki's and
// the offices'. Only the files of this package and of audit write SQL, by the engine's
// transaction; outside there is no way to send a statement.
//
// Writing: Update hands a closure to the one writer of this process, which puts
// many closures into one transaction (group commit). A closure must be able to
// run again and must do nothing but use its Tx; it must not call Update.
// Reading: View gives a snapshot.
package store

import (
	"context"
	"log/slog"
	"time"

	"inkan/internal/store/audit"
	"inkan/internal/store/engine"
)

// The names of the engines.
const (
	SQLite     = engine.SQLite
	PostgreSQL = engine.PostgreSQL
)

// What Update may answer besides the closure's own error.
var (
	ErrCommitUnknown = engine.ErrCommitUnknown
	ErrClosed        = engine.ErrClosed
)

// Stats counts what was done since Open.
type Stats = engine.Stats

// Options say which database, and whose clock.
type Options struct {
	DSN string           // "sqlite:///absolute/path.db" or "postgres://…" (several hosts are fine)
	Now func() time.Time // the clock; required
	// Believe refuses the time beside that of the last commit: nothing is committed
	// then (threats AU8 and AU9). nil believes every time.
	Believe func(last time.Time) error
	// Head is asked before the first Update for the newest checkpoint that is known from
	// outside: the tree must extend it, see Follow. Its error is the Update's, and it is
	// asked again by the next. nil: none is known.
	Head func(ctx context.Context) (audit.Head, error)
	Log  *slog.Logger // nil: silence
	// Commit goes around every COMMIT, so that a test can let one fail before it takes
	// effect or after; nil: nothing does.
	Commit func(do func() error) error
}

// DB is the database of one process.
type DB struct {
	sql    *engine.DB
	ledger *audit.Ledger
	log    *slog.Logger
	commit func(do func() error) error // see Options.Commit
}

// Open connects. It neither creates a schema (see Migrate) nor checks it (see
// CheckSchema); a new SQLite file is made with mode 0600.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Now == nil {
		panic("store: Options.Now is nil")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Believe == nil {
		o.Believe = func(time.Time) error { return nil }
	}
	if o.Commit == nil {
		o.Commit = func(do func() error) error { return do() }
	}
	db := &DB{ledger: audit.NewLedger(o.Head, o.Log), log: o.Log, commit: o.Commit}
	var err error
	db.sql, err = engine.Open(ctx, engine.Options{DSN: o.DSN, Now: o.Now, Believe: o.Believe, Log: o.Log,
		Commit: func(do func() error) error { return db.commit(do) },
		Ledger: db.ledger, Deferred: func() engine.Deferred { return &numbers{} }})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Engine names the engine: SQLite or PostgreSQL.
func (db *DB) Engine() string { return db.sql.Engine() }

// Stats gives the counts; Closures ÷ Commits is the mean size of a group commit.
func (db *DB) Stats() Stats { return db.sql.Stats() }

// Close lets the queued closures finish, then disconnects.
func (db *DB) Close() { db.sql.Close() }

// Tx is one transaction. It is valid until its closure returns, and for one goroutine.
//
// The first statement that fails spoils a writing Tx: every later one answers the
// same error and nothing of the closure is kept, whatever it returns. PostgreSQL
// does so by itself; SQLite would go on. Where a row may exist already, say ON
// CONFLICT instead of looking at the error.
type Tx struct {
	*audit.Tx

	// Now is the time of the transaction in whole µs, UTC. In Update it is after
	// every Now committed before, by whatever process; in View it is not before any
	// that the snapshot holds. So the clock of a node that runs behind cannot make
	// a fact look as if it were still to come.
	Now time.Time

	sql *engine.Tx
}

func begin(tx *engine.Tx) *Tx { return &Tx{Tx: audit.Of(tx), Now: tx.Now, sql: tx} }

// Behind says by how much the wall clock lies before the last committed time
// (threat AU8); zero where it does not.
func (tx *Tx) Behind() time.Duration { return tx.sql.Behind() }

// Update runs fn in a transaction and answers when that is on the disk. Closures of
// many callers share one transaction: one that answers an error (or panics) is rolled back
// alone, and its error is returned as it is. fn may run more than once; only its last run
// counts. It runs in another goroutine than the caller's and must not call Update. When ctx
// ends before fn was started, fn never runs; afterwards Update waits for the outcome.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return db.sql.Update(ctx, func(tx *engine.Tx) error { return fn(begin(tx)) })
}

// View runs fn on a snapshot. fn runs in the caller's goroutine; it may run for
// long, but on SQLite the write-ahead log cannot shrink meanwhile.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.sql.View(ctx, func(tx *engine.Tx) error { return fn(begin(tx)) })
}

// Follow compares the tree with a head: see audit.Ledger.Follow.
func (db *DB) Follow(ctx context.Context, head audit.Head) error {
	return db.ledger.Follow(ctx, db.sql, head)
}

// VerifyAudit checks the tree: see audit.VerifyAudit.
func (db *DB) VerifyAudit(ctx context.Context, head audit.Head, progress func(done, total int64)) (audit.Report, error) {
	return audit.VerifyAudit(ctx, db.sql, head, progress)
}

// ProveAudit makes a proof that a record is in the tree: see audit.ProveAudit.
func (db *DB) ProveAudit(ctx context.Context, index int64) (audit.Proof, error) {
	return audit.ProveAudit(ctx, db.sql, index)
}
