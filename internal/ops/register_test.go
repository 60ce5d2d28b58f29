package ops_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/ops"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

func rows(t *testing.T, o *catest.Office) ops.RegisterReport {
	t.Helper()
	r, err := o.Ops.VerifyRows(t.Context())
	catest.Must(t, err)
	return r
}

// covered are the tables whose rows are compared: what names a row there, and how a
// deviation names it ("" where by these columns).
var covered = map[string]struct{ key, named string }{
	"api_client":     {"id", ""},
	"certificate":    {"serial", ""},
	"crl":            {"issuer, number", "issuer"},
	"crl_piece":      {"issuer, hash", "issuer"},
	"draft":          {"flow", "token_hash"},
	"instance":       {"id", "uuid"},
	"intent":         {"serial", ""},
	"issue_grant":    {"id", ""},
	"operator":       {"id", ""},
	"operator_role":  {"operator, role", "operator"},
	"public_key":     {"spki_sha256", ""},
	"reference":      {"request", ""},
	"request":        {"id", ""},
	"request_editor": {"request, operator", "request"},
	"revocation":     {"id", ""},
	"role_conflict":  {"role, other", "role"},
	"sealed_key":     {"id", ""},
	"status_link":    {"token_hash", ""},
}

// stands names what is told of columns that are not told one by one.
var stands = map[string][]string{
	"content":  {"holder_kind", "holder_code", "terminal_name", "email", "maintenance_email", "department", "phone", "payment_method", "csr", "flow", "language"},
	"origin":   {"kind", "source", "grant_id", "client_id", "idempotency", "profile", "key_type", "predecessor", "language", "not_before", "spki", "spki_sha256", "request", "made_at"},
	"verifier": {"kid", "salt", "gate", "tag", "epoch"},
	"der":      {"octets", "pieces"},
	"spki":     {"spki_sha256"},
}

// otherTable says where a change of some tables is seen.
var otherTable = map[string]string{"operator_role": "operator", "crl_piece": "crl"}

// TestThreatCO12: whatever column of whatever row somebody with the database writes, its
// guards dropped, the comparison with the audit records names table, key and field; the
// columns of which that is not so are those of ops.Uncovered.
func TestThreatCO12(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			o := history(t, engine)
			if r := rows(t, o); !r.OK() || r.Rows < 60 {
				t.Fatalf("untouched: %+v", r)
			}
			o.Disarm()
			h := hostile{t: t, db: o.Raw(), engine: engine}
			h.loosen()
			gaps := map[string]bool{}
			for _, g := range ops.Uncovered() {
				for _, column := range g.Columns {
					gaps[g.Table+"."+column+" "+g.Where] = false
				}
			}
			for _, table := range h.tables() {
				if slices.Contains(ops.OfTheTree(), table) {
					continue
				}
				for column, kind := range h.columns(table) {
					for where := range gapsOf(table, column, gaps) {
						gaps[table+"."+column+" "+where] = true
					}
					h.tamperAll(o, table, column, kind)
				}
			}
			for gap, there := range gaps {
				if !there {
					t.Errorf("ops.Uncovered names %s, which the schema does not have", gap)
				}
			}
			if r := rows(t, o); !r.OK() || h.done < 140*perColumn()/2 {
				t.Fatalf("%d changes and undone: %+v", h.done, r)
			}
		})
	}
}

// gapsOf gives the conditions under which a column is not compared.
func gapsOf(table, column string, gaps map[string]bool) map[string]bool {
	out := map[string]bool{}
	for gap := range gaps {
		where, ok := strings.CutPrefix(gap, table+"."+column+" ")
		if ok {
			out[where] = true
		}
	}
	return out
}

// hostile is somebody who owns the database.
type hostile struct {
	t      *testing.T
	db     *sql.DB
	engine string
	done   int
}

func (h *hostile) exec(query string, args ...any) int64 {
	h.t.Helper()
	if h.engine == store.SQLite {
		query = strings.NewReplacer("$1", "?1", "$2", "?2", "$3", "?3", "$4", "?4").Replace(query)
	}
	result, err := h.db.Exec(query, args...)
	if err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	n, err := result.RowsAffected()
	catest.Must(h.t, err)
	return n
}

func (h *hostile) read(columns int, query string, args ...any) [][]any {
	h.t.Helper()
	if h.engine == store.SQLite {
		query = strings.NewReplacer("$1", "?1", "$2", "?2", "$3", "?3", "$4", "?4").Replace(query)
	}
	found, err := h.db.Query(query, args...)
	if err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	defer found.Close()
	var out [][]any
	for found.Next() {
		values, into := make([]any, columns), make([]any, columns)
		for n := range values {
			into[n] = &values[n]
		}
		catest.Must(h.t, found.Scan(into...))
		out = append(out, values)
	}
	catest.Must(h.t, found.Err())
	return out
}

