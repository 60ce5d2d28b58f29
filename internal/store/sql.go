package store

import (
	"strings"

	"inkan/internal/store/engine"
)

// texts gives values as arguments of a statement.
func texts[T ~string](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// nullBytes stores no bytes as NULL.
func nullBytes(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// split is the reverse of strings.Join with commas.
func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// pairs reads rows of two texts.
func pairs(tx *Tx, query string, args ...any) ([][2]string, error) {
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, err
	}
	return engine.Collect(rows, func(row engine.Scanner) ([2]string, error) {
		var p [2]string
		err := row.Scan(&p[0], &p[1])
		return p, err
	})
}
