package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

var actor = pki.Actor{ID: "op-1", Auth: pki.AuthTLS}

// withTable adds a table of the tests' own.
func withTable(t testing.TB, db *store.DB) {
	t.Helper()
	_, err := db.Raw().Exec(`CREATE TABLE thing (id TEXT PRIMARY KEY, n BIGINT NOT NULL, flag BOOLEAN, raw BYTEA)`)
	if err != nil {
		t.Fatal(err)
	}
}

func add(id string, n int64) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO thing (id, n) VALUES ($1, $2)`, id, n)
		return err
	}
}

func count(t testing.TB, db *store.DB) int64 {
	t.Helper()
	var n int64
	err := db.View(t.Context(), func(tx *store.Tx) error {
		var err error
		n, err = tx.Int(`SELECT COUNT(*) FROM thing`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// together runs closures so that they meet in one batch: the writer is held until
// all of them wait.
func together(t testing.TB, db *store.DB, fns ...func(*store.Tx) error) []error {
	t.Helper()
	release, held := make(chan struct{}), make(chan struct{})
	blocker := make(chan error, 1)
	go func() {
		var once sync.Once
		blocker <- db.Update(context.Background(), func(*store.Tx) error {
			once.Do(func() { close(held) })
			<-release
			return nil
		})
	}()
	<-held
	results := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { results[i] = db.Update(context.Background(), fn) })
	}
	time.Sleep(50 * time.Millisecond)
	close(release)
	wg.Wait()
	err := <-blocker
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestViewIsASnapshotAndCannotWrite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		withTable(t, db)
		err := db.View(t.Context(), func(tx *store.Tx) error {
			before, err := tx.Int(`SELECT COUNT(*) FROM thing`)
			if err != nil {
				return err
			}
			err = db.Update(t.Context(), add("new", 1))
			if err != nil {
				return err
			}
			after, err := tx.Int(`SELECT COUNT(*) FROM thing`)
			if before != 0 || after != 0 {
				t.Errorf("snapshot saw %d, then %d rows", before, after)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var leaked *store.Tx
		err = db.View(t.Context(), func(tx *store.Tx) error { leaked = tx; return add("x", 1)(tx) })
		if err == nil {
			t.Error("a view could write")
		}
		_, err = leaked.Exec(`DELETE FROM thing`)
		if err == nil {
			t.Error("a transaction could be used after its end")
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			_, _, err := tx.Audit(actor, "x", "x", nil)
			return err
		})
		if err == nil {
			t.Error("a view could append to the audit tree")
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestTypesOnBothEngines(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		withTable(t, db)
		err := db.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO thing (id, n, flag, raw) VALUES ($1, $2, $3, $4)`, "鍵𠮷", int64(-1)<<62, true, []byte{0, 1, 255})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var id string
		var n int64
		var flag bool
		var raw []byte
		err = db.Raw().QueryRow(`SELECT id, n, flag, raw FROM thing WHERE flag AND raw = $1`, []byte{0, 1, 255}).Scan(&id, &n, &flag, &raw)
		if err != nil || id != "鍵𠮷" || n != int64(-1)<<62 || !flag || string(raw) != "\x00\x01\xff" {
			t.Errorf("%q %d %v %x %v", id, n, flag, raw, err)
		}
	})
}

