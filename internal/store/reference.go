package store

import (
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Reference is what is kept of a reference ID.
type Reference struct {
	Request string
	KID     string
	Salt    []byte
	Gate    uint32
	Tag     []byte
	Sealed  []byte // nil once the letter was dispatched
	Epoch   string
	Voided  time.Time
}

var referenceContent = pki.Content[Reference]{Name: "reference", Version: 1, Fields: []pki.ContentField[Reference]{
	{Name: "kid", Since: 1, Value: func(r Reference) string { return r.KID }},
	{Name: "salt", Since: 1, Value: func(r Reference) string { return pki.ContentBytes(r.Salt) }},
	{Name: "gate", Since: 1, Value: func(r Reference) string { return pki.ContentNumber(int64(r.Gate)) }},
	{Name: "tag", Since: 1, Value: func(r Reference) string { return pki.ContentBytes(r.Tag) }},
	{Name: "epoch", Since: 1, Value: func(r Reference) string { return r.Epoch }},
}}

// Content is the Content.Hash of the verifier and of the month of what is sealed. The
// audit record of its making holds it: who puts an old verifier back has a letter that
// works again (threat CO12).
func (r Reference) Content() string { return referenceContent.Hash(r) }

// ContentAs is Content in the version that another hash names.
func (r Reference) ContentAs(other string) string { return referenceContent.HashAs(r, other) }

// SealedHash is the SHA-256 in hex of the sealed reference ID; "" where it is gone.
func (r Reference) SealedHash() string { return pki.ContentBytes(r.Sealed) }

// AddReference stores the verifier and the sealed ID of a request. It replaces that
// of an earlier attempt to issue, whose letter was never printed.
func (tx *Tx) AddReference(r Reference) error {
	return tx.sql.Add("add reference", `INSERT INTO reference (request, kid, salt, gate, tag, sealed, epoch) VALUES ($1,$2,$3,$4,$5,$6,$7)
		ON CONFLICT (request) DO UPDATE SET kid = excluded.kid, salt = excluded.salt, gate = excluded.gate, tag = excluded.tag,
		sealed = excluded.sealed, epoch = excluded.epoch`,
		r.Request, r.KID, r.Salt, int64(r.Gate), r.Tag, nullBytes(r.Sealed), r.Epoch)
}

// Reference reads the verifier of a request; pki.ErrNotFound where there is none.
func (tx *Tx) Reference(request string) (Reference, error) {
	r := Reference{Request: request}
	var gate, voided int64
	err := tx.sql.QueryRow(`SELECT kid, salt, gate, tag, sealed, epoch, voided_at FROM reference WHERE request = $1`, request).
		Scan(&r.KID, &r.Salt, &gate, &r.Tag, &r.Sealed, &r.Epoch, &voided)
	r.Gate, r.Voided = uint32(gate), engine.FromMicros(voided)
	return r, engine.Error("read reference", err)
}

// DropOverdueReferences deletes the sealed reference IDs of letters that were not
// dispatched by the download deadline: nobody will send them now.
func (tx *Tx) DropOverdueReferences() error {
	_, err := tx.sql.Exec(`UPDATE reference SET sealed = NULL WHERE sealed IS NOT NULL AND EXISTS
		(SELECT 1 FROM request r WHERE r.id = reference.request AND r.downloads_until <> 0 AND r.downloads_until < $1)`, engine.Micros(tx.Now))
	return engine.Error("drop overdue references", err)
}

// ReferencesBetween lists the verifiers of the requests after one ID and up to another;
// up to the end where that is "".
func (tx *Tx) ReferencesBetween(after, upTo string) ([]Reference, error) {
	rows, err := tx.sql.Query(`SELECT request, kid, salt, gate, tag, sealed, epoch, voided_at FROM reference
		WHERE request > $1 AND (request <= $2 OR $3 = '') ORDER BY request`, after, upTo, upTo)
	if err != nil {
		return nil, engine.Error("read references", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (Reference, error) {
		var r Reference
		var gate, voided int64
		err := row.Scan(&r.Request, &r.KID, &r.Salt, &gate, &r.Tag, &r.Sealed, &r.Epoch, &voided)
		r.Gate, r.Voided = uint32(gate), engine.FromMicros(voided)
		if gate != int64(r.Gate) { // written by hand: no gate of ours
			r.KID = ""
		}
		return r, err
	})
}
