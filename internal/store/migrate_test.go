package store

import "testing"

// TestMigrationsAreNumberedOnce: two branches that both add "the next" migration must meet
// here and not in a customer's database.
func TestMigrationsAreNumberedOnce(t *testing.T) {
	for _, name := range []string{SQLite, PostgreSQL} {
		all := schema.Written(name)
		if len(all) == 0 {
			t.Errorf("%s: no migration", name)
		}
		for i, m := range all {
			if m.Version != int64(i+1) {
				t.Errorf("%s: migration %d stands where %d is due: numbers are given once and without gaps", name, m.Version, i+1)
			}
		}
	}
}
