package audit

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/huandu/go-sqlbuilder"
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// KindErased is the kind of the record that says another record's body was erased;
// its subject is that record's index.
const KindErased = "audit.erased"

// AuditRecord is one record of the audit tree.
type AuditRecord struct {
	Index   int64
	At      time.Time
	Actor   string
	Auth    string
	Kind    string
	Subject string
	Body    json.RawMessage // nil when erased
	Erased  bool
}

// A record in the tree:
//
//	digest = SHA-256(salt ‖ body)          salt: 32 random bytes
//	leaf   = SHA-256(header ‖ digest)      header: canonical JSON, see auditHeader
//	tree   = RFC 6962 over the leaves (RecordHash(leaf))
//
// Salt and body can be erased; the digest says nothing about a body without its
// salt (threat AU3). The header stays, so that an erased record still proves who
// did what kind of thing to what and when: it must not hold personal data.
type auditHeader struct {
	Index   int64  `json:"index"`
	At      int64  `json:"at"` // µs since 1970
	Actor   string `json:"actor"`
	Auth    string `json:"auth"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
}

func (h auditHeader) bytes() []byte {
	raw, err := json.Marshal(h)
	if err != nil {
		panic(fmt.Sprintf("store: marshal audit header: %v", err)) // numbers and strings: cannot be
	}
	return raw
}

func auditDigest(salt, body []byte) [32]byte {
	return sha256.Sum256(append(append([]byte(nil), salt...), body...))
}

func auditLeaf(header []byte, digest []byte) [32]byte {
	return sha256.Sum256(append(append([]byte(nil), header...), digest...))
}

// Audit appends a record to the tree, in this transaction. Index and leaf are final
// if the transaction commits: the tree's row is locked before an Update begins, so
// order of indexes is order of commits, without gaps. body is stored as JSON. The row
// itself is written with those of the other closures, or before the next reading of
// the tree.
func (tx *Tx) Audit(actor pki.Actor, kind, subject string, body any) (int64, [32]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, [32]byte{}, tx.sql.Spoil(fmt.Errorf("encode audit body of %s: %w", kind, err))
	}
	err = tx.sql.Ready()
	if err != nil {
		return 0, [32]byte{}, err
	}
	t := tx.tree()
	if t == nil {
		return 0, [32]byte{}, tx.sql.Spoil(fmt.Errorf("audit %s outside of an update", kind))
	}
	h := auditHeader{
		Index: t.size, At: engine.Micros(tx.sql.Now),
		Actor: plain(actor.ID), Auth: plain(string(actor.Auth)), Kind: plain(kind), Subject: plain(subject),
	}
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails; see crypto/rand
	digest := auditDigest(salt, raw)
	leaf := auditLeaf(h.bytes(), digest[:])
	t.records = append(t.records, fullRecord{h, digest[:], leaf[:], salt, raw})
	t.append(leaf)
	return h.Index, leaf, nil
}

// plain drops what PostgreSQL would refuse in a TEXT and SQLite would not.
func plain(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// EraseAudit erases the body of a record and keeps its header and leaf; the act is
// a record itself. pki.ErrNotFound where there is no such record, pki.ErrConflict
// where it is erased already.
func (tx *Tx) EraseAudit(by pki.Actor, index int64, why string) error {
	r, err := tx.AuditRecord(index)
	if err != nil {
		return err
	}
	if r.Erased {
		return pki.ErrConflict
	}
	// AuditRecord has written what was pending, so the row is there.
	_, err = tx.sql.Exec(`UPDATE audit SET salt = NULL, body = NULL WHERE idx = $1`, index)
	if err != nil {
		return engine.Error("erase audit body", err)
	}
	_, _, err = tx.Audit(by, KindErased, strconv.FormatInt(index, 10), map[string]string{"why": why})
	return err
}

// fullRecord is a row of audit.
type fullRecord struct {
	header                   auditHeader
	digest, leaf, salt, body []byte
}

const fullColumns = `idx, at, actor, auth, kind, subject, digest, leaf, salt, body`

func scanFull(row engine.Scanner) (fullRecord, error) {
	var r fullRecord
	h := &r.header
	err := row.Scan(&h.Index, &h.At, &h.Actor, &h.Auth, &h.Kind, &h.Subject, &r.digest, &r.leaf, &r.salt, &r.body)
	return r, err
}

// intact says whether the parts of a record give its leaf.
func (r fullRecord) intact() bool {
	leaf := auditLeaf(r.header.bytes(), r.digest)
	if !bytes.Equal(leaf[:], r.leaf) {
		return false
	}
	if r.salt == nil && r.body == nil {
		return true
	}
	digest := auditDigest(r.salt, r.body)
	return len(r.salt) == 32 && r.body != nil && bytes.Equal(digest[:], r.digest)
}

const auditColumns = `idx, at, actor, auth, kind, subject, body`

func scanAudit(row engine.Scanner) (AuditRecord, error) {
	var r AuditRecord
	var at int64
	err := row.Scan(&r.Index, &at, &r.Actor, &r.Auth, &r.Kind, &r.Subject, (*[]byte)(&r.Body))
	r.At, r.Erased = engine.FromMicros(at), r.Body == nil
	return r, err
}

// AuditRecord reads one record; pki.ErrNotFound where there is none.
func (tx *Tx) AuditRecord(index int64) (AuditRecord, error) {
	err := tx.flushRecords()
	if err != nil {
		return AuditRecord{}, err
	}
	r, err := scanAudit(tx.sql.QueryRow(`SELECT `+auditColumns+` FROM audit WHERE idx = $1`, index))
	return r, engine.Error("read audit record", err)
}

// AuditAbout lists the records about a subject, oldest first.
func (tx *Tx) AuditAbout(subject string, limit int) ([]AuditRecord, error) {
	err := tx.flushRecords()
	if err != nil {
		return nil, err
	}
	rows, err := tx.sql.Query(`SELECT `+auditColumns+` FROM audit WHERE subject = $1 ORDER BY idx LIMIT $2`, subject, limit)
	if err != nil {
		return nil, engine.Error("read audit records", err)
	}
	return engine.Collect(rows, scanAudit)
}

// Record is an audit record with its leaf.
type Record struct {
	AuditRecord
	Leaf []byte
}

// AuditOf lists the records about many subjects, of some kinds or of all, oldest first.
func (tx *Tx) AuditOf(subjects []string, kinds ...string) ([]Record, error) {
	err := tx.flushRecords()
	if err != nil {
		return nil, err
	}
	var more []string
	if len(kinds) > 0 {
		more = []string{"kind IN ('" + strings.Join(kinds, "', '") + "')"}
	}
	return engine.Listed(tx.sql, "audit", auditColumns+", leaf", "subject", subjects, "idx", func(row engine.Scanner) (Record, error) {
		var r Record
		var at int64
		err := row.Scan(&r.Index, &at, &r.Actor, &r.Auth, &r.Kind, &r.Subject, (*[]byte)(&r.Body), &r.Leaf)
		r.At, r.Erased = engine.FromMicros(at), r.Body == nil
		return r, err
	}, more...)
}

// LastAuditAbout gives the newest record about a subject; pki.ErrNotFound: there is none.
func (tx *Tx) LastAuditAbout(subject string) (AuditRecord, error) {
	err := tx.flushRecords()
	if err != nil {
		return AuditRecord{}, err
	}
	r, err := scanAudit(tx.sql.QueryRow(`SELECT `+auditColumns+` FROM audit WHERE subject = $1 ORDER BY idx DESC LIMIT 1`, subject))
	return r, engine.Error("read audit record", err)
}

// AuditTree gives size and root of the tree as this transaction sees it, its own
// records included.
func (tx *Tx) AuditTree() (int64, tlog.Hash, error) {
	if tx.sql.Over() {
		return 0, tlog.Hash{}, engine.ErrOver
	}
	p := tx.page()
	if p.tree != nil {
		return p.tree.size, p.tree.root(), nil
	}
	var root tlog.Hash
	if copy(root[:], p.root) != len(root) {
		return 0, root, fmt.Errorf("read audit tree: root of %d bytes", len(p.root))
	}
	return p.size, root, nil
}

// AuditTreeAt gives the root that the tree had when it was of a size.
func (tx *Tx) AuditTreeAt(size int64) (tlog.Hash, error) { return tx.treeHash(size) }

// storedHashes reads nodes of the tree: leaves from their records, the rest from
// audit_hash. It is a tlog.HashReader.
func (tx *Tx) storedHashes(indexes []int64) ([]tlog.Hash, error) {
	err := tx.flushRecords()
	if err != nil {
		return nil, err
	}
	err = tx.flushNodes()
	if err != nil {
		return nil, err
	}
	leaves, nodes := map[int64]tlog.Hash{}, map[int64]tlog.Hash{}
	for _, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		if level == 0 {
			leaves[n] = tlog.Hash{}
		} else {
			nodes[index] = tlog.Hash{}
		}
	}
	err = tx.readHashes("leaf", "audit", leaves)
	if err == nil {
		err = tx.readHashes("hash", "audit_hash", nodes)
	}
	if err != nil {
		return nil, err
	}
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		if level == 0 {
			leaf := leaves[n]
			out[i] = tlog.RecordHash(leaf[:])
		} else {
			out[i] = nodes[index]
		}
	}
	return out, nil
}

// readHashes fills a map by index from a column; every index must be there.
func (tx *Tx) readHashes(column, table string, into map[int64]tlog.Hash) error {
	if len(into) == 0 {
		return nil
	}
	var args []any
	for index := range into {
		args = append(args, index)
	}
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select("idx", column).From(table).Where(b.In("idx", args...))
	query, args := b.Build()
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return engine.Error("read audit tree", err)
	}
	found, err := engine.Collect(rows, func(row engine.Scanner) (node, error) {
		var n node
		var hash []byte
		err := row.Scan(&n.index, &hash)
		if err == nil && len(hash) != tlog.HashSize {
			err = errTreeDamaged.Because(fmt.Errorf("%s %d has %d octets", column, n.index, len(hash)))
		}
		copy(n.hash[:], hash)
		return n, err
	})
	if err != nil {
		return err
	}
	if len(found) != len(into) {
		return errTreeDamaged.Because(fmt.Errorf("%d of %d nodes are there", len(found), len(into)))
	}
	for _, n := range found {
		into[n.index] = n.hash
	}
	return nil
}

// errTreeDamaged says that a stored part of the tree is missing or of another form.
var errTreeDamaged = pki.E(pki.Internal, "audit.damaged")
