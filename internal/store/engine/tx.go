package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/pki"
)

// Tx is one transaction. It is valid until its closure returns, and for one
// goroutine.
//
// The first statement that fails spoils a writing Tx: every later one answers the
// same error and nothing of the closure is kept, whatever it returns. PostgreSQL
// does so by itself; SQLite would go on. Where a row may exist already, say ON
// CONFLICT instead of looking at the error.
type Tx struct {
	// Now is the time of the transaction in whole µs, UTC. In Update it is after
	// every Now committed before, by whatever process; in View it is not before any
	// that the snapshot holds. So the clock of a node that runs behind cannot make
	// a fact look as if it were still to come.
	Now time.Time

	ctx      context.Context
	s        *session
	engine   string
	writing  bool // of an Update
	page     Page
	wall     int64
	last     int64
	failed   error
	deferred Deferred
	wrote    bool // a statement was sent that may have changed something
}

// ErrOver is what a transaction answers after its closure has returned.
var ErrOver = errors.New("transaction is over")

// Context gives the context of the transaction.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Engine names the engine: SQLite or PostgreSQL.
func (tx *Tx) Engine() string { return tx.engine }

// Page gives the ledger as this closure sees it.
func (tx *Tx) Page() Page { return tx.page }

// Writing says whether it is the transaction of an Update.
func (tx *Tx) Writing() bool { return tx.writing }

// Last gives the time of the last commit, in µs since 1970.
func (tx *Tx) Last() int64 { return tx.last }

// Deferred gives what the closures of an optimistic transaction share; nil in every other.
func (tx *Tx) Deferred() Deferred { return tx.deferred }

// Wrote says that the closure left something to be written, though no statement was sent.
func (tx *Tx) Wrote() { tx.wrote = true }

// Scanner is a row that is being read.
type Scanner interface{ Scan(dest ...any) error }

// Collect reads all rows and closes them.
func Collect[T any](rows *sql.Rows, scan func(Scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, Error("scan row", err)
		}
		out = append(out, v)
	}
	return out, Error("read rows", rows.Err())
}

// Listed reads the rows of a table whose column has one of some values. more are further
// conditions.
func Listed[T any](tx *Tx, table, columns, column string, values []string, order string, scan func(Scanner) (T, error), more ...string) ([]T, error) {
	if len(values) == 0 {
		return nil, nil
	}
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(columns).From(table).Where(append(more, b.In(column, sqlbuilder.List(values)))...)
	if order != "" {
		b.OrderBy(order)
	}
	query, args := b.Build()
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, Error("read rows of "+table, err)
	}
	return Collect(rows, scan)
}

// Behind says by how much the wall clock lies before the last committed time
// (threat AU8); zero where it does not.
func (tx *Tx) Behind() time.Duration {
	return max(0, time.Duration(tx.last-tx.wall)*time.Microsecond)
}

// Exec runs a statement and says how many rows it changed.
func (tx *Tx) Exec(query string, args ...any) (int64, error) {
	err := tx.ready(args)
	if err != nil {
		return 0, err
	}
	tx.wrote = true
	result, err := tx.s.exec(tx.ctx, query, args...)
	if err != nil {
		return 0, tx.Spoil(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, tx.Spoil(err)
	}
	return n, nil
}

// change runs a statement that must change a number of rows, or any where that is
// negative; pki.ErrConflict where it did not. In an optimistic transaction (see DB.transact) on
// PostgreSQL the statement waits for others, and nil says nothing yet: if it fails, the
// closure runs again, and learns it then.
func (tx *Tx) change(what string, rows int64, query string, args ...any) error {
	w := waitingStatement{what, query, args, rows}
	if tx.s == nil || !tx.s.pipe.open {
		n, err := tx.Exec(query, args...)
		if err != nil {
			return Error(what, err)
		}
		return w.check(n)
	}
	err := tx.ready(args)
	if err != nil {
		return err
	}
	tx.wrote = true
	tx.s.pipe.queue = append(tx.s.pipe.queue, w)
	return nil
}

// One runs a statement that must change exactly one row; pki.ErrConflict otherwise.
func (tx *Tx) One(what, query string, args ...any) error { return tx.change(what, 1, query, args...) }

// Add runs a statement whose number of rows does not matter.
func (tx *Tx) Add(what, query string, args ...any) error { return tx.change(what, -1, query, args...) }

// Query runs a statement that gives rows. Read and close them before the next
// statement: a connection does one thing at a time.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	err := tx.ready(args)
	if err != nil {
		return nil, err
	}
	tx.wrote = tx.wrote || !strings.HasPrefix(query, "SELECT") // it may have RETURNING
	rows, err := tx.s.query(tx.ctx, query, args...)
	if err != nil {
		return nil, tx.Spoil(err)
	}
	return rows, nil
}

