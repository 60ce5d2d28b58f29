package engine

import "testing"

func TestUnnamed(t *testing.T) {
	for query, want := range map[string]string{
		`SELECT 1`:                         `SELECT 1`,
		`UPDATE a SET b = $1 WHERE c = $2`: `UPDATE a SET b = ? WHERE c = ?`,
		`SELECT $1, $2, $1`:                `SELECT $1, $2, $1`,
		`SELECT $2, $1`:                    `SELECT $2, $1`,
		RowsOf(2, 6):                       `(?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?)`,
	} {
		got := unnamed(query)
		if got != want {
			t.Errorf("%s: %s", query, got)
		}
	}
}
