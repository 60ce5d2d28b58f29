package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"maps"
	"strings"

	"inkan/internal/store/engine"
)

// The catalogue of PostgreSQL, as rows of kind, table, name and text. $1 is the schema;
// search_path is this schema alone, so that its names stand without it and all others
// with theirs. Constraints carry whether the triggers that enforce them fire. NOT NULL is
// the column's.
var postgresCatalogue = []string{
	`SELECT 'table', c.relname, c.relname, concat_ws(' ', c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
		(SELECT COUNT(*) FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)))
	FROM pg_class c WHERE c.relnamespace = CAST($1 AS oid) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> 'goose_db_version'`,
	`SELECT 'column', c.relname, a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
		CAST(a.attcollation AS regcollation), pg_get_expr(d.adbin, d.adrelid, true))
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE c.relnamespace = CAST($1 AS oid) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND c.relname <> 'goose_db_version'`,
	`SELECT 'constraint', c.relname, k.conname, concat_ws(' ', pg_get_constraintdef(k.oid, true), k.convalidated,
		(SELECT string_agg(CAST(t.tgenabled AS text), '' ORDER BY t.tgenabled) FROM pg_trigger t WHERE t.tgconstraint = k.oid))
	FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = CAST($1 AS oid) AND k.contype <> 'n' AND c.relname <> 'goose_db_version'`,
	`SELECT 'index', c.relname, x.relname, concat_ws(' ', pg_get_indexdef(i.indexrelid, 0, true), i.indisvalid, i.indisready, i.indislive, i.indimmediate)
	FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
	WHERE c.relnamespace = CAST($1 AS oid) AND (i.indisunique OR i.indexprs IS NOT NULL) AND c.relname <> 'goose_db_version'`,
	`SELECT 'trigger', c.relname, t.tgname, pg_get_triggerdef(t.oid, true) || CASE t.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN '` + disabled + `' ELSE CAST(t.tgenabled AS text) END
	FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = CAST($1 AS oid) AND NOT t.tgisinternal AND c.relname <> 'goose_db_version'`,
	`SELECT 'rule', c.relname, r.rulename, pg_get_ruledef(r.oid, true) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = CAST($1 AS oid)`,
	`SELECT 'policy', c.relname, p.polname, '' FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = CAST($1 AS oid)`,
	`SELECT 'function', '', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', concat_ws(' ', p.prokind, p.prosecdef, p.proisstrict, p.provolatile,
		CAST(p.proconfig AS text), l.lanname, pg_get_function_result(p.oid), p.probin, p.prosrc)
	FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = CAST($1 AS oid)`,
}

// postgresMade are the statements that make triggers and their functions.
var postgresMade = []string{
	`SELECT 'trigger', c.relname, t.tgname, pg_get_triggerdef(t.oid, true)
	FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = CAST($1 AS oid) AND NOT t.tgisinternal`,
	`SELECT 'function', '', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = CAST($1 AS oid)`,
}

func readPostgres(ctx context.Context, q querier, queries []string, schema int64) (definitions, error) {
	out := definitions{}
	for _, query := range queries {
		part, err := readDefinitions(ctx, q, query, schema)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, part)
	}
	return out, nil
}

// wantedPostgres runs the migrations in a schema that is never committed.
func (db *DB) wantedPostgres(ctx context.Context) (definitions, definitions, error) {
	write, _ := db.sql.Pools()
	tx, err := write.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, engine.Error("begin scratch", err)
	}
	defer func() { _ = tx.Rollback() }()
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails; see crypto/rand
	name := "inkan_scratch_" + hex.EncodeToString(random)
	_, err = tx.ExecContext(ctx, `CREATE SCHEMA `+name)
	if noScratch(err) {
		return nil, nil, ErrNoScratch.Because(err)
	}
	if err != nil {
		return nil, nil, engine.Error("make scratch schema", err)
	}
	_, err = tx.ExecContext(ctx, `SET LOCAL search_path = `+name)
	if err != nil {
		return nil, nil, engine.Error("make scratch schema", err)
	}
	for _, m := range schema.Written(PostgreSQL) {
		err = m.Run(ctx, tx)
		if err != nil {
			break
		}
	}
	if err != nil {
		return nil, nil, engine.Error("make scratch schema", err)
	}
	var namespace int64
	err = tx.QueryRowContext(ctx, `SELECT CAST(oid AS bigint) FROM pg_namespace WHERE nspname = $1`, name).Scan(&namespace)
	if err != nil {
		return nil, nil, engine.Error("read scratch schema", err)
	}
	want, err := readPostgres(ctx, tx, postgresCatalogue, namespace)
	if err != nil {
		return nil, nil, err
	}
	made, err := readPostgres(ctx, tx, postgresMade, namespace)
	for d, text := range made {
		made[d] = strings.ReplaceAll(text, name+".", "")
	}
	return want, made, err
}

// definedPostgres reads the schema in which the audit tree is. A table of that name that
// stands elsewhere, and is found first by the program, is a changed one.
func (db *DB) definedPostgres(ctx context.Context, want definitions) (definitions, error) {
	_, read := db.sql.Pools()
	tx, err := read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, engine.Error("begin to read definitions", err)
	}
	defer func() { _ = tx.Rollback() }()
	var namespace int64
	var path string
	err = tx.QueryRowContext(ctx, `SELECT CAST(n.oid AS bigint), quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass('audit')`).Scan(&namespace, &path)
	if err != nil {
		return nil, engine.Error("find schema", err)
	}
	var elsewhere []string
	for d := range want {
		var here bool
		if d.Kind != "table" {
			continue
		}
		err = tx.QueryRowContext(ctx, `SELECT COALESCE((SELECT c.relnamespace = CAST($1 AS oid) FROM pg_class c WHERE c.oid = to_regclass($2)), false)`, namespace, d.Name).Scan(&here)
		if err != nil {
			return nil, engine.Error("find table", err)
		}
		if !here {
			elsewhere = append(elsewhere, d.Name)
		}
	}
	_, err = tx.ExecContext(ctx, `SELECT set_config('search_path', $1, true)`, path)
	if err != nil {
		return nil, engine.Error("read definitions", err)
	}
	have, err := readPostgres(ctx, tx, postgresCatalogue, namespace)
	for _, table := range elsewhere {
		d := Definition{"table", table, table}
		if _, there := have[d]; there {
			have[d] += " elsewhere"
		}
	}
	for d := range have { // functions of others are their own matter
		if _, known := want[d]; d.Kind == "function" && !known {
			delete(have, d)
		}
	}
	return have, err
}
