package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"inkan/internal/store/engine"
)

// Serials and hashes are random, so that each index of them takes every certificate at
// another page: these pages are what a commit writes and what a large database waits
// for. Migration 10 keeps those that something is looked up by, or that keep a thing
// unique (ADR 95).

// slimTables are built anew on SQLite, which can neither drop a constraint nor change
// how a table is stored. BIGINT PRIMARY KEY is an index beside the table there, INTEGER
// PRIMARY KEY is the table's own order.
var slimTables = []struct{ table, old, new string }{
	{"audit", "idx BIGINT PRIMARY KEY", "idx INTEGER PRIMARY KEY"},
	{"audit_hash", "idx BIGINT PRIMARY KEY", "idx INTEGER PRIMARY KEY"},
	{"public_key", "owner       TEXT NOT NULL\n)", "owner       TEXT NOT NULL\n) WITHOUT ROWID"},
	{"intent", "serial      TEXT   PRIMARY KEY", "serial      TEXT   NOT NULL"},
	{"certificate", "sha256       TEXT   NOT NULL UNIQUE", "sha256       TEXT   NOT NULL"},
}

// slimSQL is for both engines.
var slimSQL = []string{
	// An intent's serial is looked up and unique while it is open; AddIntent sees to those
	// that are certificates.
	`CREATE UNIQUE INDEX intent_serial ON intent (serial) WHERE state = 'open'`,
	// Only operators and API clients are found by their certificate's hash.
	`CREATE UNIQUE INDEX certificate_own ON certificate (sha256) WHERE request = ''`,
	// In the order of time: at the end of the index.
	`DROP INDEX certificate_status`,
	`CREATE INDEX certificate_issued ON certificate (issuer, issued_at, serial)`,
	// A CRL is made from the index alone.
	`DROP INDEX certificate_revoked`,
	`CREATE INDEX certificate_revoked ON certificate (issuer, revoked_at, serial, not_after, effective_at, crl_entry) WHERE revoked_at <> 0`,
	`DROP INDEX certificate_holder`,
	`CREATE INDEX certificate_holder ON certificate (holder_code)`,
}

func slim(ctx context.Context, tx *sql.Tx, engine string) error {
	texts := slimSQL
	if engine == PostgreSQL {
		texts = append([]string{
			`ALTER TABLE intent DROP CONSTRAINT intent_pkey`,
			`ALTER TABLE intent ALTER COLUMN serial SET NOT NULL`,
			`ALTER TABLE certificate DROP CONSTRAINT certificate_sha256_key`,
		}, texts...)
	} else {
		for _, t := range slimTables {
			err := rebuild(ctx, tx, t.table, t.old, t.new)
			if err != nil {
				return fmt.Errorf("build table %s anew: %w", t.table, err)
			}
		}
	}
	for _, text := range texts {
		_, err := tx.ExecContext(ctx, text)
		if err != nil {
			return fmt.Errorf("change schema: %w", err)
		}
	}
	return nil
}

// rebuild makes a table of SQLite anew, with one part of its definition changed, and
// with the indexes and triggers that it had.
func rebuild(ctx context.Context, tx *sql.Tx, table, old, changed string) error {
	var definition string
	err := tx.QueryRowContext(ctx, `SELECT sql FROM sqlite_master WHERE type = 'table' AND name = $1`, table).Scan(&definition)
	if err != nil {
		return fmt.Errorf("read definition: %w", err)
	}
	head := "CREATE TABLE " + table + " ("
	if strings.Count(definition, old) != 1 || !strings.HasPrefix(definition, head) {
		return fmt.Errorf("the definition is not as it was made: %s", definition)
	}
	definition = "CREATE TABLE slim_" + strings.TrimPrefix(strings.Replace(definition, old, changed, 1), "CREATE TABLE ")
	rest, err := dependents(ctx, tx, table)
	if err != nil {
		return err
	}
	steps := append([]string{
		definition,
		`INSERT INTO slim_` + table + ` SELECT * FROM ` + table,
		`DROP TABLE ` + table,
		`PRAGMA legacy_alter_table = ON`, // triggers of other tables name this one, which is not there for a moment
		`ALTER TABLE slim_` + table + ` RENAME TO ` + table,
		`PRAGMA legacy_alter_table = OFF`,
	}, rest...)
	for _, step := range steps {
		_, err = tx.ExecContext(ctx, step)
		if err != nil {
			return err
		}
	}
	return nil
}

func dependents(ctx context.Context, tx *sql.Tx, table string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND tbl_name = $1 AND sql IS NOT NULL`, table)
	if err != nil {
		return nil, fmt.Errorf("read indexes and triggers: %w", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (string, error) {
		var text string
		err := row.Scan(&text)
		return text, err
	})
}
