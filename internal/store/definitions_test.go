package store_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// guard is a trigger as the catalogue has it.
type guard struct{ name, table, text string }

func guardsOf(t *testing.T, db *store.DB) []guard {
	t.Helper()
	query := `SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name`
	if db.Engine() == store.PostgreSQL {
		query = `SELECT tgname, relname, pg_get_triggerdef(pg_trigger.oid, true) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal ORDER BY tgname`
	}
	rows, err := db.Raw().Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []guard
	for rows.Next() {
		var g guard
		err = rows.Scan(&g.name, &g.table, &g.text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, g)
	}
	if len(out) < 40 {
		t.Fatalf("%d guards found: the test is blind", len(out))
	}
	return out
}

// weaker gives the statements that weaken a guard and leave its name.
func (g guard) weaker(engine string) []string {
	if engine == store.SQLite {
		head, _, _ := strings.Cut(g.text, "BEGIN SELECT")
		return []string{`DROP TRIGGER ` + g.name, head + ` BEGIN SELECT 1; END`}
	}
	head, _, _ := strings.Cut(g.text, "EXECUTE FUNCTION")
	return []string{`CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`,
		fmt.Sprintf(`DROP TRIGGER %s ON %s`, g.name, g.table), head + `EXECUTE FUNCTION nothing()`}
}

func (g guard) drop(engine string) string {
	if engine == store.SQLite {
		return `DROP TRIGGER ` + g.name
	}
	return fmt.Sprintf(`DROP TRIGGER %s ON %s`, g.name, g.table)
}

func wantOne(t *testing.T, compare func() ([]store.Difference, error), kind, table, name, what string) {
	t.Helper()
	got, err := compare()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Definition != (store.Definition{Kind: kind, Table: table, Name: name}) || got[0].What != what {
		t.Errorf("%s %s: found %+v, want %s", kind, name, got, what)
	}
}

func wantNone(t *testing.T, compare func() ([]store.Difference, error)) {
	t.Helper()
	got, err := compare()
	if err != nil || len(got) != 0 {
		t.Fatalf("found %+v %v, want nothing", got, err)
	}
}

// TestThreatCO12Guards: each guard of the database, dropped, weakened under its own name,
// or disabled, is named by the comparison with what this program makes.
func TestThreatCO12Guards(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		compare, err := db.Comparing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantNone(t, compare)
		for _, g := range guardsOf(t, db) {
			run(t, db.Raw(), g.drop(db.Engine()))
			wantOne(t, compare, "trigger", g.table, g.name, store.DefinitionMissing)
			run(t, db.Raw(), g.text)
			run(t, db.Raw(), g.weaker(db.Engine())...)
			wantOne(t, compare, "trigger", g.table, g.name, store.DefinitionChanged)
			run(t, db.Raw(), g.drop(db.Engine()), g.text)
			if db.Engine() == store.PostgreSQL {
				run(t, db.Raw(), fmt.Sprintf(`ALTER TABLE %s DISABLE TRIGGER %s`, g.table, g.name))
				wantOne(t, compare, "trigger", g.table, g.name, store.DefinitionDisabled)
				run(t, db.Raw(), fmt.Sprintf(`ALTER TABLE %s ENABLE TRIGGER %s`, g.table, g.name))
			}
		}
		wantNone(t, compare)
	})
}

// edit writes another text into the catalogue of SQLite, as nothing else can drop a CHECK
// there.
func edit(table, old, changed string) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	return fmt.Sprintf(`UPDATE sqlite_master SET sql = replace(sql, %s, %s) WHERE name = %s`, quote(old), quote(changed), quote(table))
}

