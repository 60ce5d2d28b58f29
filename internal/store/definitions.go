package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Definition is one part of the schema: a table, a trigger, a CHECK. Its rules hold for
// whoever sends a statement, until somebody who owns the database changes them.
type Definition struct {
	Kind  string // table, column, constraint, index, trigger, function, rule
	Table string // "" for a function
	Name  string
}

// definitions are the parts of a schema, each with its text.
type definitions map[Definition]string

// What CompareDefinitions can find of a definition.
const (
	DefinitionMissing  = "definition_missing"
	DefinitionChanged  = "definition_changed"
	DefinitionDisabled = "definition_disabled" // a trigger of PostgreSQL that does not fire
	DefinitionUnknown  = "definition_unknown"  // on a table of ours, and not of this program
)

// Difference is a definition that is not the one that this program makes.
type Difference struct {
	Definition
	What string // a word of the list above
	made string // the statement that makes it, of a guard
}

// Guard says whether the difference is one that MakeGuards puts right: a trigger, or its
// function, that is missing, changed or disabled. Nothing stored can contradict it.
func (d Difference) Guard() bool { return d.made != "" }

// ErrNoScratch says that the database does not let this program make the schema once
// more, so that nothing could be compared.
var ErrNoScratch = pki.E(pki.Forbidden, "store.no_scratch")

// CompareDefinitions compares the schema with the one that this program makes: the same
// migrations make it once more, in memory on SQLite, on PostgreSQL in a schema of a
// transaction that is rolled back. So both are written by the same server in the same
// way, whatever its version. An index that is not unique is no finding: it changes no
// answer. ErrNoScratch: it could not be done.
func (db *DB) CompareDefinitions(ctx context.Context) ([]Difference, error) {
	want, made, err := db.wanted(ctx)
	if err != nil {
		return nil, err
	}
	return db.differ(ctx, want, made)
}

func (db *DB) differ(ctx context.Context, want, made definitions) ([]Difference, error) {
	have, err := db.defined(ctx, want)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for d, text := range want {
		found, ok := have[d]
		what := DefinitionChanged
		switch {
		case found == text:
			continue
		case !ok:
			what = DefinitionMissing
		case found == text+disabled:
			what = DefinitionDisabled
		}
		out = append(out, Difference{d, what, made[d]})
	}
	for d := range have {
		_, ok := want[d]
		if !ok && want.has(d.Table) {
			out = append(out, Difference{Definition: d, What: DefinitionUnknown})
		}
	}
	slices.SortFunc(out, func(a, b Difference) int {
		return strings.Compare(a.Table+" "+a.Kind+" "+a.Name, b.Table+" "+b.Kind+" "+b.Name)
	})
	return out, nil
}

// disabled ends the text of a trigger that does not fire.
const disabled = " DISABLED"

// has says whether a table is one of ours.
func (d definitions) has(table string) bool {
	_, ok := d[Definition{"table", table, table}]
	return ok
}

// wanted gives the definitions that this program makes, and the statements that make its
// guards.
func (db *DB) wanted(ctx context.Context) (definitions, definitions, error) {
	if db.sql.Engine() == PostgreSQL {
		return db.wantedPostgres(ctx)
	}
	scratch, err := sql.Open("sqlite", "file::memory:?_pragma=trusted_schema(0)")
	if err != nil {
		return nil, nil, fmt.Errorf("open scratch database: %w", err)
	}
	defer func() { _ = scratch.Close() }()
	scratch.SetMaxOpenConns(1) // each connection has a memory of its own
	p, err := schema.Provider(scratch, SQLite, db.log)
	if err != nil {
		return nil, nil, err
	}
	_, err = p.Up(ctx)
	if err != nil {
		return nil, nil, engine.Error("make scratch schema", err)
	}
	want, err := readSQLite(ctx, scratch)
	made := definitions{}
	for d, text := range want {
		if d.Kind == "trigger" {
			made[d] = text
		}
	}
	return want, made, err
}

// defined gives the definitions that are in the database.
func (db *DB) defined(ctx context.Context, want definitions) (definitions, error) {
	if db.sql.Engine() == PostgreSQL {
		return db.definedPostgres(ctx, want)
	}
	_, read := db.sql.Pools()
	return readSQLite(ctx, read)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readSQLite reads the catalogue of SQLite. It holds the very texts that made the tables
// with their columns, CHECKs and keys, the indexes and the triggers. Names that begin
// with sqlite_ are the engine's own; goose_db_version is the migrations' own.
func readSQLite(ctx context.Context, q querier) (definitions, error) {
	return readDefinitions(ctx, q, `SELECT type, tbl_name, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
		AND tbl_name <> 'goose_db_version' AND NOT (type = 'index' AND sql NOT LIKE 'CREATE UNIQUE %')`)
}

// readDefinitions collects rows of kind, table, name and text.
func readDefinitions(ctx context.Context, q querier, query string, args ...any) (definitions, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, engine.Error("read definitions", err)
	}
	defer rows.Close()
	out := definitions{}
	for rows.Next() {
		var d Definition
		var text string
		err = rows.Scan(&d.Kind, &d.Table, &d.Name, &text)
		if err != nil {
			return nil, engine.Error("scan definition", err)
		}
		for _, twice := out[d]; twice; _, twice = out[d] { // a catalogue that was written by hand
			d.Name += " again"
		}
		out[d] = text
	}
	return out, engine.Error("read definitions", rows.Err())
}

// MakeGuards makes guards anew that are missing, changed or disabled: functions first,
// since triggers name them.
func (tx *Tx) MakeGuards(list []Difference) error {
	for _, kind := range []string{"function", "trigger"} {
		for _, d := range list {
			if d.Kind != kind || !d.Guard() {
				continue
			}
			statements := []string{d.made}
			if kind == "trigger" {
				drop := `DROP TRIGGER IF EXISTS ` + d.Name
				if tx.sql.Engine() == PostgreSQL {
					drop += ` ON ` + d.Table
				}
				statements = []string{drop, d.made}
			}
			for _, s := range statements {
				_, err := tx.sql.Exec(s)
				if err != nil {
					return engine.Error("make "+kind+" "+d.Name, err)
				}
			}
		}
	}
	return nil
}

// noScratch says whether an error of the engine is that this role may not make a schema,
// or that the server takes no changes.
func noScratch(err error) bool {
	state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	return ok && slices.Contains([]string{"42501", "25006"}, state.SQLState())
}
