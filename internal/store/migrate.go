package store

import (
	"context"
	"database/sql"
	_ "embed" // of tables.sql
	"fmt"
	"regexp"

	"inkan/internal/store/audit"
	"inkan/internal/store/engine"
)

// tablesSQL is the baseline of the schema, with the guards that the tables declare. Until the
// first release both are changed in place; from then on a change is a migration of its own, and
// nothing that was released is edited.
//
//go:embed schema/tables.sql
var tablesSQL string

// schema is what this program brings a database to.
var schema = engine.Schema{Written: func(name string) []engine.Migration {
	return []engine.Migration{{Version: 1, Run: func(ctx context.Context, tx *sql.Tx) error { return makeBaseline(ctx, tx, name) }}}
}}

// Migrate brings the schema up to date. Several processes may do so at once.
func (db *DB) Migrate(ctx context.Context) error { return db.sql.Migrate(ctx, schema) }

// CheckSchema says whether the schema is this program's: store.schema_old asks for
// Migrate, store.schema_new for a newer program.
func (db *DB) CheckSchema(ctx context.Context) error { return db.sql.CheckSchema(ctx, schema) }

// Shred makes deletions reach the disk (threat CK11).
func (db *DB) Shred(ctx context.Context) error { return db.sql.Shred(ctx) }

// either is a place of tables.sql where the engines differ: {SQLite|PostgreSQL}.
var either = regexp.MustCompile(`\{(?P<sqlite>[^{}|]*)\|(?P<postgres>[^{}|]*)\}`)

func makeBaseline(ctx context.Context, tx *sql.Tx, name string) error {
	for _, text := range []string{either.ReplaceAllString(tablesSQL, "${"+name+"}"), guards(name)} {
		_, err := tx.ExecContext(ctx, text) // no arguments: several statements may be sent at once
		if err != nil {
			return fmt.Errorf("make schema: %w", err)
		}
	}
	root := audit.EmptyRoot()
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_tree (id, size, root, last_at) VALUES (1, 0, $1, 0)`, root[:])
	if err != nil {
		return fmt.Errorf("begin audit tree: %w", err)
	}
	return nil
}