// TestThreatCO12Schema: what else the database holds a row to is named where it differs.
func TestThreatCO12Schema(t *testing.T) {
	cases := map[string][]struct {
		name, sql         string
		kind, table, want string
		what              string
	}{
		store.SQLite: {
			{"a CHECK", edit("request", `CHECK (approved_by = '' OR approved_by <> entered_by)`, `CHECK (1)`), "table", "request", "request", store.DefinitionChanged},
			{"a CHECK that became a comment", edit("issue_grant", `CHECK (used <= total)`, `CHECK (1) --`), "table", "issue_grant", "issue_grant", store.DefinitionChanged},
			{"a foreign key", edit("operator_role", ` REFERENCES operator (id)`, ``), "table", "operator_role", "operator_role", store.DefinitionChanged},
			{"NOT NULL", edit("operator", `cert_sha256 TEXT   NOT NULL`, `cert_sha256 TEXT`), "table", "operator", "operator", store.DefinitionChanged},
			{"a unique index", `DROP INDEX request_idempotency`, "index", "request", "request_idempotency", store.DefinitionMissing},
			{"a condition of one", edit("intent_request", `request <> ''`, `request = 'x'`), "index", "intent", "intent_request", store.DefinitionChanged},
			{"a column", `ALTER TABLE holder ADD COLUMN extra TEXT`, "table", "holder", "holder", store.DefinitionChanged},
			{"a table", `DROP TABLE mail_count`, "table", "mail_count", "mail_count", store.DefinitionMissing},
			{"a trigger of nobody's", `CREATE TRIGGER late AFTER INSERT ON audit BEGIN UPDATE operator SET disabled_at = 0; END`, "trigger", "audit", "late", store.DefinitionUnknown},
			{"a unique index of nobody's", `CREATE UNIQUE INDEX late ON outbox (id, kind)`, "index", "outbox", "late", store.DefinitionUnknown},
			{"an administrator's index", `CREATE INDEX fast ON request (email)`, "", "", "", ""},
			{"an administrator's table", `CREATE TABLE notes (id TEXT PRIMARY KEY); CREATE TRIGGER own AFTER INSERT ON notes BEGIN SELECT 1; END`, "", "", "", ""},
		},
		store.PostgreSQL: {
			{"a CHECK", `ALTER TABLE request DROP CONSTRAINT request_check1`, "constraint", "request", "request_check1", store.DefinitionMissing},
			{"a CHECK that is weaker", `ALTER TABLE issue_grant DROP CONSTRAINT issue_grant_check1; ALTER TABLE issue_grant ADD CONSTRAINT issue_grant_check1 CHECK (used >= 0)`,
				"constraint", "issue_grant", "issue_grant_check1", store.DefinitionChanged},
			{"a foreign key", `ALTER TABLE operator_role DROP CONSTRAINT operator_role_operator_fkey`, "constraint", "operator_role", "operator_role_operator_fkey", store.DefinitionMissing},
			{"a foreign key that is not enforced", `ALTER TABLE operator_role DISABLE TRIGGER ALL; ALTER TABLE operator_role ENABLE TRIGGER USER`,
				"constraint", "operator_role", "operator_role_operator_fkey", store.DefinitionChanged},
			{"a unique index", `DROP INDEX request_idempotency`, "index", "request", "request_idempotency", store.DefinitionMissing},
			{"a condition of one", `DROP INDEX intent_request; CREATE UNIQUE INDEX intent_request ON intent (request) WHERE request = 'x'`, "index", "intent", "intent_request", store.DefinitionChanged},
			{"a column", `ALTER TABLE holder ADD COLUMN extra TEXT`, "column", "holder", "extra", store.DefinitionUnknown},
			{"NOT NULL", `ALTER TABLE operator ALTER COLUMN cert_sha256 DROP NOT NULL`, "column", "operator", "cert_sha256", store.DefinitionChanged},
			{"a default", `ALTER TABLE issue_grant ALTER COLUMN approved_by SET DEFAULT 'x'`, "column", "issue_grant", "approved_by", store.DefinitionChanged},
			{"row security", `ALTER TABLE audit ENABLE ROW LEVEL SECURITY`, "table", "audit", "audit", store.DefinitionChanged},
			{"a policy", `CREATE POLICY late ON audit USING (false)`, "policy", "audit", "late", store.DefinitionUnknown},
			{"a rule", `CREATE RULE late AS ON DELETE TO request DO INSTEAD NOTHING`, "rule", "request", "late", store.DefinitionUnknown},
			{"a table that inherits", `CREATE TABLE more () INHERITS (operator)`, "table", "operator", "operator", store.DefinitionChanged},
			{"a table that stands before ours", `CREATE SCHEMA before; CREATE TABLE before.role_conflict (role TEXT, other TEXT); ALTER DATABASE current SET search_path = before, public`,
				"table", "role_conflict", "role_conflict", store.DefinitionChanged},
			{"a function of guards", `CREATE OR REPLACE FUNCTION guard_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`, "function", "", "guard_refuse()", store.DefinitionChanged},
			{"a trigger of nobody's", `CREATE TRIGGER late AFTER INSERT ON audit FOR EACH ROW EXECUTE FUNCTION guard_refuse('late')`, "trigger", "audit", "late", store.DefinitionUnknown},
			{"a unique index of nobody's", `CREATE UNIQUE INDEX late ON outbox (id, kind)`, "index", "outbox", "late", store.DefinitionUnknown},
			{"an administrator's index", `CREATE INDEX fast ON request (email)`, "", "", "", ""},
			{"an administrator's table", `CREATE TABLE notes (id TEXT PRIMARY KEY); CREATE FUNCTION notes_own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
				CREATE TRIGGER own AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION notes_own()`, "", "", "", ""},
		},
	}
	for _, engine := range storetest.Engines {
		for _, c := range cases[engine] {
			t.Run(engine+"/"+c.name, func(t *testing.T) {
				dsn := storetest.Migrated(t, engine)
				owner := storetest.Open(t, dsn, nil)
				if engine == store.SQLite {
					run(t, owner.Raw(), `PRAGMA writable_schema = ON`)
				}
				if strings.Contains(c.sql, "DATABASE current") {
					u, err := url.Parse(dsn)
					if err != nil {
						t.Fatal(err)
					}
					c.sql = strings.Replace(c.sql, "DATABASE current", "DATABASE "+strings.TrimPrefix(u.Path, "/"), 1)
				}
				run(t, owner.Raw(), c.sql)
				owner.Close()
				db := storetest.Open(t, dsn, nil)
				compare := func() ([]store.Difference, error) { return db.CompareDefinitions(t.Context()) }
				if c.what == "" {
					wantNone(t, compare)
					return
				}
				wantOne(t, compare, c.kind, c.table, c.want, c.what)
			})
		}
	}
}

