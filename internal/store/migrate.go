package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"inkan/internal/pki"
)

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed guards*.sql
var guards embed.FS

// Migrations that cannot be said in one text for both engines: triggers, and tables of
// SQLite built anew.
const (
	guardsVersion           = 3
	accountGuardsVersion    = 6
	renewalGuardsVersion    = 8
	slimVersion             = 10 // see slim.go
	revocationGuardsVersion = 11
	datesGuardsVersion      = 14
	piecesVersion           = 15
	authorityGuardsVersion  = 17
)

// Migrate brings the schema up to date. Several processes may do so at once.
func (db *DB) Migrate(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	db.turn.take() // PostgreSQL has a session lock for this
	defer db.turn.pass()
	done, err := p.Up(ctx)
	if err != nil {
		return dbError("migrate database", err)
	}
	for _, m := range done {
		db.log.Info("migrated database", "version", m.Source.Version, "took", m.Duration)
	}
	return nil
}

// CheckSchema says whether the schema is this program's: store.schema_old asks for
// Migrate, store.schema_new for a newer program.
func (db *DB) CheckSchema(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return dbError("read schema version", err)
	}
	switch {
	case current < target:
		return pki.E(pki.Conflict, "store.schema_old").With("Have", current).With("Want", target)
	case current > target:
		return pki.E(pki.Conflict, "store.schema_new").With("Have", current).With("Want", target)
	}
	return nil
}

func (db *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithSlog(db.log)}
	if db.engine == PostgreSQL {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // ask each second for 5 minutes
		if err != nil {
			return nil, fmt.Errorf("make migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	for _, m := range written(db.engine) {
		options = append(options, goose.WithGoMigrations(goose.NewGoMigration(m.version, &goose.GoFunc{RunTx: m.run}, nil)))
	}
	p, err := goose.NewProvider(dialect, db.write, files, options...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

// migration is one that is written in Go.
type migration struct {
	version int64
	run     func(ctx context.Context, tx *sql.Tx) error
}

// written gives the migrations of an engine that are written in Go.
func written(engine string) []migration {
	suffix := "_" + engine + ".sql"
	guard := func(file string) func(ctx context.Context, tx *sql.Tx) error {
		return func(ctx context.Context, tx *sql.Tx) error { return addGuards(ctx, tx, file+suffix) }
	}
	// after is a migration that does something ahead of its triggers.
	after := func(before, then func(ctx context.Context, tx *sql.Tx) error) func(ctx context.Context, tx *sql.Tx) error {
		return func(ctx context.Context, tx *sql.Tx) error {
			err := before(ctx, tx)
			if err != nil {
				return err
			}
			return then(ctx, tx)
		}
	}
	return []migration{
		{guardsVersion, after(beginTree, guard("guards"))},
		{accountGuardsVersion, guard("guards_account")},
		{renewalGuardsVersion, guard("guards_renewal")},
		{slimVersion, after(func(ctx context.Context, tx *sql.Tx) error { return slim(ctx, tx, engine) }, guard("guards_slim"))},
		{revocationGuardsVersion, guard("guards_revocation")},
		{datesGuardsVersion, guard("guards_dates")},
		{piecesVersion, toPieces},
		{authorityGuardsVersion, guard("guards_authority")},
	}
}

func beginTree(ctx context.Context, tx *sql.Tx) error {
	root := (&tree{}).root()
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_tree (id, size, root, last_at) VALUES (1, 0, $1, 0)`, root[:])
	if err != nil {
		return fmt.Errorf("begin audit tree: %w", err)
	}
	return nil
}

func addGuards(ctx context.Context, tx *sql.Tx, file string) error {
	text, err := guards.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read guards: %w", err)
	}
	_, err = tx.ExecContext(ctx, string(text)) // no arguments: several statements may be sent at once
	if err != nil {
		return fmt.Errorf("add guards: %w", err)
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
		return dbError("empty write-ahead log", err)
	}
	if busy != 0 {
		return errBusy
	}
	return nil
}
