package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// What a comparison of the rows with the audit records needs (threat CO12). Which
// record stands for which column is the offices' knowledge (ops). Large tables are read
// a page at a time.

// LostRow is a row that a record tells of and that is not there.
type LostRow struct{ Table, Key string }

// lostRows reads every record once.
const lostRows = `SELECT DISTINCT kind, subject FROM audit WHERE kind IN ('request.received', 'request.issuing', 'request.approved', 'certificate.issued',
		'grant.made', 'revocation.received', 'operator.added', 'client.added', 'crl.published', 'instance.made')
	AND NOT CASE kind
		WHEN 'certificate.issued' THEN EXISTS (SELECT 1 FROM certificate WHERE serial = audit.subject)
		WHEN 'grant.made' THEN EXISTS (SELECT 1 FROM issue_grant WHERE id = audit.subject)
		WHEN 'revocation.received' THEN EXISTS (SELECT 1 FROM revocation WHERE id = audit.subject)
		WHEN 'operator.added' THEN EXISTS (SELECT 1 FROM operator WHERE id = audit.subject)
		WHEN 'client.added' THEN EXISTS (SELECT 1 FROM api_client WHERE id = audit.subject)
		WHEN 'crl.published' THEN EXISTS (SELECT 1 FROM crl WHERE issuer = audit.subject)
		WHEN 'instance.made' THEN EXISTS (SELECT 1 FROM instance WHERE uuid = audit.subject AND id = 1)
		ELSE EXISTS (SELECT 1 FROM request WHERE id = audit.subject) END`

// lostIntents are those that led to no certificate; those that did are looked for beside
// it.
const lostIntents = `SELECT 'certificate.intent', subject FROM audit WHERE kind = 'certificate.intent'
	AND NOT EXISTS (SELECT 1 FROM certificate WHERE serial = audit.subject)
	AND subject NOT IN (SELECT serial FROM intent WHERE request = '' OR state <> 'done')`

var tableOf = map[string]string{"certificate.issued": "certificate", "grant.made": "issue_grant", "revocation.received": "revocation", "operator.added": "operator",
	"client.added": "api_client", "crl.published": "crl", "instance.made": "instance", "certificate.intent": "intent"}

// LostRows lists the rows that were taken away, on a snapshot.
func (tx *Tx) LostRows() ([]LostRow, error) {
	var lost []LostRow
	for _, query := range []string{lostRows, lostIntents} {
		part, err := pairs(tx, query)
		if err != nil {
			return nil, engine.Error("look for lost rows", err)
		}
		for _, p := range part {
			table, ok := tableOf[p[0]]
			if !ok {
				table = "request"
			}
			lost = append(lost, LostRow{table, p[1]})
		}
	}
	return lost, nil
}

// pairs reads rows of two texts.
func pairs(tx *Tx, query string, args ...any) ([][2]string, error) {
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, err
	}
	return engine.Collect(rows, func(row engine.Scanner) ([2]string, error) {
		var p [2]string
		err := row.Scan(&p[0], &p[1])
		return p, err
	})
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

// CertificateRow is a certificate with its stored CRL entry; nil where there is none.
type CertificateRow struct {
	pki.Certificate
	Entry []byte
}

// CertificateRows lists certificates in the order of their serials.
func (tx *Tx) CertificateRows(after string, limit int) ([]CertificateRow, error) {
	rows, err := tx.sql.Query(`SELECT `+certificateColumns+`, crl_entry FROM certificate WHERE serial > $1 ORDER BY serial LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list certificates", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (CertificateRow, error) {
		var r CertificateRow
		var err error
		r.Certificate, err = scanCertificate(also{row, []any{&r.Entry}})
		return r, err
	})
}

// also scans more columns than the row that it wraps is asked for.
type also struct {
	engine.Scanner
	more []any
}

func (a also) Scan(dest ...any) error { return a.Scanner.Scan(append(dest, a.more...)...) }

// RequestsOf reads requests by their IDs.
func (tx *Tx) RequestsOf(ids []string) ([]pki.Request, error) {
	return engine.Listed(tx.sql, "request", requestColumns, "id", ids, "", scanRequest)
}

// Editor is a person who changed the content of a request.
type Editor struct{ Request, Operator string }

// EditorsBetween lists the editors of the requests after one ID and up to another; up to
// the end where that is "".
func (tx *Tx) EditorsBetween(after, upTo string) ([]Editor, error) {
	rows, err := tx.sql.Query(`SELECT request, operator FROM request_editor WHERE request > $1 AND (request <= $2 OR $3 = '') ORDER BY request, operator`, after, upTo, upTo)
	if err != nil {
		return nil, engine.Error("read editors", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (Editor, error) {
		var e Editor
		err := row.Scan(&e.Request, &e.Operator)
		return e, err
	})
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

const keyColumns = `id, key_type, spki, spki_sha256, stage, blob, epoch, request, made_at, destroyed_at`

func scanKey(row engine.Scanner) (SealedKey, error) {
	var k SealedKey
	var made, destroyed int64
	err := row.Scan(&k.ID, &k.KeyType, &k.SPKI, &k.SPKISHA256, &k.Stage, &k.Blob, &k.Epoch, &k.Request, &made, &destroyed)
	k.MadeAt, k.Destroyed = engine.FromMicros(made), engine.FromMicros(destroyed)
	return k, err
}

// Keys reads keys by their IDs.
func (tx *Tx) Keys(ids []string) ([]SealedKey, error) {
	return engine.Listed(tx.sql, "sealed_key", keyColumns, "id", ids, "", scanKey)
}

// KeysAfter lists keys in the order of their IDs.
func (tx *Tx) KeysAfter(after string, limit int) ([]SealedKey, error) {
	rows, err := tx.sql.Query(`SELECT `+keyColumns+` FROM sealed_key WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list keys", err)
	}
	return engine.Collect(rows, scanKey)
}

