package store

import (
	"time"

	"inkan/internal/store/engine"
)

// AddStatusLink lets who has a token see a request until then.
func (tx *Tx) AddStatusLink(tokenHash, request string, until time.Time) error {
	_, err := tx.sql.Exec(`INSERT INTO status_link (token_hash, request, until) VALUES ($1,$2,$3)`, tokenHash, request, engine.Micros(until))
	return engine.Error("add status link", err)
}

// StatusLink gives the request of a token; pki.ErrNotFound where there is none.
func (tx *Tx) StatusLink(tokenHash string) (string, error) {
	var request string
	err := tx.sql.QueryRow(`SELECT request FROM status_link WHERE token_hash = $1 AND until >= $2`, tokenHash, engine.Micros(tx.Now)).Scan(&request)
	return request, engine.Error("read status link", err)
}

// Link is a mailed link that opens a request: of its receipt, or of the draft that it was.
type Link struct {
	TokenHash string
	Request   string
	Flow      string // of a draft
	Until     int64  // µs since 1970
}

func scanLink(row engine.Scanner) (Link, error) {
	var l Link
	err := row.Scan(&l.TokenHash, &l.Request, &l.Flow, &l.Until)
	return l, err
}

// linkTables say how links are read: a draft that is no request yet opens nothing that is
// stored.
var linkTables = map[string]string{
	"status_link": `SELECT token_hash, request, '', until FROM status_link WHERE token_hash > $1 ORDER BY token_hash LIMIT $2`,
	"draft":       `SELECT token_hash, request, flow, until FROM draft WHERE token_hash > $1 AND request <> '' ORDER BY token_hash LIMIT $2`,
}

// LinksAfter lists links in the order of their tokens' hashes.
func (tx *Tx) LinksAfter(table, after string, limit int) ([]Link, error) {
	rows, err := tx.sql.Query(linkTables[table], after, limit)
	if err != nil {
		return nil, engine.Error("list links", err)
	}
	return engine.Collect(rows, scanLink)
}

// HasLink says whether there is a link that opens a request.
func (tx *Tx) HasLink(table, tokenHash, request string) (bool, error) {
	rows, err := engine.Listed(tx.sql, table, "token_hash, request", "token_hash", []string{tokenHash}, "", func(row engine.Scanner) (bool, error) {
		var hash, of string
		err := row.Scan(&hash, &of)
		return of == request, err
	})
	return len(rows) == 1 && rows[0], err
}
