package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"inkan/internal/store/audit"
	"inkan/internal/store/engine"
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

// schema is what this program brings a database to.
var schema = engine.Schema{Files: migrationFiles(), Written: written}

func migrationFiles() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is in the program
	}
	return files
}

// Migrate brings the schema up to date. Several processes may do so at once.
func (db *DB) Migrate(ctx context.Context) error { return db.sql.Migrate(ctx, schema) }

// CheckSchema says whether the schema is this program's: store.schema_old asks for
// Migrate, store.schema_new for a newer program.
func (db *DB) CheckSchema(ctx context.Context) error { return db.sql.CheckSchema(ctx, schema) }

// Shred makes deletions reach the disk (threat CK11).
func (db *DB) Shred(ctx context.Context) error { return db.sql.Shred(ctx) }

// written gives the migrations of an engine that are written in Go.
func written(name string) []engine.Migration {
	suffix := "_" + name + ".sql"
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
	return []engine.Migration{
		{Version: guardsVersion, Run: after(beginTree, guard("guards"))},
		{Version: accountGuardsVersion, Run: guard("guards_account")},
		{Version: renewalGuardsVersion, Run: guard("guards_renewal")},
		{Version: slimVersion, Run: after(func(ctx context.Context, tx *sql.Tx) error { return slim(ctx, tx, name) }, guard("guards_slim"))},
		{Version: revocationGuardsVersion, Run: guard("guards_revocation")},
		{Version: datesGuardsVersion, Run: guard("guards_dates")},
		{Version: piecesVersion, Run: toPieces},
		{Version: authorityGuardsVersion, Run: guard("guards_authority")},
	}
}

func beginTree(ctx context.Context, tx *sql.Tx) error {
	root := audit.EmptyRoot()
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
