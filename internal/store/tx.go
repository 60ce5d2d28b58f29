package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

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

	ctx     context.Context
	s       *session
	engine  string
	tree    *tree // of an Update
	wall    int64
	last    int64
	size    int64 // of the audit tree, as the transaction found it
	root    []byte
	failed  error
	numbers *numbers // of a bold transaction
	wrote   bool     // a statement was sent that may have changed something
}

var errOver = errors.New("transaction is over")

// Behind says by how much the wall clock lies before the last committed time
// (threat AU8); zero where it does not.
func (tx *Tx) Behind() time.Duration {
	return max(0, time.Duration(tx.last-tx.wall)*time.Microsecond)
}

// exec runs a statement and says how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	err := tx.ready(args)
	if err != nil {
		return 0, err
	}
	tx.wrote = true
	result, err := tx.s.exec(tx.ctx, query, args...)
	if err != nil {
		return 0, tx.spoil(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, tx.spoil(err)
	}
	return n, nil
}

// change runs a statement that must change a number of rows, or any where that is
// negative; pki.ErrConflict where it did not. In a bold transaction (see DB.transact) on
// PostgreSQL the statement waits for others, and nil says nothing yet: if it fails, the
// closure runs again, and learns it then.
func (tx *Tx) change(what string, rows int64, query string, args ...any) error {
	w := waitingStatement{what, query, args, rows}
	if tx.s == nil || !tx.s.pipe.open {
		n, err := tx.exec(query, args...)
		if err != nil {
			return dbError(what, err)
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

// one runs a statement that must change exactly one row; pki.ErrConflict otherwise.
func (tx *Tx) one(what, query string, args ...any) error { return tx.change(what, 1, query, args...) }

// add runs a statement whose number of rows does not matter.
func (tx *Tx) add(what, query string, args ...any) error { return tx.change(what, -1, query, args...) }

// query runs a statement that gives rows. Read and close them before the next
// statement: a connection does one thing at a time.
func (tx *Tx) query(query string, args ...any) (*sql.Rows, error) {
	err := tx.ready(args)
	if err != nil {
		return nil, err
	}
	tx.wrote = tx.wrote || !strings.HasPrefix(query, "SELECT") // it may have RETURNING
	rows, err := tx.s.query(tx.ctx, query, args...)
	if err != nil {
		return nil, tx.spoil(err)
	}
	return rows, nil
}

// queryRow runs a statement that gives one row when it is scanned.
func (tx *Tx) queryRow(query string, args ...any) row { return row{tx, query, args} }

type row struct {
	tx    *Tx
	query string
	args  []any
}

// Scan reads the first row; pki.ErrNotFound where there is none.
func (r row) Scan(dest ...any) error { return r.look(func() {}, dest...) }

// look is Scan, and calls see while what was scanned into a sql.RawBytes is there.
func (r row) look(see func(), dest ...any) error {
	rows, err := r.tx.query(r.query, r.args...)
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
		return r.tx.spoil(err)
	}
	if !found {
		return pki.ErrNotFound
	}
	return nil
}

func (tx *Tx) ready(args []any) error {
	if tx.s == nil {
		return errOver
	}
	if tx.failed != nil {
		return tx.failed
	}
	for i, arg := range args {
		switch arg.(type) {
		case time.Time, pki.Secret: // BIGINT µs by micros; a secret by Reveal, or better not at all
			return tx.spoil(fmt.Errorf("argument %d of a statement is a %T", i+1, arg))
		}
	}
	return nil
}

func (tx *Tx) spoil(err error) error {
	err = classify(err)
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// micros is how times are stored: µs since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fromMicros is the reverse of micros.
func fromMicros(v int64) time.Time {
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
	tx := &Tx{ctx: ctx, s: s, engine: db.engine, wall: micros(db.now())}
	err = tx.readClock(selectTree)
	if err != nil {
		return err
	}
	tx.Now = fromMicros(max(tx.wall, tx.last))
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

const selectTree = `SELECT size, root, last_at FROM audit_tree WHERE id = 1`

// readClock reads the row that carries the tree's size and root and the last
// committed time.
func (tx *Tx) readClock(query string) error {
	err := tx.queryRow(query).Scan(&tx.size, &tx.root, &tx.last)
	if err != nil {
		return fmt.Errorf("read audit tree: %w", err)
	}
	return nil
}
