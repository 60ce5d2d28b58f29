// Package store is the database: one DB over SQLite or PostgreSQL with one SQL
// text for both, one transaction type with one Now, one file an aggregate, the
// audit tree in the same transaction as the change, and the migrations.
//
// It owns SQL. It does not own rules, states or permissions: those are pki's and
// the offices'. Only the aggregate files of this package may write SQL, through
// the unexported helpers of Tx; outside there is no way to send a statement.
//
// Writing: Update hands a closure to the one writer of this process, which puts
// many closures into one transaction (group commit). A closure must be able to
// run again and must do nothing but use its Tx; it must not call Update.
// Reading: View gives a snapshot.
package store

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
	Head func(ctx context.Context) (Head, error)
	Log  *slog.Logger // nil: silence
	// Commit goes around every COMMIT, so that a test can let one fail before it takes
	// effect or after; nil: nothing does.
	Commit func(do func() error) error
}

// DB is the database of one process.
type DB struct {
	engine string
	now    func() time.Time
	sure   func(last time.Time) error
	log    *slog.Logger
	write  *sql.DB // on PostgreSQL the same pool as read
	read   *sql.DB
	close  func()
	turn   *turn // SQLite: fairness between processes; nil on PostgreSQL

	readers chan *session

	mu      sync.RWMutex // guards closed against sends on jobs
	closed  bool
	jobs    chan *job
	stopped chan struct{}
	writer  session // the writer goroutine's alone, as are the next three
	tree    tree    // right edge after the last commit of this process
	ask     func(ctx context.Context) (Head, error)
	follow  follower
	commit  func(do func() error) error // see Options.Commit

	commits    atomic.Int64
	closures   atomic.Int64
	statements atomic.Int64
}

// Open connects. It neither creates a schema (see Migrate) nor checks it (see
// CheckSchema); a new SQLite file is made with mode 0600.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Now == nil {
		panic("store: Options.Now is nil")
	}
	db := &DB{now: o.Now, sure: o.Believe, log: o.Log, ask: o.Head, jobs: make(chan *job, maxBatch), stopped: make(chan struct{})}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.sure == nil {
		db.sure = func(time.Time) error { return nil }
	}
	db.commit = o.Commit
	if db.commit == nil {
		db.commit = func(do func() error) error { return do() }
	}
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
