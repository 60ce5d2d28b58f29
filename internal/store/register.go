package store

import (
	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/pki"
)

// What a comparison of the rows with the audit records needs (threat CO12). Which
// record stands for which column is the offices' knowledge (ops).

// AuditOf lists the records about many subjects, oldest first.
func (tx *Tx) AuditOf(subjects []string) ([]AuditRecord, error) {
	err := tx.flushRecords()
	if err != nil || len(subjects) == 0 {
		return nil, err
	}
	list := make([]any, len(subjects))
	for i, s := range subjects {
		list[i] = s
	}
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(auditColumns).From("audit").Where(b.In("subject", list...)).OrderBy("idx")
	query, args := b.Build()
	rows, err := tx.query(query, args...)
	if err != nil {
		return nil, dbError("read audit records", err)
	}
	return collect(rows, scanAudit)
}

// LostRow is a row that a record tells of and that is not there.
type LostRow struct{ Table, Key string }

const lostRows = `SELECT 'request', a.subject FROM audit a WHERE a.kind IN ('request.received', 'request.issuing')
		AND NOT EXISTS (SELECT 1 FROM request WHERE id = a.subject)
	UNION SELECT 'certificate', a.subject FROM audit a WHERE a.kind = 'certificate.issued' AND NOT EXISTS (SELECT 1 FROM certificate WHERE serial = a.subject)
	UNION SELECT 'issue_grant', a.subject FROM audit a WHERE a.kind = 'grant.made' AND NOT EXISTS (SELECT 1 FROM issue_grant WHERE id = a.subject)
	UNION SELECT 'revocation', a.subject FROM audit a WHERE a.kind = 'revocation.received' AND NOT EXISTS (SELECT 1 FROM revocation WHERE id = a.subject)
	UNION SELECT 'operator', a.subject FROM audit a WHERE a.kind = 'operator.added' AND NOT EXISTS (SELECT 1 FROM operator WHERE id = a.subject)
	UNION SELECT 'api_client', a.subject FROM audit a WHERE a.kind = 'client.added' AND NOT EXISTS (SELECT 1 FROM api_client WHERE id = a.subject)`

// LostRows lists the rows that were taken away. It reads every record.
func (tx *Tx) LostRows() ([]LostRow, error) {
	err := tx.flushRecords()
	if err != nil {
		return nil, err
	}
	rows, err := tx.query(lostRows)
	if err != nil {
		return nil, dbError("look for lost rows", err)
	}
	return collect(rows, func(row interface{ Scan(...any) error }) (LostRow, error) {
		var l LostRow
		err := row.Scan(&l.Table, &l.Key)
		return l, err
	})
}

// CRLEntry gives the stored CRL entry of a certificate; nil where there is none.
func (tx *Tx) CRLEntry(serial string) ([]byte, error) {
	var entry []byte
	err := tx.queryRow(`SELECT crl_entry FROM certificate WHERE serial = $1`, serial).Scan(&entry)
	return entry, dbError("read CRL entry", err)
}

// Grants lists all grants.
func (tx *Tx) Grants() ([]pki.Grant, error) { return tx.grants("") }
