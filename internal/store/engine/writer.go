package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"inkan/internal/pki"
)

// MaxBatch bounds how many closures share a transaction: enough to hide the cost
// of a commit, few enough that nobody waits long for others.
const MaxBatch = 256

// BatchTime bounds a transaction on PostgreSQL, waiting for the lock included.
const BatchTime = 20 * time.Second

type job struct {
	ctx     context.Context
	fn      func(*Tx) error
	state   atomic.Int32 // waiting, then started or left
	done    chan error   // of one
	replied bool         // the writer's own
}

const (
	waiting int32 = iota
	started
	left // by its caller, before it was started
)

func (j *job) reply(err error) {
	if !j.replied {
		j.replied = true
		j.done <- err
	}
}

// Update runs fn in a transaction and answers when that is on the disk. Closures of
// many callers share one transaction, each inside a savepoint: one that answers an
// error (or panics) is rolled back alone, and its error is returned as it is. fn may
// run more than once; only its last run counts. It runs in another goroutine than
// the caller's and must not call Update. When ctx ends before fn was started, fn
// never runs; afterwards Update waits for the outcome.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	j := &job{ctx: ctx, fn: fn, done: make(chan error, 1)}
	err := db.submit(j)
	if err != nil {
		return err
	}
	select {
	case err = <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, left) {
			return ctx.Err()
		}
		return <-j.done
	}
}