// TestMakeGuards: guards are made anew as they were, all of them and whatever was done.
func TestMakeGuards(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		before := guardsOf(t, db)
		for n, g := range before {
			switch n % 3 {
			case 0:
				run(t, db.Raw(), g.drop(db.Engine()))
			case 1:
				run(t, db.Raw(), g.weaker(db.Engine())...)
			}
		}
		if db.Engine() == store.PostgreSQL {
			run(t, db.Raw(), `CREATE OR REPLACE FUNCTION guard_roles() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`,
				`ALTER TABLE statement DISABLE TRIGGER ALL`, `ALTER TABLE statement ENABLE TRIGGER ALL`, `ALTER TABLE request_editor DISABLE TRIGGER USER`)
		}
		list, err := db.CompareDefinitions(t.Context())
		if err != nil || len(list) < len(before)/2 {
			t.Fatalf("found %d differences: %v", len(list), err)
		}
		err = db.Update(t.Context(), func(tx *store.Tx) error { return tx.MakeGuards(list) })
		if err != nil {
			t.Fatal(err)
		}
		wantNone(t, func() ([]store.Difference, error) { return db.CompareDefinitions(t.Context()) })
	})
}

// A role that may not make a schema is told so: nothing passes unseen.
func TestDefinitionsWithoutScratch(t *testing.T) {
	dsn := storetest.Migrated(t, store.PostgreSQL)
	owner := storetest.Open(t, dsn, nil)
	role := fmt.Sprintf("reader_%d", time.Now().UnixNano())
	run(t, owner.Raw(), `CREATE ROLE `+role+` LOGIN`, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
	t.Cleanup(func() { run(t, owner.Raw(), `DROP OWNED BY `+role, `DROP ROLE `+role) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("user", role)
	u.RawQuery = q.Encode()
	db := storetest.Open(t, u.String(), nil)
	got, err := db.CompareDefinitions(t.Context())
	if pki.CodeOf(err) != store.ErrNoScratch.Code || len(got) != 0 {
		t.Errorf("got %v %v", got, err)
	}
}
