package engine

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"inkan/internal/pki"
)

// Migration is a step of the schema that is written in Go.
type Migration struct {
	Version int64
	Run     func(ctx context.Context, tx *sql.Tx) error
}

// Schema is what a database is brought to: steps in files of SQL for both engines, and
// steps in Go.
type Schema struct {
	Files   fs.FS
	Written func(engine string) []Migration
}

// Provider gives what runs the steps of a schema on a database.
func (s Schema) Provider(db *sql.DB, engine string, log *slog.Logger) (*goose.Provider, error) {
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithSlog(log)}
	if engine == PostgreSQL {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // ask each second for 5 minutes
		if err != nil {
			return nil, fmt.Errorf("make migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	for _, m := range s.Written(engine) {
		options = append(options, goose.WithGoMigrations(goose.NewGoMigration(m.Version, &goose.GoFunc{RunTx: m.Run}, nil)))
	}
	p, err := goose.NewProvider(dialect, db, s.Files, options...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

// Migrate brings the database to a schema. Several processes may do so at once.
func (db *DB) Migrate(ctx context.Context, s Schema) error {
	p, err := s.Provider(db.write, db.engine, db.log)
	if err != nil {
		return err
	}
	db.queue.take() // PostgreSQL has a session lock for this
	defer db.queue.pass()
	done, err := p.Up(ctx)
	if err != nil {
		return Error("migrate database", err)
	}
	for _, m := range done {
		db.log.Info("migrated database", "version", m.Source.Version, "took", m.Duration)
	}
	return nil
}

// CheckSchema says whether the database has a schema: store.schema_old asks for Migrate,
// store.schema_new for a newer program.
func (db *DB) CheckSchema(ctx context.Context, s Schema) error {
	p, err := s.Provider(db.write, db.engine, db.log)
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return Error("read schema version", err)
	}
	switch {
	case current < target:
		return pki.E(pki.Conflict, "store.schema_old").With("Have", current).With("Want", target)
	case current > target:
		return pki.E(pki.Conflict, "store.schema_new").With("Have", current).With("Want", target)
	}
	return nil
}

// Shred makes deletions reach the disk: on SQLite it folds the write-ahead log, which
// still holds the old pages, into the file and empties it (threat CK11). PostgreSQL
// has no such means; there the epoch keys do it.
func (db *DB) Shred(ctx context.Context) error {
	if db.engine != SQLite {
		return nil
	}
	var busy, logged, moved int
	err := db.write.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &logged, &moved)
	if err != nil {
		return Error("empty write-ahead log", err)
	}
	if busy != 0 {
		return ErrBusy
	}
	return nil
}
