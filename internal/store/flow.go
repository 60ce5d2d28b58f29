package store

import (
	"encoding/json"
	"time"

	"inkan/internal/store/engine"
)

// Flow is a person's way through a sequence of pages: which step comes next and what
// was typed so far. It never holds a secret.
type Flow struct {
	ID      string
	Kind    string
	Owner   []byte // SHA-256 of who began it
	Subject string // request ID or serial; "" where there is none yet
	Step    string
	Facts   map[string]string
	SeenAt  time.Time // of the last step
	Until   time.Time // the row is dropped after it
}

// AddFlow stores a new flow; SeenAt is the transaction's Now.
func (tx *Tx) AddFlow(f Flow) error {
	facts, err := json.Marshal(f.Facts)
	if err != nil {
		return engine.Error("encode flow", err)
	}
	_, err = tx.sql.Exec(`INSERT INTO flow (id, kind, owner, subject, step, facts, seen_at, until) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`,
		f.ID, f.Kind, f.Owner, f.Subject, f.Step, string(facts), engine.Micros(tx.Now), engine.Micros(f.Until))
	return engine.Error("add flow", err)
}

// Flow reads a flow; pki.ErrNotFound where there is none.
func (tx *Tx) Flow(id string) (Flow, error) {
	f := Flow{ID: id}
	var facts string
	var seen, until int64
	err := tx.sql.QueryRow(`SELECT kind, owner, subject, step, facts, seen_at, until FROM flow WHERE id = $1`, id).
		Scan(&f.Kind, &f.Owner, &f.Subject, &f.Step, &facts, &seen, &until)
	if err != nil {
		return f, engine.Error("read flow", err)
	}
	f.SeenAt, f.Until = engine.FromMicros(seen), engine.FromMicros(until)
	return f, engine.Error("decode flow", json.Unmarshal([]byte(facts), &f.Facts))
}

// MoveFlow makes one step from the one in which the caller saw the flow; pki.ErrConflict
// when another tab was faster. Subject, Step, Facts, SeenAt and Until are written.
func (tx *Tx) MoveFlow(f Flow, seen string) error {
	facts, err := json.Marshal(f.Facts)
	if err != nil {
		return engine.Error("encode flow", err)
	}
	return tx.sql.One("move flow", `UPDATE flow SET subject = $1, step = $2, facts = $3, seen_at = $4, until = $5 WHERE id = $6 AND step = $7`,
		f.Subject, f.Step, string(facts), engine.Micros(f.SeenAt), engine.Micros(f.Until), f.ID, seen)
}

// DropFlows deletes flows whose time is over.
func (tx *Tx) DropFlows() (int64, error) {
	n, err := tx.sql.Exec(`DELETE FROM flow WHERE until < $1`, engine.Micros(tx.Now))
	return n, engine.Error("drop flows", err)
}
