package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

func TestGroupCommitSharesCommits(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		withTable(t, db)
		var fns []func(*store.Tx) error
		for i := range 200 {
			fns = append(fns, add(fmt.Sprint(i), 1))
		}
		before := db.Stats()
		for _, err := range together(t, db, fns...) {
			if err != nil {
				t.Fatal(err)
			}
		}
		after := db.Stats()
		if n := after.Commits - before.Commits; n > 3 {
			t.Errorf("200 closures took %d commits", n)
		}
		if n := after.Closures - before.Closures; n != 201 {
			t.Errorf("%d closures counted, want 201", n)
		}
		if n := count(t, db); n != 200 {
			t.Errorf("%d rows, want 200", n)
		}
	})
}

func TestClosuresFailAlone(t *testing.T) {
	boom := errors.New("boom")
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		withTable(t, db)
		failing := []struct {
			name string
			fn   func(*store.Tx) error
			is   error
			text string
		}{
			{"own error after writing", func(tx *store.Tx) error {
				err := add("x", 1)(tx)
				if err != nil {
					return err
				}
				_, _, err = tx.Audit(actor, "thing.made", "x", nil)
				return errors.Join(err, boom)
			}, boom, ""},
			{"own error behind a statement whose outcome waits", func(tx *store.Tx) error {
				err := tx.CloseIntent("nobody's", "done")
				if err != nil {
					return err
				}
				return boom
			}, pki.ErrConflict, ""},
			{"unique", func(tx *store.Tx) error {
				return errors.Join(add("y", 1)(tx), add("y", 2)(tx))
			}, pki.ErrConflict, ""},
			{"swallowed statement error", func(tx *store.Tx) error {
				_ = add("z", 1)(tx)
				_ = add("z", 1)(tx)
				_ = add("zz", 1)(tx)
				return nil
			}, pki.ErrConflict, ""},
			{"no such table", func(tx *store.Tx) error {
				_, err := tx.Exec(`DELETE FROM nothing`)
				return err
			}, nil, "nothing"},
			{"panic", func(tx *store.Tx) error {
				_ = add("p", 1)(tx)
				panic("at the disco")
			}, nil, "panic in update: at the disco"},
			{"not found", func(tx *store.Tx) error {
				_ = add("q", 1)(tx)
				_, err := tx.Int(`SELECT n FROM thing WHERE id = $1`, "nobody")
				return err
			}, pki.ErrNotFound, ""},
			{"time argument", func(tx *store.Tx) error {
				_, err := tx.Exec(`INSERT INTO thing (id, n) VALUES ($1, $2)`, "t", time.Now())
				return err
			}, nil, "time.Time"},
			{"secret argument", func(tx *store.Tx) error {
				_, err := tx.Exec(`INSERT INTO thing (id, n) VALUES ($1, 1)`, pki.Secret("s"))
				return err
			}, nil, "pki.Secret"},
		}
		fns := []func(*store.Tx) error{add("first", 1)}
		for _, f := range failing {
			fns = append(fns, f.fn, add("after "+f.name, 1))
		}
		check := func(name string, err error, is error, text string) {
			t.Helper()
			switch {
			case err == nil:
				t.Errorf("%s: no error", name)
			case is != nil && !errors.Is(err, is):
				t.Errorf("%s: %v, want %v", name, err, is)
			case !strings.Contains(err.Error(), text):
				t.Errorf("%s: %v, want %q in it", name, err, text)
			}
		}
		results := together(t, db, fns...)
		for i, f := range failing {
			check(f.name, results[1+2*i], f.is, f.text)
			if results[2+2*i] != nil {
				t.Errorf("neighbour of %s: %v", f.name, results[2+2*i])
			}
		}
		if n := count(t, db); n != int64(1+len(failing)) {
			t.Errorf("%d rows, want %d", n, 1+len(failing))
		}
		// The same, each alone in its transaction.
		for _, f := range failing {
			check(f.name+" alone", db.Update(t.Context(), f.fn), f.is, f.text)
		}
		if n := count(t, db); n != int64(1+len(failing)) {
			t.Errorf("alone: %d rows, want %d", n, 1+len(failing))
		}
		verifyClean(t, db, 0)
	})
}

func TestGoexitInAClosureDoesNotStopTheWriter(t *testing.T) {
	db := storetest.SQLite(t)
	withTable(t, db)
	results := together(t, db, add("a", 1), func(*store.Tx) error { goexit(); return nil }, add("b", 1))
	if results[1] == nil {
		t.Error("no error for the closure that ended its goroutine")
	}
	err := db.Update(t.Context(), add("c", 1))
	if err != nil {
		t.Fatal(err)
	}
}

func TestBrokenTransactionRunsEachAlone(t *testing.T) {
	db := storetest.SQLite(t)
	withTable(t, db)
	var runs atomic.Int64
	results := together(t, db,
		func(tx *store.Tx) error { runs.Add(1); return add("a", 1)(tx) },
		func(tx *store.Tx) error { // takes everybody's work away, as SQLite does itself on a full disk
			_, err := tx.Exec(`INSERT OR ROLLBACK INTO thing (id, n) VALUES ('c', 1), ('c', 2)`)
			return err
		},
		add("b", 1))
	if results[0] != nil || results[2] != nil || results[1] == nil {
		t.Errorf("results %v", results)
	}
	if n := count(t, db); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	if runs.Load() != 2 {
		t.Logf("closure ran %d times (its place in the batch is chance)", runs.Load())
	}
}

func TestCommitThatFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		effect bool
		fail   func(do func() error) error
	}{
		{"before taking effect", false, func(func() error) error { return errors.New("cable cut") }},
		{"but took effect", true, func(do func() error) error { return errors.Join(do(), errors.New("cable cut")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, db *store.DB) {
				withTable(t, db)
				db.FailCommit(c.fail)
				err := db.Update(t.Context(), func(tx *store.Tx) error {
					_, _, err := tx.Audit(actor, "thing.made", "a", nil)
					return errors.Join(err, add("a", 1)(tx))
				})
				if !errors.Is(err, store.ErrCommitUnknown) {
					t.Fatalf("%v, want ErrCommitUnknown", err)
				}
				db.FailCommit(func(do func() error) error { return do() })
				if got := count(t, db) == 1; got != c.effect {
					t.Errorf("took effect: %v, want %v", got, c.effect)
				}
				// The writer goes on, on the right tree.
				err = db.Update(t.Context(), func(tx *store.Tx) error {
					i, _, err := tx.Audit(actor, "thing.made", "b", nil)
					if want := map[bool]int64{true: 1, false: 0}[c.effect]; i != want {
						t.Errorf("index %d, want %d", i, want)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				verifyClean(t, db, 0)
			})
		})
	}
}

func TestCancelledBeforeStartNeverRuns(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		withTable(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := db.Update(ctx, add("dead", 1))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("dead context: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		waiting := make(chan error, 1)
		err = db.Update(t.Context(), func(tx *store.Tx) error { // holds the writer
			go func() { waiting <- db.Update(ctx, add("left", 1)) }()
			time.Sleep(30 * time.Millisecond)
			cancel()
			if err := <-waiting; !errors.Is(err, context.Canceled) {
				t.Errorf("left: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// Cancelled after the start: the outcome counts.
		ctx, cancel = context.WithCancel(t.Context())
		err = db.Update(ctx, func(tx *store.Tx) error { cancel(); return add("late", 1)(tx) })
		if err != nil {
			t.Errorf("late: %v", err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

// A server under load holds SQLite's write lock nearly always; a command beside it
// must come through all the same.
func TestABusyProcessDoesNotStarveAnother(t *testing.T) {
	dsn := storetest.Migrated(t, store.SQLite)
	server, command := storetest.Open(t, dsn, nil), storetest.Open(t, dsn, nil)
	withTable(t, server)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := server.Update(context.Background(), func(*store.Tx) error {
					time.Sleep(10 * time.Millisecond)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // the server is busy now
	begin := server.Stats().Commits
	const turns = 5
	for i := range turns {
		err := command.Update(t.Context(), add(fmt.Sprint(i), 1))
		if err != nil {
			t.Errorf("turn %d: %v", i, err)
		}
	}
	stop()
	wg.Wait()
	commits := server.Stats().Commits - begin
	t.Logf("%d turns of the command beside %d commits of the server", turns, commits)
	if commits > 4*turns+4 {
		t.Errorf("the command waited for %d commits to get %d turns", commits, turns)
	}
}

// A failover or a restart of PostgreSQL cuts connections: the next use makes new ones,
// and a transaction that was cut changes nothing.
func TestConnectionsThatDie(t *testing.T) {
	dsn := storetest.Migrated(t, store.PostgreSQL)
	db := storetest.Open(t, dsn, nil)
	other := storetest.Open(t, dsn, nil)
	withTable(t, db)
	cut := func() {
		_, err := other.Raw().Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		_ = count(t, db) // opens readers
	}
	cut()
	err := db.Update(t.Context(), add("after", 1))
	if err != nil {
		t.Errorf("update after the cut: %v", err)
	}
	for range 12 { // every reader, stale or not
		_ = count(t, db)
	}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		err := add("lost", 1)(tx)
		cut()
		time.Sleep(20 * time.Millisecond)
		return errors.Join(err, add("lost too", 1)(tx))
	})
	if pki.ClassOf(err) != pki.Busy {
		t.Errorf("update that was cut: %v (class %s)", err, pki.ClassOf(err))
	}
	results := together(t, db, add("b", 1), func(tx *store.Tx) error {
		cut()
		time.Sleep(20 * time.Millisecond)
		return add("c", 1)(tx)
	}, add("d", 1))
	if results[0] != nil || results[1] == nil || results[2] != nil {
		t.Errorf("neighbours of the cut: %v", results)
	}
	if n := count(t, db); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	verifyClean(t, db, 0)
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		withTable(t, db)
		var done, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				err := db.Update(context.Background(), add(fmt.Sprint(i), 1))
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, store.ErrClosed):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		db.Close()
		wg.Wait()
		db.Close()
		if done.Load()+refused.Load() != 100 {
			t.Errorf("%d done, %d refused", done.Load(), refused.Load())
		}
		err := db.View(context.Background(), func(*store.Tx) error { return nil })
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("view after close: %v", err)
		}
	})
}

func goexit() { runtime.Goexit() }