func TestNowGrowsWhateverTheClocksSay(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			dsn := storetest.Migrated(t, engine)
			start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
			ahead := storetest.Open(t, dsn, func() time.Time { return start.Add(time.Hour) })
			behind := storetest.Open(t, dsn, func() time.Time { return start })
			var last time.Time
			for i := range 10 {
				db := []*store.DB{ahead, behind}[i%2]
				err := db.Update(t.Context(), func(tx *store.Tx) error {
					if !tx.Now.After(last) {
						t.Errorf("%d: now %v, not after %v", i, tx.Now, last)
					}
					if tx.Now != tx.Now.UTC().Truncate(time.Microsecond) {
						t.Errorf("now %v is not whole µs of UTC", tx.Now)
					}
					if back := tx.Behind(); db == behind && back.Round(time.Second) != time.Hour {
						t.Errorf("behind by %v", back)
					}
					last = tx.Now
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				err = behind.View(t.Context(), func(tx *store.Tx) error {
					if tx.Now.Before(last) {
						t.Errorf("view at %v before %v", tx.Now, last)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestMigrateAtOnceAndCheckSchema(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			dsn := storetest.Empty(t, engine)
			dbs := make([]*store.DB, 3)
			for i := range dbs {
				dbs[i] = storetest.Open(t, dsn, nil)
			}
			err := dbs[0].CheckSchema(t.Context())
			if pki.CodeOf(err) != "store.schema_old" {
				t.Errorf("empty database: %v", err)
			}
			var wg sync.WaitGroup
			for _, db := range dbs {
				wg.Go(func() {
					err := db.Migrate(context.Background())
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			err = dbs[1].CheckSchema(t.Context())
			if err != nil {
				t.Error(err)
			}
			_, err = dbs[0].Raw().Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`)
			if err != nil {
				t.Fatal(err)
			}
			err = dbs[0].CheckSchema(t.Context())
			if pki.CodeOf(err) != "store.schema_new" {
				t.Errorf("newer database: %v", err)
			}
		})
	}
}

func TestThreatPL2FilesAreOurs(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "子 %20?.db")
	dsn := "sqlite://" + strings.NewReplacer("%", "%25", "?", "%3F").Replace(path)
	db := storetest.Open(t, dsn, nil)
	err := db.Migrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(t.Context(), func(*store.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-queue"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
	}
	err = os.Chmod(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Options{DSN: dsn, Now: time.Now})
	if pki.CodeOf(err) != "store.file_mode" {
		t.Errorf("readable by others: %v", err)
	}
}

// TestThreatPL2Owner: a database file of another account is not opened, not by root either:
// its log would be root's, and its owner could open it no more.
func TestThreatPL2Owner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	path := filepath.Join(t.TempDir(), "inkan.db")
	for _, name := range []string{"", "-wal", "-queue"} {
		open := func() error {
			db, err := store.Open(t.Context(), store.Options{DSN: "sqlite://" + path, Now: time.Now})
			if err == nil {
				db.Close()
			}
			return err
		}
		err := open()
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path+name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		err = os.Chown(path+name, 4711, -1)
		if err != nil {
			t.Fatal(err)
		}
		err = open()
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Code != "store.file_owner" || e.Args["File"] != path+name || e.Args["Owner"] != "4711" {
			t.Errorf("%q of another account: %v", name, err)
		}
		err = os.Remove(path + name)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDSNsRefused(t *testing.T) {
	for _, dsn := range []string{"", "x", "mysql://a", "sqlite://rel.db", "sqlite:///tmp/a.db?mode=ro", "postgres://u:hunter2@h:x/"} {
		_, err := store.Open(t.Context(), store.Options{DSN: dsn, Now: time.Now})
		if pki.CodeOf(err) != "store.dsn" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", dsn, err)
		}
	}
}

// Threat CK11: what was deleted is not in the files any more.
func TestThreatCK11DeletionReachesTheDisk(t *testing.T) {
	dir := t.TempDir()
	db := storetest.Open(t, "sqlite://"+filepath.Join(dir, "inkan.db"), nil)
	err := db.Migrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	withTable(t, db)
	marker := strings.Repeat("MARKER-7f3a", 40)
	for i := range 200 {
		err = db.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO thing (id, n, raw) VALUES ($1, 1, $2)`, fmt.Sprint(i), []byte(marker))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	hits := func() int {
		n := 0
		for _, name := range []string{"inkan.db", "inkan.db-wal"} {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			n += strings.Count(string(raw), "MARKER-7f3a")
		}
		return n
	}
	if hits() == 0 {
		t.Fatal("the marker was never on the disk: the test is blind")
	}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM thing`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Shred(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := hits(); n != 0 {
		t.Errorf("%d traces after deletion", n)
	}
}
