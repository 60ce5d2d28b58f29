package store

import (
	"time"

	"inkan/internal/store/engine"
)

// Ticket is a prepared file that waits to be fetched. The blob opens only with the
// key that the ticket itself carries; the row has the key's hash.
type Ticket struct {
	ID         string
	Request    string
	KeyHash    []byte
	CookieHash []byte
	Blob       []byte
	Legacy     bool
	FileSHA256 string // hex
	FileSize   int
	Uses       int
	Until      time.Time
}

// AddTicket stores a ticket.
func (tx *Tx) AddTicket(t Ticket) error {
	_, err := tx.sql.Exec(`INSERT INTO ticket (id, request, key_hash, cookie_hash, blob, legacy, file_sha256, file_size, until)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`,
		t.ID, t.Request, t.KeyHash, t.CookieHash, t.Blob, t.Legacy, t.FileSHA256, t.FileSize, engine.Micros(t.Until))
	return engine.Error("add ticket", err)
}

// Ticket reads a ticket; pki.ErrNotFound where there is none.
func (tx *Tx) Ticket(id string) (Ticket, error) {
	t := Ticket{ID: id}
	var until int64
	err := tx.sql.QueryRow(`SELECT request, key_hash, cookie_hash, blob, legacy, file_sha256, file_size, uses, until FROM ticket WHERE id = $1`, id).
		Scan(&t.Request, &t.KeyHash, &t.CookieHash, &t.Blob, &t.Legacy, &t.FileSHA256, &t.FileSize, &t.Uses, &until)
	t.Until = engine.FromMicros(until)
	return t, engine.Error("read ticket", err)
}

// UseTicket counts one fetch, at most limit of them; pki.ErrConflict beyond. With the
// last one the file goes (threat DL8); the row stays to say so until its time is over.
func (tx *Tx) UseTicket(id string, limit int) error {
	return tx.sql.One("use ticket", `UPDATE ticket SET uses = uses + 1, blob = CASE WHEN uses + 1 < $1 THEN blob ELSE $2 END
		WHERE id = $3 AND uses < $4 AND until >= $5`, limit, []byte{}, id, limit, engine.Micros(tx.Now))
}

// DropTickets deletes tickets whose time is over, with the files they held.
func (tx *Tx) DropTickets() (int64, error) {
	n, err := tx.sql.Exec(`DELETE FROM ticket WHERE until < $1`, engine.Micros(tx.Now))
	return n, engine.Error("drop tickets", err)
}