// PublicKey is an entry of the register of all public keys ever seen.
type PublicKey struct{ SPKISHA256, Owner string }

func scanPublicKey(row engine.Scanner) (PublicKey, error) {
	var k PublicKey
	err := row.Scan(&k.SPKISHA256, &k.Owner)
	return k, err
}

// PublicKeys reads entries by the hash of the key.
func (tx *Tx) PublicKeys(hashes []string) ([]PublicKey, error) {
	return engine.Listed(tx.sql, "public_key", "spki_sha256, owner", "spki_sha256", hashes, "", scanPublicKey)
}

// PublicKeysAfter lists entries in the order of the keys' hashes.
func (tx *Tx) PublicKeysAfter(after string, limit int) ([]PublicKey, error) {
	rows, err := tx.sql.Query(`SELECT spki_sha256, owner FROM public_key WHERE spki_sha256 > $1 ORDER BY spki_sha256 LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list public keys", err)
	}
	return engine.Collect(rows, scanPublicKey)
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

// CRLRow is what is stored of a published list: its facts, and the SHA-256 in hex of the
// whole, "" where a piece of it is missing or another.
type CRLRow struct {
	CRL
	SHA256 string
	Octets int64
}

// CRLRows reads every stored list, and gives the pieces that belong to none.
func (tx *Tx) CRLRows() ([]CRLRow, []LostRow, error) {
	rows, err := tx.sql.Query(`SELECT issuer, number, this_update, next_update, compared_at, octets, pieces FROM crl ORDER BY issuer, number`)
	if err != nil {
		return nil, nil, engine.Error("list CRLs", err)
	}
	var pieces [][]byte
	lists, err := engine.Collect(rows, func(row engine.Scanner) (CRLRow, error) {
		var c CRLRow
		var this, next, compared int64
		var hashes []byte
		err := row.Scan(&c.Issuer, &c.Number, &this, &next, &compared, &c.Octets, &hashes)
		c.ThisUpdate, c.NextUpdate, c.Compared = engine.FromMicros(this), engine.FromMicros(next), engine.FromMicros(compared)
		pieces = append(pieces, hashes)
		return c, err
	})
	if err != nil {
		return nil, nil, err
	}
	used := map[string]bool{}
	for n := range lists {
		err = tx.hashPieces(&lists[n], pieces[n], used)
		if err != nil {
			return nil, nil, err
		}
	}
	stored, err := pairs(tx, `SELECT issuer, hash FROM crl_piece ORDER BY issuer, hash`)
	if err != nil {
		return nil, nil, engine.Error("list CRL pieces", err)
	}
	var stray []LostRow
	for _, p := range stored {
		if !used[p[0]+p[1]] {
			stray = append(stray, LostRow{"crl_piece", p[0] + " " + hex.EncodeToString([]byte(p[1]))})
		}
	}
	return lists, stray, nil
}

// hashPieces reads the pieces of a list, one after another.
func (tx *Tx) hashPieces(c *CRLRow, hashes []byte, used map[string]bool) error {
	whole := sha256.New()
	octets, all := int64(0), len(hashes)%sha256.Size == 0
	for len(hashes) >= sha256.Size {
		hash := hashes[:sha256.Size]
		hashes = hashes[sha256.Size:]
		used[c.Issuer+string(hash)] = true
		var der []byte
		err := tx.sql.QueryRow(`SELECT der FROM crl_piece WHERE issuer = $1 AND hash = $2`, c.Issuer, hash).Scan(&der)
		if pki.ClassOf(err) == pki.NotFound {
			all = false
			continue
		}
		if err != nil {
			return fmt.Errorf("read CRL piece: %w", err)
		}
		all = all && sha256.Sum256(der) == [sha256.Size]byte(hash)
		octets += int64(len(der))
		_, err = whole.Write(der)
		if err != nil {
			return fmt.Errorf("hash CRL: %w", err)
		}
	}
	if all && octets == c.Octets {
		c.SHA256 = hex.EncodeToString(whole.Sum(nil))
	}
	return nil
}

// Conflicts lists the pairs of roles that the database keeps apart.
func (tx *Tx) Conflicts() ([][2]string, error) {
	found, err := pairs(tx, `SELECT role, other FROM role_conflict ORDER BY role, other`)
	return found, engine.Error("list role conflicts", err)
}

// ownSerials reads the whole table; see otherIntents.
const ownSerials = `SELECT serial FROM certificate WHERE request = ''`

// OwnSerials lists our own certificates.
func (tx *Tx) OwnSerials() ([]string, error) {
	rows, err := tx.sql.Query(ownSerials)
	if err != nil {
		return nil, engine.Error("list own certificates", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (string, error) {
		var serial string
		err := row.Scan(&serial)
		return serial, err
	})
}

// Grants lists all grants.
func (tx *Tx) Grants() ([]pki.Grant, error) { return tx.grants("") }
