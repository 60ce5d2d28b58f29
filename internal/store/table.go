package store

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// table declares one table: which audit records tell that a row came to be, and what the
// database itself refuses. Its columns stand in schema/tables.sql.
type table struct {
	name   string
	key    string   // the column that is the subject of those records
	only   string   // further condition on such a row, with its AND
	told   []string // kinds of records after which there is a row for ever
	guards []guard
}

// guard is a refusal by the database, whoever asks: a trigger on both engines. Its error is
// store.guard.
type guard struct {
	name   string
	before string // UPDATE, INSERT or DELETE
	of     string // an UPDATE that names one of these columns; "": every one
	narrow bool   // as of, for the columns that changed names: a statement that names none is not asked
	when   string // over OLD and NEW; changed(a, b): one of these columns changes. "": always
	where  string // over OLD, NEW and other rows. "": always
	says   string
}

// tables are all tables that have guards or records.
func tables() []table {
	return slices.Concat(crlTables, auditTables, requestTables, operatorTables, instanceTables, certificateTables, clientTables, grantTables, publicKeyTables, keyTables, intentTables, revocationTables)
}

var changed = regexp.MustCompile(`changed\(([a-z0-9_, ]+)\)`)

// guards writes the guards of all tables for an engine.
func guards(engine string) string {
	var out strings.Builder
	if engine == PostgreSQL {
		out.WriteString(refuse)
	}
	for _, t := range tables() {
		for _, g := range t.guards {
			out.WriteString(g.texts(engine, t.name))
		}
	}
	return out.String()
}

// texts writes a guard of a table for an engine.
func (g guard) texts(engine, table string) string {
	var out strings.Builder
	if engine == PostgreSQL {
		g.postgres(&out, table)
	} else {
		g.sqlite(&out, table)
	}
	return out.String()
}

func (g guard) head(table string) string {
	of := ""
	if g.narrow {
		g.of = changed.FindStringSubmatch(g.when)[1]
	}
	if g.of != "" {
		of = " OF " + g.of
	}
	return fmt.Sprintf("CREATE TRIGGER %s BEFORE %s%s ON %s", g.name, g.before, of, table)
}

func (g guard) sqlite(out *strings.Builder, table string) {
	out.WriteString(g.head(table))
	if g.when != "" {
		out.WriteString("\nWHEN " + changed.ReplaceAllStringFunc(g.when, func(call string) string {
			columns := strings.Split(changed.FindStringSubmatch(call)[1], ", ")
			for i, c := range columns {
				columns[i] = "NEW." + c + " IS NOT OLD." + c
			}
			return "(" + strings.Join(columns, " OR ") + ")"
		}))
	}
	fmt.Fprintf(out, "\nBEGIN SELECT RAISE(ABORT, %s)", quoted(g.says))
	if g.where != "" {
		out.WriteString("\n\tWHERE " + g.where)
	}
	out.WriteString("; END;\n\n")
}

// refuse is what every guard of PostgreSQL without a look at other rows does. Its SQLSTATE
// becomes store.guard.
const refuse = `CREATE FUNCTION guard_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'IK001';
END $$;

`

func (g guard) postgres(out *strings.Builder, table string) {
	function := "guard_refuse(" + quoted(g.says) + ")"
	if g.where != "" {
		row := "NEW"
		if g.before == "DELETE" {
			row = "OLD"
		}
		function = "guard_" + g.name + "()"
		fmt.Fprintf(out, "CREATE FUNCTION %s RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n\tIF %s THEN\n\t\tRAISE EXCEPTION '%%', %s USING ERRCODE = 'IK001';\n\tEND IF;\n\tRETURN %s;\nEND $$;\n",
			function, g.where, quoted(g.says), row)
	}
	out.WriteString(g.head(table) + " FOR EACH ROW")
	if g.when != "" {
		out.WriteString("\nWHEN (" + changed.ReplaceAllStringFunc(g.when, func(call string) string {
			columns := strings.Split(changed.FindStringSubmatch(call)[1], ", ")
			return "(NEW." + strings.Join(columns, ", NEW.") + ") IS DISTINCT FROM (OLD." + strings.Join(columns, ", OLD.") + ")"
		}) + ")")
	}
	out.WriteString("\nEXECUTE FUNCTION " + function + ";\n\n")
	if g.before == "DELETE" && g.when == "" && g.where == "" { // emptying deletes, too
		fmt.Fprintf(out, "CREATE TRIGGER %s_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION guard_refuse(%s);\n\n", table, table, quoted(g.says))
	}
}

// quoted writes a text of SQL.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
