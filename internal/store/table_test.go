package store

import "testing"

// TestGuardTexts: one declaration, two dialects.
func TestGuardTexts(t *testing.T) {
	for _, c := range []struct {
		g                guard
		sqlite, postgres string
	}{
		{guard{name: "a_keep", before: "DELETE", says: "it's kept"},
			"CREATE TRIGGER a_keep BEFORE DELETE ON a\nBEGIN SELECT RAISE(ABORT, 'it''s kept'); END;\n\n",
			"CREATE TRIGGER a_keep BEFORE DELETE ON a FOR EACH ROW\nEXECUTE FUNCTION guard_refuse('it''s kept');\n\n" +
				"CREATE TRIGGER a_truncate BEFORE TRUNCATE ON a FOR EACH STATEMENT EXECUTE FUNCTION guard_refuse('it''s kept');\n\n"},
		{guard{name: "a_stays", before: "UPDATE", narrow: true, when: "OLD.x <> 0 AND changed(x, y)", says: "no"},
			"CREATE TRIGGER a_stays BEFORE UPDATE OF x, y ON a\nWHEN OLD.x <> 0 AND (NEW.x IS NOT OLD.x OR NEW.y IS NOT OLD.y)\nBEGIN SELECT RAISE(ABORT, 'no'); END;\n\n",
			"CREATE TRIGGER a_stays BEFORE UPDATE OF x, y ON a FOR EACH ROW\nWHEN (OLD.x <> 0 AND (NEW.x, NEW.y) IS DISTINCT FROM (OLD.x, OLD.y))\nEXECUTE FUNCTION guard_refuse('no');\n\n"},
		{guard{name: "a_other", before: "INSERT", where: "EXISTS (SELECT 1 FROM b WHERE b.x = NEW.x)", says: "no"},
			"CREATE TRIGGER a_other BEFORE INSERT ON a\nBEGIN SELECT RAISE(ABORT, 'no')\n\tWHERE EXISTS (SELECT 1 FROM b WHERE b.x = NEW.x); END;\n\n",
			"CREATE FUNCTION guard_a_other() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n\tIF EXISTS (SELECT 1 FROM b WHERE b.x = NEW.x) THEN\n" +
				"\t\tRAISE EXCEPTION '%', 'no' USING ERRCODE = 'IK001';\n\tEND IF;\n\tRETURN NEW;\nEND $$;\n" +
				"CREATE TRIGGER a_other BEFORE INSERT ON a FOR EACH ROW\nEXECUTE FUNCTION guard_a_other();\n\n"},
	} {
		if got := c.g.texts(SQLite, "a"); got != c.sqlite {
			t.Errorf("%s on SQLite:\n%s", c.g.name, got)
		}
		if got := c.g.texts(PostgreSQL, "a"); got != c.postgres {
			t.Errorf("%s on PostgreSQL:\n%s", c.g.name, got)
		}
	}
}
