package catest

import (
	"crypto/sha256"
	"encoding/json"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/store"
)

// AuditRow is a row of the audit tree, as who owns the database has it.
type AuditRow struct {
	At                           int64
	Actor, Auth, Kind, Subject   string
	Salt, Body, Digest, leafHash []byte
}

// AuditRows reads all records.
func (o *Office) AuditRows() []AuditRow {
	o.T.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(o.T.Context(), `SELECT at, actor, auth, kind, subject, salt, body, digest, leaf FROM audit ORDER BY idx`)
	Must(o.T, err)
	defer func() { _ = rows.Close() }()
	var out []AuditRow
	for rows.Next() {
		var r AuditRow
		Must(o.T, rows.Scan(&r.At, &r.Actor, &r.Auth, &r.Kind, &r.Subject, &r.Salt, &r.Body, &r.Digest, &r.leafHash))
		out = append(out, r)
	}
	Must(o.T, rows.Err())
	return out
}

// Rebuild puts a history in the place of the one that is there and makes everything that
// follows from it anew: digests, leaves, nodes and the root. So the tree is whole in
// itself. The guards are gone afterwards.
func (o *Office) Rebuild(history []AuditRow) {
	o.T.Helper()
	o.Disarm()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(o.T.Context(), nil)
	Must(o.T, err)
	exec := func(query string, args ...any) {
		o.T.Helper()
		_, err := tx.ExecContext(o.T.Context(), query, args...)
		Must(o.T, err)
	}
	exec(`DELETE FROM audit`)
	exec(`DELETE FROM audit_hash`)
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			out[i] = hashes[index]
		}
		return out, nil
	})
	for n, r := range history {
		index := int64(n)
		digest := r.Digest
		if r.Salt != nil {
			sum := sha256.Sum256(append(append([]byte(nil), r.Salt...), r.Body...))
			digest = sum[:]
		}
		header, err := json.Marshal(struct {
			Index   int64  `json:"index"`
			At      int64  `json:"at"`
			Actor   string `json:"actor"`
			Auth    string `json:"auth"`
			Kind    string `json:"kind"`
			Subject string `json:"subject"`
		}{index, r.At, r.Actor, r.Auth, r.Kind, r.Subject})
		Must(o.T, err)
		leaf := sha256.Sum256(append(header, digest...))
		exec(`INSERT INTO audit (idx, at, actor, auth, kind, subject, digest, leaf, salt, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			index, r.At, r.Actor, r.Auth, r.Kind, r.Subject, digest, leaf[:], r.Salt, r.Body)
		made, err := tlog.StoredHashes(index, leaf[:], reader)
		Must(o.T, err)
		for i, h := range made {
			if i > 0 { // the leaf's own is in audit
				exec(`INSERT INTO audit_hash (idx, hash) VALUES ($1, $2)`, int64(len(hashes)+i), h[:])
			}
		}
		hashes = append(hashes, made...)
	}
	root, err := tlog.TreeHash(int64(len(history)), reader)
	Must(o.T, err)
	exec(`UPDATE audit_tree SET size = $1, root = $2`, int64(len(history)), root[:])
	Must(o.T, tx.Commit())
}

// Proof is what the owner of the database can tell the signer of its tree: the best proof
// from a size that there is.
func (o *Office) Proof(older int64) tlog.TreeProof {
	o.T.Helper()
	var proof tlog.TreeProof
	_ = o.DB.View(o.T.Context(), func(tx *store.Tx) error { // no proof where there is none
		var err error
		proof, err = tx.ProveConsistency(older)
		return err
	})
	return proof
}
