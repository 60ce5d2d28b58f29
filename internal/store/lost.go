package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/store/engine"
)

// Rows that are gone, and rows that belong to nothing: what a comparison with the audit
// records needs besides the rows themselves (threat CO12). Which record stands for which
// column is the offices' knowledge (ops).

// LostRow is a row that a record tells of and that is not there.
type LostRow struct{ Table, Key string }

// lostRows reads every record once.
var lostRows = lost()

func lost() string {
	var kinds, cases []string
	for _, t := range tables() {
		for _, kind := range t.told {
			kinds = append(kinds, quoted(kind))
			cases = append(cases, fmt.Sprintf("WHEN %s THEN EXISTS (SELECT 1 FROM %s WHERE %s = audit.subject%s)", quoted(kind), t.name, t.key, t.only))
		}
	}
	b := sqlbuilder.PostgreSQL.NewSelectBuilder().Distinct()
	b.Select("kind", "subject").From("audit").Where("kind IN ("+strings.Join(kinds, ", ")+")", "NOT CASE kind "+strings.Join(cases, " ")+" END")
	query, _ := b.Build()
	return query
}

// lostIntents are those that led to no certificate; those that did are looked for beside
// it.
const lostIntents = `SELECT 'certificate.intent', subject FROM audit WHERE kind = 'certificate.intent'
	AND NOT EXISTS (SELECT 1 FROM certificate WHERE serial = audit.subject)
	AND subject NOT IN (SELECT serial FROM intent WHERE request = '' OR state <> 'done')`

// tableOf gives the table of which a kind of records tells; intents are told by two.
func tableOf(kind string) string {
	for _, t := range tables() {
		if slices.Contains(t.told, kind) {
			return t.name
		}
	}
	return "intent"
}

// LostRows lists the rows that were taken away, on a snapshot.
func (tx *Tx) LostRows() ([]LostRow, error) {
	var rows []LostRow
	for _, query := range []string{lostRows, lostIntents} {
		part, err := pairs(tx, query)
		if err != nil {
			return nil, engine.Error("look for lost rows", err)
		}
		for _, p := range part {
			rows = append(rows, LostRow{tableOf(p[0]), p[1]})
		}
	}
	return rows, nil
}

// strays are rows of a table whose row in another table is not there, or says another
// thing.
const strays = `SELECT 'operator_role', operator FROM operator_role WHERE NOT EXISTS (SELECT 1 FROM operator WHERE id = operator_role.operator)
	UNION SELECT 'intent', serial FROM intent WHERE request <> '' AND state = 'done'
		AND NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = intent.serial AND c.request = intent.request)
	UNION SELECT 'public_key', spki_sha256 FROM public_key WHERE owner LIKE 'key/%'
		AND NOT EXISTS (SELECT 1 FROM sealed_key k WHERE k.id = substr(public_key.owner, 5) AND k.spki_sha256 = public_key.spki_sha256)
	UNION SELECT 'sealed_key', substr(owner, 5) FROM public_key WHERE owner LIKE 'key/%'
		AND NOT EXISTS (SELECT 1 FROM sealed_key k WHERE k.id = substr(public_key.owner, 5))`

// StrayRows lists rows that belong to nothing: roles of no operator, what was signed
// without a certificate, public keys of no key, and keys of which only the public one is
// left.
func (tx *Tx) StrayRows() ([]LostRow, error) {
	found, err := pairs(tx, strays)
	if err != nil {
		return nil, engine.Error("look for stray rows", err)
	}
	out := make([]LostRow, len(found))
	for n, p := range found {
		out[n] = LostRow{p[0], p[1]}
	}
	return out, nil
}
