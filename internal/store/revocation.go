package store

import (
	"strings"
	"time"

	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var revocationTables = []table{
	{name: "revocation", key: "id", told: []string{"revocation.received"}, guards: []guard{
		{name: "revocation_born", before: "INSERT", says: "a revocation is decided after it was received",
			when: `NEW.state <> 'received' OR NEW.proposed_by <> '' OR NEW.decided_at <> 0 OR NEW.published_at <> 0`},
		{name: "revocation_stays", before: "UPDATE", says: "a revocation is undone by two, one after the other, and decided once",
			when: `changed(id, flow, serial, request, proof, asked_by, reason, email, language, received_at, held_at)
				OR (OLD.proposed_by <> '' AND (changed(proposed_by, proposed_at))) OR (OLD.state <> 'received'
				AND (changed(state, decided_by, decided_at, proposed_by))) OR (NEW.state IN ('rejected', 'lifted')
				AND OLD.state = 'received' AND OLD.proposed_by = '') OR (OLD.published_at <> 0 AND changed(published_at))`},
		{name: "revocation_keep", before: "DELETE", says: "revocations are never deleted"},
		{name: "revocation_dates_stay", before: "UPDATE", narrow: true, says: "the dates of a revocation do not change",
			when: `changed(effective_at, invalid_since)`},
	}},
}

// AddRevocation stores a case that was just received, numbers it, and gives its number.
func (tx *Tx) AddRevocation(r pki.Revocation) (string, error) {
	n, err := tx.nextOf("R" + pki.Day(tx.Now).Format("20060102"))
	if err != nil {
		return "", err
	}
	id := pki.NewRevocationID(tx.Now, n)
	_, err = tx.sql.Exec(`INSERT INTO revocation (id, flow, serial, request, proof, asked_by, reason, email, language, state, received_at, held_at,
		effective_at, invalid_since) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,'received',$10,$11,$12,$13)`,
		id, r.Flow, r.Serial, r.RequestID, string(r.Proof), r.AskedBy, int(r.Reason), r.Email, r.Language, engine.Micros(tx.Now), engine.Micros(r.HeldAt),
		engine.Micros(r.Dates.Effective), engine.Micros(r.Dates.InvalidSince))
	return id, engine.Error("add revocation", err)
}

const revocationColumns = `id, flow, serial, request, proof, asked_by, reason, email, language, state, received_at, held_at,
	proposed_by, proposed_at, decided_by, decided_at, published_at, effective_at, invalid_since`

func scanRevocation(row engine.Scanner) (pki.Revocation, error) {
	var r pki.Revocation
	var received, held, proposed, decided, published, effective, since int64
	err := row.Scan(&r.ID, &r.Flow, &r.Serial, &r.RequestID, &r.Proof, &r.AskedBy, &r.Reason, &r.Email, &r.Language, &r.State, &received, &held,
		&r.ProposedBy, &proposed, &r.DecidedBy, &decided, &published, &effective, &since)
	r.ReceivedAt, r.HeldAt, r.ProposedAt = engine.FromMicros(received), engine.FromMicros(held), engine.FromMicros(proposed)
	r.DecidedAt, r.PublishedAt = engine.FromMicros(decided), engine.FromMicros(published)
	r.Dates = pki.RevocationDates{Effective: engine.FromMicros(effective), InvalidSince: engine.FromMicros(since)}
	return r, err
}

// Revocation reads a case by its number; pki.ErrNotFound where there is none.
func (tx *Tx) Revocation(id string) (pki.Revocation, error) {
	r, err := scanRevocation(tx.sql.QueryRow(`SELECT `+revocationColumns+` FROM revocation WHERE id = $1`, id))
	return r, engine.Error("read revocation", err)
}

// RevocationOfFlow reads the case that a flow asked for; pki.ErrNotFound before it did.
func (tx *Tx) RevocationOfFlow(flow string) (pki.Revocation, error) {
	r, err := scanRevocation(tx.sql.QueryRow(`SELECT `+revocationColumns+` FROM revocation WHERE flow = $1 AND flow <> ''`, flow))
	return r, engine.Error("read revocation of flow", err)
}

// RevocationFilter narrows Revocations. Zero fields do not narrow.
type RevocationFilter struct {
	State   pki.RevocationState
	Serials []string
	After   string // number, exclusive: the page key
	Limit   int    // default 100, at most 10000
}

// Revocations lists cases, the oldest first.
func (tx *Tx) Revocations(f RevocationFilter) ([]pki.Revocation, error) {
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(strings.Split(revocationColumns, ",")...).From("revocation").OrderBy("id")
	if f.State != "" {
		b.Where(b.Equal("state", string(f.State)))
	}
	if f.Serials != nil {
		b.Where(b.In("serial", sqlbuilder.List(texts(f.Serials))))
	}
	if f.After != "" {
		b.Where(b.GreaterThan("id", f.After))
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	b.Limit(min(f.Limit, 10000))
	query, args := b.Build()
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, engine.Error("list revocations", err)
	}
	return engine.Collect(rows, scanRevocation)
}

// ProposeRevocation writes down who was the first to speak against an open case.
func (tx *Tx) ProposeRevocation(id, by string) error {
	return tx.sql.One("propose", `UPDATE revocation SET proposed_by = $1, proposed_at = $2 WHERE id = $3 AND state = 'received' AND proposed_by = ''`,
		by, engine.Micros(tx.Now), id)
}

// DecideRevocation ends an open case.
func (tx *Tx) DecideRevocation(id string, state pki.RevocationState, by string) error {
	return tx.sql.One("decide revocation", `UPDATE revocation SET state = $1, decided_by = $2, decided_at = $3 WHERE id = $4 AND state = 'received'`,
		string(state), by, engine.Micros(tx.Now), id)
}

// LetterHolds counts the holds since a time that somebody placed with a letter's IDs.
func (tx *Tx) LetterHolds(since time.Time) (int, error) {
	var n int
	err := tx.sql.QueryRow(`SELECT COUNT(*) FROM revocation WHERE held_at > $1 AND held_at <> 0 AND proof = 'letter'`, engine.Micros(since)).Scan(&n)
	return n, engine.Error("count holds", err)
}

// MarkPublished records that a CRL holds what was revoked up to its thisUpdate.
func (tx *Tx) MarkPublished(issuer string, thisUpdate time.Time) error {
	_, err := tx.sql.Exec(`UPDATE revocation SET published_at = $1 WHERE state = 'revoked' AND published_at = 0 AND decided_at <= $2
		AND EXISTS (SELECT 1 FROM certificate c WHERE c.serial = revocation.serial AND c.issuer = $3)`, engine.Micros(tx.Now), engine.Micros(thisUpdate), issuer)
	return engine.Error("mark revocations as published", err)
}

// LastLifts says when the last hold was lifted, by issuer.
func (tx *Tx) LastLifts() (map[string]time.Time, error) {
	rows, err := tx.sql.Query(`SELECT c.issuer, MAX(v.decided_at) FROM revocation v JOIN certificate c ON c.serial = v.serial WHERE v.state = 'lifted' GROUP BY c.issuer`)
	if err != nil {
		return nil, engine.Error("read lifts", err)
	}
	defer rows.Close()
	lifts := map[string]time.Time{}
	for rows.Next() {
		var issuer string
		var at int64
		err = rows.Scan(&issuer, &at)
		if err != nil {
			return nil, engine.Error("read lifts", err)
		}
		lifts[issuer] = engine.FromMicros(at)
	}
	return lifts, engine.Error("read lifts", rows.Err())
}
