// Package storetest gives tests fresh databases: a SQLite file in a temporary
// directory, and a database on a PostgreSQL that is started once per test process.
//
// It owns that PostgreSQL. It does not own what is tested. Program code must not
// import it.
package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"inkan/internal/store"
	"inkan/internal/store/audit"
)

// Engines are the engines that every test of SQL runs on.
var Engines = []string{store.SQLite, store.PostgreSQL}

// Run runs a test once on each engine, on a fresh database with the whole schema.
func Run(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Helper()
	for _, engine := range Engines {
		t.Run(engine, func(t *testing.T) {
			test(t, Open(t, Migrated(t, engine), nil))
		})
	}
}

// SQLite gives a fresh database with the whole schema on the default engine, for
// tests that are about something else.
func SQLite(t testing.TB) *store.DB {
	t.Helper()
	return Open(t, Migrated(t, store.SQLite), nil)
}

// Open opens a handle that is closed with the test. now may be nil: the wall clock.
func Open(t testing.TB, dsn string, now func() time.Time) *store.DB {
	t.Helper()
	if now == nil {
		now = time.Now
	}
	return OpenWith(t, store.Options{DSN: dsn, Now: now})
}

// OpenWith opens a handle that is closed with the test.
func OpenWith(t testing.TB, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), o)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(db.Close)
	return db
}

// Empty gives the DSN of a fresh database without any schema.
func Empty(t testing.TB, engine string) string {
	t.Helper()
	if engine == store.SQLite {
		return sqliteDSN(filepath.Join(t.TempDir(), "inkan.db"))
	}
	return createDatabase(t, "template0")
}

// Migrated gives the DSN of a fresh database with the whole schema: a copy of one
// that is migrated once per test process.
func Migrated(t testing.TB, engine string) string {
	t.Helper()
	if engine == store.SQLite {
		image, err := sqliteTemplate()
		if err != nil {
			t.Fatalf("make SQLite template: %v", err)
		}
		path := filepath.Join(t.TempDir(), "inkan.db")
		err = os.WriteFile(path, image, 0o600)
		if err != nil {
			t.Fatalf("copy SQLite template: %v", err)
		}
		return sqliteDSN(path)
	}
	server(t)
	name, err := postgresTemplate()
	if err != nil {
		t.Fatalf("make PostgreSQL template: %v", err)
	}
	return createDatabase(t, name)
}

// Records are the audit records from an index on, as a transaction sees them: the change
// feed, whole. The program reads what is about one subject, or what a node has not seen.
func Records(tx *store.Tx, from int64) ([]audit.AuditRecord, error) {
	size, _, err := tx.AuditTree()
	if err != nil {
		return nil, err
	}
	var all []audit.AuditRecord
	for ; from < size; from++ {
		r, err := tx.AuditRecord(from)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func sqliteDSN(path string) string { return "sqlite://" + path }

var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "inkan-template-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "inkan.db")
	err = migrate(sqliteDSN(path))
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path) // whole: the last connection folded the WAL into it
})

const templateName = "inkan_template"

var postgresTemplate = sync.OnceValues(func() (string, error) {
	s, err := start()
	if err != nil {
		return "", err
	}
	err = s.exec("CREATE DATABASE " + templateName + " TEMPLATE template0")
	if err != nil {
		return "", err
	}
	return templateName, migrate(s.dsn(templateName))
})

func migrate(dsn string) error {
	db, err := store.Open(context.Background(), store.Options{DSN: dsn, Now: time.Now})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Migrate(context.Background())
}

var databases atomic.Int64

func createDatabase(t testing.TB, template string) string {
	t.Helper()
	s := server(t)
	name := fmt.Sprintf("test_%d", databases.Add(1))
	err := s.exec("CREATE DATABASE " + name + " TEMPLATE " + template)
	if err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() { // runs after the handles were closed: they were opened later
		err := s.exec("DROP DATABASE " + name + " WITH (FORCE)")
		if err != nil {
			t.Logf("drop database: %v", err)
		}
	})
	return s.dsn(name)
}

func (s *postgres) exec(statement string) error {
	s.mu.Lock() // CREATE DATABASE wants its template to itself
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