func (h *hostile) texts(query string, args ...any) []string {
	h.t.Helper()
	var out []string
	for _, values := range h.read(1, query, args...) {
		out = append(out, fmt.Sprint(values[0]))
	}
	return out
}

// loosen drops what a row is held to besides the guards.
func (h *hostile) loosen() {
	h.t.Helper()
	if h.engine == store.SQLite {
		h.exec(`PRAGMA foreign_keys = 0`)
		h.exec(`PRAGMA ignore_check_constraints = 1`)
		for _, name := range h.texts(`SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE UNIQUE %'`) {
			h.exec(`DROP INDEX ` + name)
		}
		return
	}
	for _, drop := range h.texts(`SELECT 'ALTER TABLE ' || relname || ' DROP CONSTRAINT ' || conname || ' CASCADE' FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
		WHERE contype IN ('c', 'f', 'u') AND connamespace = 'public'::regnamespace`) {
		h.exec(drop)
	}
	for _, name := range h.texts(`SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indisunique AND NOT i.indisprimary AND x.relnamespace = 'public'::regnamespace`) {
		h.exec(`DROP INDEX ` + name)
	}
}

func (h *hostile) tables() []string {
	if h.engine == store.SQLite {
		return h.texts(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name`)
	}
	return h.texts(`SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname`)
}

func (h *hostile) columns(table string) map[string]string {
	query := `SELECT name, type FROM pragma_table_info($1)`
	if h.engine == store.PostgreSQL {
		query = `SELECT column_name::text, upper(data_type) FROM information_schema.columns WHERE table_name = $1`
	}
	out := map[string]string{}
	for _, values := range h.read(2, query, table) {
		out[fmt.Sprint(values[0])] = fmt.Sprint(values[1])
	}
	return out
}

// perColumn is about how many rows of a table are changed in one column, others for each
// column: every comparison reads all of them. The quick tests change one of each.
func perColumn() int {
	if testing.Short() {
		return 1
	}
	return 4
}

// tamperAll changes a column in the rows where it is compared, one by one.
func (h *hostile) tamperAll(o *catest.Office, table, column, kind string) {
	h.t.Helper()
	about, known := covered[table]
	where := []string{}
	for _, g := range ops.Uncovered() {
		if g.Table != table || !slices.Contains(g.Columns, column) {
			continue
		}
		if g.Where == "" {
			return
		}
		where = append(where, "NOT ("+g.Where+")")
	}
	if !known {
		h.t.Errorf("nobody says whether %s.%s is compared", table, column)
		return
	}
	keys := strings.Split(about.key, ", ")
	query := fmt.Sprintf(`SELECT %s, %s FROM %s`, about.key, or(about.named, keys[0]), table)
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	found := h.read(len(keys)+1, query+` ORDER BY `+about.key)
	if len(found) == 0 {
		h.t.Errorf("the history has no row of %s in which %s is compared", table, column)
	}
	step := max(1, len(found)/perColumn())
	for n := len(column) % step; n < len(found); n += step {
		name := text(found[n][len(keys)])
		undo := h.tamper(table, column, kind, keys, found[n][:len(keys)])
		got := rows(h.t, o).Deviations
		h.done++
		if !slices.ContainsFunc(got, func(d ops.Deviation) bool { return names(d, table, name, column) }) {
			h.t.Errorf("%s %s: %s changed, found %+v", table, name, column, got)
		}
		undo()
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func text(v any) string {
	b, ok := v.([]byte)
	if ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

// tamper changes one column of one row and gives the way back.
func (h *hostile) tamper(table, column, kind string, keys []string, values []any) func() {
	h.t.Helper()
	change := map[string]string{"TEXT": "COALESCE(%[1]s, '') || 'x'", "BIGINT": "%[1]s + 1000000", "INTEGER": "%[1]s + 1000000", "BYTEA": `CAST(COALESCE(%[1]s, x'') || x'00' AS BLOB)`}[kind]
	if kind == "BYTEA" && h.engine == store.PostgreSQL {
		change = `COALESCE(%[1]s, '') || '\x00'::bytea`
	}
	if column == "reason" {
		change = "5 - %[1]s"
	}
	if change == "" {
		h.t.Fatalf("%s.%s is a %s", table, column, kind)
	}
	where := ""
	for n, key := range keys {
		where += fmt.Sprintf(" AND %s = $%d", key, n+1)
	}
	where = strings.TrimPrefix(where, " AND ")
	old := h.read(1, fmt.Sprintf(`SELECT %s FROM %s WHERE %s`, column, table, where), values...)[0][0]
	n := h.exec(fmt.Sprintf(`UPDATE %s SET %s = %s WHERE %s`, table, column, fmt.Sprintf(change, column), where), values...)
	if n != 1 {
		h.t.Fatalf("%s.%s: %d rows changed", table, column, n)
	}
	return func() {
		h.t.Helper()
		at := append([]any{}, values...)
		for n, key := range keys {
			if key == column {
				at[n] = changed(kind, values[n])
			}
		}
		set := fmt.Sprintf(`UPDATE %s SET %s = $%d WHERE %s`, table, column, len(keys)+1, where)
		if h.exec(set, append(at, old)...) != 1 {
			h.t.Fatalf("%s.%s: not undone", table, column)
		}
	}
}

// changed is what tamper makes of a key.
func changed(kind string, v any) any {
	switch kind {
	case "BYTEA":
		return append(slices.Clone(v.([]byte)), 0)
	case "TEXT":
		return text(v) + "x"
	}
	return v.(int64) + 1_000_000
}

// names says whether a deviation names what was changed. A key that was changed is a row
// that is lost and another one of nobody's.
func names(d ops.Deviation, table, name, column string) bool {
	about := covered[table]
	isKey := slices.Contains(strings.Split(about.key, ", "), column) || column == about.named
	if !strings.HasPrefix(d.Key, name) || (d.Table != table && d.Table != otherTable[table]) {
		return false
	}
	return d.Field == column || slices.Contains(stands[d.Field], column) || isKey || d.Table == otherTable[table] || d.Field == "" && wholeRow[table+"."+column]
}

// wholeRow are columns by which a row belongs to another: changed, it is a row that no
// record tells of.
var wholeRow = map[string]bool{"status_link.request": true, "draft.request": true, "sealed_key.request": true, "sealed_key.stage": true, "public_key.owner": true,
	"intent.request": true, "intent.state": true, "instance.uuid": true, "sealed_key.destroyed_at": true}

// TestThreatCO12Rows: rows without records, records without rows, and rows twice, on both
// engines.
func TestThreatCO12Rows(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			o := history(t, engine)
			o.Disarm()
			h := hostile{t: t, db: o.Raw(), engine: engine}
			h.loosen()
			h.takeAway(o)
			h.bringIn(o)
			if r := rows(t, o); !r.OK() {
				t.Fatalf("undone: %+v", r)
			}
		})
	}
}

// takeAway deletes one row after another of each table that is compared.
func (h *hostile) takeAway(o *catest.Office) {
	h.t.Helper()
	for table, about := range covered {
		keys := strings.Split(about.key, ", ")
		query := fmt.Sprintf(`SELECT %s, %s FROM %s`, about.key, or(about.named, keys[0]), table)
		if table == "draft" {
			query += ` WHERE request <> ''`
		}
		found := h.read(len(keys)+1, query+` ORDER BY `+about.key)
		for n := range found {
			where := ""
			for k, key := range keys {
				where += fmt.Sprintf(" AND %s = $%d", key, k+1)
			}
			where = strings.TrimPrefix(where, " AND ")
			values, name := found[n][:len(keys)], text(found[n][len(keys)])
			h.exec(`DROP TABLE IF EXISTS kept`)
			if h.engine == store.SQLite {
				h.exec(fmt.Sprintf(`CREATE TEMP TABLE kept AS SELECT * FROM %s WHERE %s`, table, where), values...)
			} else {
				h.exec(fmt.Sprintf(`CREATE TEMP TABLE kept AS SELECT * FROM %s LIMIT 0`, table))
				h.exec(fmt.Sprintf(`INSERT INTO kept SELECT * FROM %s WHERE %s`, table, where), values...)
			}
			h.exec(fmt.Sprintf(`DELETE FROM %s WHERE %s`, table, where), values...)
			got := rows(h.t, o).Deviations
			if !slices.ContainsFunc(got, func(d ops.Deviation) bool {
				return (d.Table == table || d.Table == otherTable[table]) && strings.HasPrefix(d.Key, name)
			}) {
				h.t.Errorf("%s %s: taken away, found %+v", table, name, got)
			}
			h.exec(fmt.Sprintf(`INSERT INTO %s SELECT * FROM kept`, table))
		}
	}
}

// bringIn inserts rows that nobody made, and rows that are there, once more.
func (h *hostile) bringIn(o *catest.Office) {
	h.t.Helper()
	blob := map[string]string{store.SQLite: `x'00'`, store.PostgreSQL: `'\x00'::bytea`}[h.engine]
	request := h.texts(`SELECT id FROM request WHERE kind = 'renewal' ORDER BY id LIMIT 1`)[0]
	open := h.texts(`SELECT id FROM request WHERE state = 'received' ORDER BY id LIMIT 1`)[0]
	serial := h.texts(`SELECT serial FROM intent WHERE request = '' ORDER BY serial LIMIT 1`)[0]
	for name, c := range map[string]struct {
		insert, remove string
		want           ops.Deviation
	}{
		"a client": {`INSERT INTO api_client (id, name, cert_sha256, role, created_at) VALUES ('ghost', 'ghost', 'g', 'ra', 1)`,
			`DELETE FROM api_client WHERE id = 'ghost'`, ops.Deviation{Table: "api_client", Key: "ghost"}},
		"an operator": {`INSERT INTO operator (id, name, cert_sha256, created_at) VALUES ('ghost', 'ghost', 'g', 1)`,
			`DELETE FROM operator WHERE id = 'ghost'`, ops.Deviation{Table: "operator", Key: "ghost"}},
		"a grant": {`INSERT INTO issue_grant (id, client, kinds, prefectures, per_day, total, ends_at, made_by, approved_by) VALUES ('ghost', 'vendor', '', '', 9, 9, 9, 'a', 'b')`,
			`DELETE FROM issue_grant WHERE id = 'ghost'`, ops.Deviation{Table: "issue_grant", Key: "ghost"}},
		"a role":              {`INSERT INTO operator_role (operator, role) VALUES ('gone', 'admin')`, `DELETE FROM operator_role WHERE operator = 'gone' AND role = 'admin'`, ops.Deviation{Table: "operator", Key: "gone", Field: "role"}},
		"a role of no person": {`INSERT INTO operator_role (operator, role) VALUES ('ghost', 'admin')`, `DELETE FROM operator_role WHERE operator = 'ghost'`, ops.Deviation{Table: "operator_role", Key: "ghost"}},
		"a role conflict":     {`INSERT INTO role_conflict (role, other) VALUES ('admin', 'auditor')`, `DELETE FROM role_conflict WHERE role = 'admin'`, ops.Deviation{Table: "role_conflict", Key: "admin auditor"}},
		"an editor": {`INSERT INTO request_editor (request, operator) VALUES ('` + open + `', 'ghost')`, `DELETE FROM request_editor WHERE operator = 'ghost'`,
			ops.Deviation{Table: "request_editor", Key: open, Field: "operator"}},
		"a reference ID": {`INSERT INTO reference (request, kid, salt, gate, tag, epoch) VALUES ('` + open + `', 'k', ` + blob + `, 1, ` + blob + `, '2026-11')`,
			`DELETE FROM reference WHERE request = '` + open + `'`, ops.Deviation{Table: "reference", Key: open}},
		"a reference ID of no request": {`INSERT INTO reference (request, kid, salt, gate, tag, epoch) VALUES ('999', 'k', ` + blob + `, 1, ` + blob + `, '2026-11')`,
			`DELETE FROM reference WHERE request = '999'`, ops.Deviation{Table: "reference", Key: "999"}},
		"a key": {`INSERT INTO sealed_key (id, key_type, spki, spki_sha256, stage, blob, epoch, request, made_at) VALUES ('ghost', 'p-256', ` + blob + `, 'g', 'held', ` + blob + `, '2026-11', '` + request + `', 1)`,
			`DELETE FROM sealed_key WHERE id = 'ghost'`, ops.Deviation{Table: "sealed_key", Key: "ghost"}},
		"a public key":                 {`INSERT INTO public_key (spki_sha256, owner) VALUES ('g', 'key/ghost')`, `DELETE FROM public_key WHERE spki_sha256 = 'g'`, ops.Deviation{Table: "public_key", Key: "g"}},
		"a public key of a request's":  {`INSERT INTO public_key (spki_sha256, owner) VALUES ('g', 'request/` + request + `')`, `DELETE FROM public_key WHERE spki_sha256 = 'g'`, ops.Deviation{Table: "public_key", Key: "g", Field: "owner"}},
		"a public key of no such kind": {`INSERT INTO public_key (spki_sha256, owner) VALUES ('g', 'me')`, `DELETE FROM public_key WHERE spki_sha256 = 'g'`, ops.Deviation{Table: "public_key", Key: "g", Field: "owner"}},
		"an intent": {`INSERT INTO intent (serial, issuer, profile, tbs, audit_index, audit_leaf, state, made_at) VALUES ('ff', 'g1', 'holder', ` + blob + `, 1, ` + blob + `, 'open', 1)`,
			`DELETE FROM intent WHERE serial = 'ff'`, ops.Deviation{Table: "intent", Key: "ff"}},
		"an intent that is done": {`INSERT INTO intent (serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at) VALUES ('ff', 'g1', 'holder', '999', ` + blob + `, 1, ` + blob + `, 'done', 1)`,
			`DELETE FROM intent WHERE serial = 'ff'`, ops.Deviation{Table: "intent", Key: "ff"}},
		"an intent twice": {`INSERT INTO intent SELECT * FROM intent WHERE serial = '` + serial + `'`, ``, ops.Deviation{Table: "intent", Key: serial}},
		"a CRL": {`INSERT INTO crl (issuer, number, this_update, next_update, octets, pieces) SELECT issuer, number + 1, this_update, next_update, octets, pieces FROM crl WHERE issuer = 'g1'`,
			`DELETE FROM crl WHERE issuer = 'g1' AND number = (SELECT MAX(number) FROM crl WHERE issuer = 'g1')`, ops.Deviation{Table: "crl", Key: "g1"}},
		"a CRL of no issuer": {`INSERT INTO crl (issuer, number, this_update, next_update, octets, pieces) VALUES ('ghost', 1, 1, 1, 0, ` + blob + `)`,
			`DELETE FROM crl WHERE issuer = 'ghost'`, ops.Deviation{Table: "crl", Key: "ghost"}},
		"a piece of a CRL": {`INSERT INTO crl_piece (issuer, hash, der) VALUES ('g1', ` + blob + `, ` + blob + `)`, `DELETE FROM crl_piece WHERE hash = ` + blob, ops.Deviation{Table: "crl_piece", Key: "g1 00"}},
		"a link that shows an application": {`INSERT INTO status_link (token_hash, request, until) VALUES ('ghost', '` + open + `', 9000000000000000)`,
			`DELETE FROM status_link WHERE token_hash = 'ghost'`, ops.Deviation{Table: "status_link", Key: "ghost"}},
		"a draft that shows an application": {`INSERT INTO draft (flow, round, token_hash, content, language, made_at, mail_at, until, request) VALUES ('ghost', 1, 'ghost', '{}', 'ja', 1, 1, 9000000000000000, '` + open + `')`,
			`DELETE FROM draft WHERE flow = 'ghost'`, ops.Deviation{Table: "draft", Key: "ghost"}},
	} {
		h.exec(c.insert)
		if got := rows(h.t, o).Deviations; !slices.Contains(got, c.want) {
			h.t.Errorf("%s: found %+v", name, got)
		}
		if name == "an intent twice" {
			h.exec(`CREATE TEMP TABLE once AS SELECT * FROM intent WHERE serial = '` + serial + `' LIMIT 1`)
			h.exec(`DELETE FROM intent WHERE serial = '` + serial + `'`)
			c.remove = `INSERT INTO intent SELECT * FROM once`
		}
		h.exec(c.remove)
	}
}

// What a comparison of definitions finds is told with the rows, and guards are made anew
// on the record.
func TestThreatCO12RestoredGuards(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			o := history(t, engine)
			before, err := o.Ops.VerifyRegister(t.Context())
			catest.Must(t, err)
			if !before.OK() {
				t.Fatalf("untouched: %+v", before)
			}
			names, err := o.Ops.RestoreGuards(t.Context())
			if err != nil || len(names) != 0 || o.Count("audit WHERE kind = 'guards.made_anew'") != 0 {
				t.Fatalf("nothing was to be done: %v %v", names, err)
			}
			o.Disarm()
			found, err := o.Ops.VerifyRegister(t.Context())
			catest.Must(t, err)
			if !slices.Contains(found.Deviations, ops.Deviation{Table: "certificate", Key: "trigger certificate_keep", What: store.DefinitionMissing}) {
				t.Errorf("found %+v", found.Deviations)
			}
			names, err = o.Ops.RestoreGuards(t.Context())
			catest.Must(t, err)
			if len(names) != len(found.Deviations) || !slices.Contains(names, "trigger certificate_keep") {
				t.Errorf("made anew: %v", names)
			}
			o.WantKinds("guards", "guards.made_anew")
			after, err := o.Ops.VerifyRegister(t.Context())
			if err != nil || !after.OK() {
				t.Errorf("made anew: %+v %v", after, err)
			}
			o.Refused(`DELETE FROM certificate`)
		})
	}
}
