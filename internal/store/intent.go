package store

import (
	"time"

	"inkan/internal/store/engine"
)

var intentTables = []table{
	{name: "intent", guards: []guard{
		{name: "intent_stays", before: "UPDATE", narrow: true, says: "an intent does not change",
			when: `changed(serial, issuer, profile, request, tbs, audit_index, audit_leaf)`},
		{name: "intent_keep", before: "DELETE", says: "intents are never deleted"},
		{name: "intent_closed", before: "UPDATE", says: "an intent does not change",
			when: `OLD.state <> 'open'`},
	}},
}

// Intent is what we will sign, stored and linted before the key is used.
type Intent struct {
	Serial     string
	Issuer     string
	Profile    string
	Request    string // "" for our own certificates
	TBS        []byte
	AuditIndex int64
	AuditLeaf  []byte
	State      string // open, done, abandoned
	MadeAt     time.Time
}

// AddIntent stores an intent. A serial or a request that already has one is
// pki.ErrConflict, as is the serial of a certificate.
func (tx *Tx) AddIntent(i Intent) error {
	return tx.sql.One("add intent", `INSERT INTO intent (serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at)
		SELECT $1, $2, $3, $4, $5, $6, $7, 'open', $8 WHERE NOT EXISTS (SELECT 1 FROM certificate WHERE serial = $9)`,
		i.Serial, i.Issuer, i.Profile, i.Request, i.TBS, i.AuditIndex, i.AuditLeaf, engine.Micros(tx.Now), i.Serial)
}

// CloseIntent moves an open intent to done or abandoned.
func (tx *Tx) CloseIntent(serial, state string) error {
	return tx.sql.One("close intent", `UPDATE intent SET state = $1 WHERE serial = $2 AND state = 'open'`, state, serial)
}

// OpenIntents lists intents without a result that are older than before.
func (tx *Tx) OpenIntents(before time.Time, limit int) ([]Intent, error) {
	rows, err := tx.sql.Query(`SELECT serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at FROM intent
		WHERE state = 'open' AND made_at < $1 ORDER BY made_at LIMIT $2`, engine.Micros(before), limit)
	if err != nil {
		return nil, engine.Error("list open intents", err)
	}
	return engine.Collect(rows, scanIntent)
}

func scanIntent(row engine.Scanner) (Intent, error) {
	var i Intent
	var made int64
	err := row.Scan(&i.Serial, &i.Issuer, &i.Profile, &i.Request, &i.TBS, &i.AuditIndex, &i.AuditLeaf, &i.State, &made)
	i.MadeAt = engine.FromMicros(made)
	return i, err
}

// IntentOfRequest gives the intent of a request that was not abandoned;
// pki.ErrNotFound where there is none.
func (tx *Tx) IntentOfRequest(request string) (Intent, error) {
	i, err := scanIntent(tx.sql.QueryRow(`SELECT serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at FROM intent
		WHERE request = $1 AND request <> '' AND state <> 'abandoned'`, request))
	return i, engine.Error("read intent of request", err)
}

const intentColumns = `serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at`

// IntentsOf reads the intents of requests that were not abandoned.
func (tx *Tx) IntentsOf(requests []string) ([]Intent, error) {
	return engine.Listed(tx.sql, "intent", intentColumns, "request", requests, "", scanIntent, "request <> ''", "state <> 'abandoned'")
}

// otherIntents reads the whole table: an index would cost every certificate something.
const otherIntents = `SELECT ` + intentColumns + ` FROM intent WHERE request = '' OR state <> 'done' ORDER BY serial, state`

// OtherIntents lists the intents of our own certificates, and those without a
// certificate: they are few.
func (tx *Tx) OtherIntents() ([]Intent, error) {
	rows, err := tx.sql.Query(otherIntents)
	if err != nil {
		return nil, engine.Error("list intents", err)
	}
	return engine.Collect(rows, scanIntent)
}