func (db *DB) submit(j *job) error {
	db.mu.RLock() // against Close, which closes the channel
	defer db.mu.RUnlock()
	if db.closed {
		return ErrClosed
	}
	select {
	case db.jobs <- j:
		return nil
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
}

// writeLoop is the one writer of the process.
func (db *DB) writeLoop() {
	over := false
	defer func() {
		if !over { // a closure called runtime.Goexit, as t.Fatal does
			go db.writeLoop()
		}
	}()
	for first := range db.jobs {
		db.writeBatch(db.gather(first))
	}
	over = true
	db.writer.drop()
	close(db.stopped)
}

// gather takes what waits, without waiting for more: while one batch commits, the
// next one gathers by itself.
func (db *DB) gather(first *job) []*job {
	batch := []*job{first}
	runtime.Gosched() // lets callers whom the last commit woke come first
	for len(batch) < MaxBatch {
		select {
		case j, ok := <-db.jobs:
			if !ok {
				return batch
			}
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// writeBatch answers every job. Mostly all of them succeed, so they are first tried
// optimistically: see transact. If one of them breaks the whole transaction, nothing was
// committed, and they run again: each in a savepoint, and at last each alone.
func (db *DB) writeBatch(jobs []*job) {
	defer func() {
		for _, j := range jobs { // those that a Goexit left behind
			j.reply(fmt.Errorf("update: the closure ended its goroutine"))
		}
	}()
	var live []*job
	for _, j := range jobs {
		if j.ctx.Err() == nil && j.state.CompareAndSwap(waiting, started) {
			live = append(live, j)
			continue
		}
		j.reply(j.ctx.Err())
	}
	if len(live) == 0 || db.transact(live, true) || db.transact(live, false) {
		return
	}
	for _, j := range live {
		db.transact([]*job{j}, false)
	}
}

// transact runs the jobs in one transaction and answers them; false, and nobody is
// answered, if the transaction broke in the middle and something else can be tried.
//
// Optimistically it sets no savepoints (on SQLite each makes a copy of every page that the
// next closure touches), and on PostgreSQL statements wait for each other. That is right
// as long as no closure fails that has written; then it gives false. So each closure that
// fails runs again in the ordinary way, and learns its own error there: nothing outside of
// this package knows of the first attempt (ADR 96, 180).
func (db *DB) transact(jobs []*job, optimistic bool) bool {
	ctx, cancel := context.WithoutCancel(jobs[0].ctx), func() {}
	if db.engine == PostgreSQL {
		ctx, cancel = context.WithTimeout(ctx, BatchTime)
	}
	defer cancel()
	clean := false
	defer func() {
		if !clean {
			db.writer.drop()
		}
	}()
	err := db.o.Ledger.Ready(ctx)
	if err != nil {
		replyAll(jobs, err)
		return true
	}
	base, first, err := db.beginWrite(ctx)
	if err != nil {
		replyAll(jobs, err)
		return true
	}
	if first != nil {
		_, err = db.writer.exec(ctx, "ROLLBACK")
		if err != nil {
			db.writer.drop()
		}
		clean = true
		db.transact([]*job{{ctx: context.Background(), fn: first, done: make(chan error, 1)}}, false)
		return db.transact(jobs, optimistic)
	}
	shared := len(jobs) > 1
	db.writer.pipe = pipe{open: optimistic && db.engine == PostgreSQL}
	if optimistic {
		base.deferred = db.o.Deferred()
	}
	if shared && !optimistic {
		_, err = db.writer.exec(ctx, "SAVEPOINT job")
		if err != nil {
			replyAll(jobs, fmt.Errorf("savepoint: %w", classify(err)))
			return true
		}
	}
	results := make([]error, len(jobs))
	kept := 0
	for i, j := range jobs {
		broken := false
		broken, results[i] = db.runJob(&base, j, shared && !optimistic)
		if db.writer.pipe.failed || broken && (shared || len(db.writer.pipe.queue) > 0) {
			return false // shared, or it failed on what it was told of statements that wait
		}
		if results[i] == nil {
			kept++
		}
	}
	if kept > 0 {
		err = errors.Join(base.flushDeferred(), base.page.Flush(&base), db.writer.flush(ctx))
		if db.writer.pipe.failed {
			return false
		}
		if err == nil {
			err = db.commitWrite(ctx)
		}
		if err != nil {
			for i, j := range jobs {
				if results[i] == nil {
					results[i] = err
				}
				j.reply(results[i])
			}
			return true
		}
		base.page.Committed()
		db.commits.Add(1)
		db.closures.Add(int64(kept))
	} else {
		db.writer.pipe.clear() // of a closure that failed by itself
		_, err = db.writer.exec(ctx, "ROLLBACK")
	}
	clean = err == nil
	for i, j := range jobs {
		j.reply(results[i])
	}
	return true
}

func replyAll(jobs []*job, err error) {
	for _, j := range jobs {
		j.reply(err)
	}
}

func (tx *Tx) flushDeferred() error {
	if tx.deferred == nil {
		return nil
	}
	return tx.deferred.Flush(tx)
}

// On SQLite BEGIN IMMEDIATE takes the one write lock; on PostgreSQL the lock is that
// of the ledger's row.
var beginStatement = map[string]string{SQLite: "BEGIN IMMEDIATE", PostgreSQL: "BEGIN ISOLATION LEVEL READ COMMITTED"}

// beginWrite opens the transaction, locks the ledger, and sets the time if that is believed.
// It gives what must be committed before all else, or nil.
func (db *DB) beginWrite(ctx context.Context) (Tx, func(tx *Tx) error, error) {
	db.queue.take()
	err := db.writer.begin(ctx, beginStatement[db.engine])
	db.queue.pass()
	if err != nil {
		return Tx{}, nil, fmt.Errorf("begin update: %w", classify(err))
	}
	tx := Tx{ctx: ctx, s: &db.writer, engine: db.engine, writing: true, wall: Micros(db.o.Now())}
	tx.page, tx.last, err = db.o.Ledger.Read(&tx)
	if err != nil {
		return Tx{}, nil, err
	}
	err = db.o.Believe(FromMicros(tx.last))
	if err != nil {
		return Tx{}, nil, err
	}
	first, err := tx.page.Open(&tx)
	if err != nil {
		return Tx{}, nil, err
	}
	tx.Now = FromMicros(max(tx.wall, tx.last+1))
	return tx, first, nil
}

// nextSavepoint keeps what a closure did and makes ready for the next. PostgreSQL gets
// it in one message, because each costs a way there and back.
var nextSavepoint = map[string][]string{
	SQLite:     {"RELEASE SAVEPOINT job", "SAVEPOINT job"},
	PostgreSQL: {"RELEASE SAVEPOINT job; SAVEPOINT job"},
}

// runJob runs one closure, in the savepoint that is open if there are any. true: the
// transaction cannot go on.
func (db *DB) runJob(base *Tx, j *job, savepoint bool) (bool, error) {
	tx := *base
	tx.page = base.page.Fork()
	err := db.call(&tx, j.fn)
	if err == nil {
		err = tx.failed // swallowed by fn: see Tx
	}
	tx.s = nil
	if err == nil && savepoint {
		for _, statement := range nextSavepoint[db.engine] {
			if err == nil {
				_, err = db.writer.exec(base.ctx, statement)
			}
		}
		err = Error("keep savepoint", err)
	}
	if err == nil {
		base.page = tx.page
		return false, nil
	}
	if !savepoint { // what only read, and was answered, leaves nothing to undo
		return tx.wrote || tx.failed != nil, err
	}
	_, undo := db.writer.exec(base.ctx, "ROLLBACK TO SAVEPOINT job")
	return undo != nil, err
}

// call runs fn; a panic becomes its error.
func (db *DB) call(tx *Tx, fn func(*Tx) error) error {
	var err error
	func() {
		defer func() {
			v := recover()
			if v != nil {
				db.log.Error("panic in update", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				err = fmt.Errorf("panic in update: %v", v)
			}
		}()
		err = fn(tx)
	}()
	return err
}

// commitWrite ends the transaction. An error of COMMIT itself is ErrCommitUnknown, but
// for SQLite's full disk: the last frame, which makes the others count, is not there.
func (db *DB) commitWrite(ctx context.Context) error {
	err := db.o.Commit(func() error {
		_, err := db.writer.exec(ctx, "COMMIT")
		return err
	})
	if pki.CodeOf(classify(err)) == ErrFull.Code && db.engine == SQLite {
		return classify(err)
	}
	if err != nil {
		return ErrCommitUnknown.Because(err)
	}
	return nil
}