// QueryRow runs a statement that gives one row when it is scanned.
func (tx *Tx) QueryRow(query string, args ...any) Row { return Row{tx, query, args} }

// Row is the first row of a statement.
type Row struct {
	tx    *Tx
	query string
	args  []any
}

// Scan reads the first row; pki.ErrNotFound where there is none.
func (r Row) Scan(dest ...any) error { return r.Look(func() {}, dest...) }

// Look is Scan, and calls see while what was scanned into a sql.RawBytes is there.
func (r Row) Look(see func(), dest ...any) error {
	rows, err := r.tx.Query(r.query, r.args...)
	if err != nil {
		return err
	}
	found := rows.Next()
	if found {
		err = rows.Scan(dest...)
	}
	if found && err == nil {
		see()
	}
	err = errors.Join(err, rows.Close(), rows.Err())
	if err != nil {
		return r.tx.Spoil(err)
	}
	if !found {
		return pki.ErrNotFound
	}
	return nil
}

// Over says whether the closure has returned.
func (tx *Tx) Over() bool { return tx.s == nil }

// Ready says whether the transaction takes statements.
func (tx *Tx) Ready() error { return tx.ready(nil) }

func (tx *Tx) ready(args []any) error {
	if tx.s == nil {
		return ErrOver
	}
	if tx.failed != nil {
		return tx.failed
	}
	for i, arg := range args {
		switch arg.(type) {
		case time.Time, pki.Secret: // BIGINT µs by micros; a secret by Reveal, or better not at all
			return tx.Spoil(fmt.Errorf("argument %d of a statement is a %T", i+1, arg))
		}
	}
	return nil
}

// Spoil makes every later statement answer this error, and gives it with its class.
func (tx *Tx) Spoil(err error) error {
	err = classify(err)
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// Micros is how times are stored: µs since 1970, 0 for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the reverse of Micros.
func FromMicros(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMicro(v).UTC()
}

// View runs fn on a snapshot. fn runs in the caller's goroutine; it may run for
// long, but on SQLite the write-ahead log cannot shrink meanwhile.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	db.mu.RLock()
	closed := db.closed
	db.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	var s *session
	select {
	case s = <-db.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	ended := false
	defer func() {
		if !ended { // fn panicked or an error left the connection in doubt
			s.drop()
		}
		db.readers <- s
	}()
	err := s.begin(ctx, beginRead[db.engine])
	if err != nil {
		return fmt.Errorf("begin view: %w", classify(err))
	}
	tx := &Tx{ctx: ctx, s: s, engine: db.engine, wall: Micros(db.o.Now())}
	tx.page, tx.last, err = db.o.Ledger.Read(tx)
	if err != nil {
		return err
	}
	tx.Now = FromMicros(max(tx.wall, tx.last))
	err = fn(tx)
	tx.s = nil
	_, end := s.exec(context.WithoutCancel(ctx), "ROLLBACK") // nothing was written
	ended = end == nil
	return err
}

var beginRead = map[string]string{
	SQLite:     "BEGIN",
	PostgreSQL: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
}
