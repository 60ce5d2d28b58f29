// Package engine is the database below tables and audit tree: connections to SQLite or
// PostgreSQL, one writer a process with group commit, snapshots for readers, transactions
// with one time, migrations, and what the engines' errors mean.
//
// It does not own a table, a statement of one, or a rule. What every transaction reads
// first and every writing one writes last is a Ledger, which another package brings. Only
// the packages below internal/store import this one (a test of archtest holds that), so
// that nobody else sends a statement.
package engine

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"inkan/internal/pki"
)

// The names of the engines.
const (
	SQLite     = "sqlite"
	PostgreSQL = "postgres"
)

// ErrCommitUnknown is what every closure of a transaction gets whose COMMIT
// failed: it may have taken effect or not. Read before you do it again.
var ErrCommitUnknown = pki.E(pki.Busy, "store.commit_unknown")

// ErrClosed is what Update and View answer after Close.
var ErrClosed = pki.E(pki.Busy, "store.closed")

// Ledger is the one row that every transaction reads first. It is the write lock between
// processes, and it knows the time of the last commit.
type Ledger interface {
	// Ready is asked ahead of each writing transaction; its error is that of every closure
	// that waits.
	Ready(ctx context.Context) error
	// Read gives the ledger as a transaction finds it, and the time of the last commit in
	// µs since 1970. In a writing transaction it takes the lock.
	Read(tx *Tx) (Page, int64, error)
}

// Page is the ledger as one transaction sees it.
type Page interface {
	// Open makes the page ready to be written on. Where it gives a closure, that is
	// committed by itself before any other.
	Open(tx *Tx) (func(tx *Tx) error, error)
	// Fork gives a page for one closure. It takes the place of this one when the closure is
	// kept.
	Fork() Page
	// Flush writes what the closures left on the page, as the last statements of the
	// transaction.
	Flush(tx *Tx) error
	// Committed tells that the transaction is on the disk.
	Committed()
}

// Deferred is what closures of one optimistic transaction share, and what is written once
// for all of them.
type Deferred interface {
	Flush(tx *Tx) error
}

// Options say which database, whose clock, and what lies on top.
type Options struct {
	DSN      string           // "sqlite:///absolute/path.db" or "postgres://…" (several hosts are fine)
	Now      func() time.Time // the clock; required
	Believe  func(last time.Time) error
	Log      *slog.Logger // required
	Commit   func(do func() error) error
	Ledger   Ledger          // required
	Deferred func() Deferred // made for each optimistic transaction; required
}

// DB is the database of one process.
type DB struct {
	o      Options
	engine string
	log    *slog.Logger
	write  *sql.DB // on PostgreSQL the same pool as read
	read   *sql.DB
	close  func()
	queue  *queue // SQLite: fairness between processes; nil on PostgreSQL

	readers chan *session

	mu      sync.RWMutex // guards closed against sends on jobs
	closed  bool
	jobs    chan *job
	stopped chan struct{}
	writer  session // the writer goroutine's alone

	commits    atomic.Int64
	closures   atomic.Int64
	statements atomic.Int64
}

// Open connects. It neither creates a schema (see Migrate) nor checks it (see
// CheckSchema); a new SQLite file is made with mode 0600.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{o: o, log: o.Log, jobs: make(chan *job, MaxBatch), stopped: make(chan struct{})}
	readers, err := db.connect(ctx, o.DSN)
	if err != nil {
		return nil, err
	}
	db.writer = session{pool: db.write, prepared: db.engine == SQLite, sent: &db.statements}
	db.readers = make(chan *session, readers)
	for range readers {
		db.readers <- &session{pool: db.read, prepared: db.engine == SQLite, sent: &db.statements}
	}
	go db.writeLoop()
	return db, nil
}

// Engine names the engine: SQLite or PostgreSQL.
func (db *DB) Engine() string { return db.engine }

// Pools gives the connections themselves, for what is done to a database as a whole: its
// definitions and migrations.
func (db *DB) Pools() (write, read *sql.DB) { return db.write, db.read }

// Stats counts what was done since Open.
type Stats struct {
	Commits    int64 // transactions of the writer
	Closures   int64 // closures in them that took effect
	Statements int64 // sent to the database, by writer and readers
}

// Stats gives the counts; Closures ÷ Commits is the mean size of a group commit.
func (db *DB) Stats() Stats {
	return Stats{Commits: db.commits.Load(), Closures: db.closures.Load(), Statements: db.statements.Load()}
}

// Close lets the queued closures finish, then disconnects.
func (db *DB) Close() {
	db.mu.Lock()
	again := db.closed
	if !again {
		db.closed = true
		close(db.jobs)
	}
	db.mu.Unlock()
	<-db.stopped
	if again {
		return
	}
	for range cap(db.readers) {
		s := <-db.readers // waits for views that still run
		s.drop()
	}
	db.close()
}
