package store

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var crlTables = []table{{name: "crl", key: "issuer", told: []string{"crl.published"}}}

// CRL is a published certificate revocation list.
type CRL struct {
	Issuer     string
	Number     int64
	ThisUpdate time.Time // every revocation committed by then is in it; the DER has whole seconds
	NextUpdate time.Time
	Compared   time.Time // when all rows were last read for it or for one before it
	DER        []byte

	pieces []piece
}

// piece is a part of a list. The next list repeats nearly all of the last, which is
// 46 MB with a million entries: only pieces that are new are written, and only those
// that a node does not have are read.
type piece struct {
	hash [sha256.Size]byte
	der  []byte
}

// A piece ends where two octets stand that serial numbers have by chance, once in 3,400 entries: where
// a list is cut is a matter of what stands there and not of what stands before it, so
// that an entry that comes or goes changes one piece.
var (
	pieceEnd = []byte{0xa7, 0x4e}
	pieceMax = 1 << 20
)

// Cut divides the list into its pieces. PublishCRL does it where nobody did, but holds
// the database meanwhile.
func (c *CRL) Cut() {
	c.pieces = nil
	for rest := c.DER; len(rest) > 0; {
		size := min(len(rest), pieceMax)
		end := bytes.Index(rest[:size], pieceEnd)
		if end >= 0 {
			size = end + len(pieceEnd)
		}
		c.pieces = append(c.pieces, piece{sha256.Sum256(rest[:size]), rest[:size:size]})
		rest = rest[size:]
	}
}

// LastCRL gives the newest CRL of an issuer; pki.ErrNotFound before the first. Of one
// that the caller has, as LastCRL or Cut left it, no part is read again.
func (tx *Tx) LastCRL(issuer string, have CRL) (CRL, error) {
	c := CRL{Issuer: issuer}
	var this, next, compared int64
	var octets int
	var hashes []byte
	err := tx.sql.QueryRow(`SELECT number, this_update, next_update, compared_at, octets, pieces FROM crl
		WHERE issuer = $1 ORDER BY number DESC LIMIT 1`, issuer).
		Scan(&c.Number, &this, &next, &compared, &octets, &hashes)
	if err != nil {
		return c, engine.Error("read CRL", err)
	}
	c.ThisUpdate, c.NextUpdate, c.Compared = engine.FromMicros(this), engine.FromMicros(next), engine.FromMicros(compared)
	if c.Number == have.Number && bytes.Equal(hashes, have.hashes()) {
		c.DER, c.pieces = have.DER, have.pieces
		return c, nil
	}
	known := map[[sha256.Size]byte][]byte{}
	for _, p := range have.pieces {
		known[p.hash] = p.der
	}
	c.DER = make([]byte, 0, octets)
	for hash := range slices.Chunk(hashes, sha256.Size) {
		p := piece{hash: [sha256.Size]byte(hash)}
		at := len(c.DER)
		der, ok := known[p.hash]
		if ok {
			c.DER = append(c.DER, der...)
		} else {
			var raw sql.RawBytes
			err = tx.sql.QueryRow(`SELECT der FROM crl_piece WHERE issuer = $1 AND hash = $2`, issuer, hash).
				Look(func() { c.DER = append(c.DER, raw...) }, &raw)
		}
		if errors.Is(err, pki.ErrNotFound) {
			err = fmt.Errorf("piece %x is not there", hash)
		}
		if err != nil {
			return c, fmt.Errorf("read CRL %d of %s: %w", c.Number, issuer, err)
		}
		p.der = c.DER[at:len(c.DER):len(c.DER)]
		c.pieces = append(c.pieces, p)
	}
	return c, nil
}

// LastCRLNumber gives number and thisUpdate of the newest CRL of an issuer, and reads
// nothing of the list; pki.ErrNotFound before the first.
func (tx *Tx) LastCRLNumber(issuer string) (int64, time.Time, error) {
	var number, this int64
	err := tx.sql.QueryRow(`SELECT number, this_update FROM crl WHERE issuer = $1 ORDER BY number DESC LIMIT 1`, issuer).Scan(&number, &this)
	return number, engine.FromMicros(this), engine.Error("read number of CRL", err)
}

func (c *CRL) hashes() []byte {
	out := make([]byte, 0, len(c.pieces)*sha256.Size)
	for _, p := range c.pieces {
		out = append(out, p.hash[:]...)
	}
	return out
}

// PublishCRL stores a CRL as the successor of number previous; pki.ErrConflict when
// another node published meanwhile. Only the newest is kept.
func (tx *Tx) PublishCRL(c CRL, previous int64) error {
	if c.pieces == nil {
		c.Cut()
	}
	err := tx.sql.One("publish CRL", `INSERT INTO crl (issuer, number, this_update, next_update, compared_at, octets, pieces)
		SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (SELECT 1 FROM crl WHERE issuer = $8 AND number > $9)`,
		c.Issuer, c.Number, engine.Micros(c.ThisUpdate), engine.Micros(c.NextUpdate), engine.Micros(c.Compared), len(c.DER), c.hashes(), c.Issuer, previous)
	if err != nil {
		return err
	}
	_, err = tx.sql.Exec(`DELETE FROM crl WHERE issuer = $1 AND number < $2`, c.Issuer, c.Number)
	if err != nil {
		return engine.Error("drop old CRL", err)
	}
	return tx.storePieces(c)
}

// storePieces adds what an issuer's list has that is not stored yet, and drops what no
// list has any more.
func (tx *Tx) storePieces(c CRL) error {
	rows, err := tx.sql.Query(`SELECT hash FROM crl_piece WHERE issuer = $1`, c.Issuer)
	if err != nil {
		return engine.Error("read CRL pieces", err)
	}
	stored, err := engine.Collect(rows, func(row engine.Scanner) ([]byte, error) {
		var hash []byte
		err := row.Scan(&hash)
		return hash, err
	})
	if err != nil {
		return err
	}
	there, used := map[string]bool{}, map[string]bool{}
	for _, hash := range stored {
		there[string(hash)] = true
	}
	for _, p := range c.pieces {
		hash := string(p.hash[:])
		if !there[hash] && !used[hash] {
			_, err = tx.sql.Exec(`INSERT INTO crl_piece (issuer, hash, der) VALUES ($1, $2, $3)`, c.Issuer, p.hash[:], p.der)
			if err != nil {
				return engine.Error("store CRL piece", err)
			}
		}
		used[hash] = true
	}
	for _, hash := range stored {
		if used[string(hash)] {
			continue
		}
		_, err = tx.sql.Exec(`DELETE FROM crl_piece WHERE issuer = $1 AND hash = $2`, c.Issuer, hash)
		if err != nil {
			return engine.Error("drop CRL piece", err)
		}
	}
	return nil
}

// joinPart is how many entries of a CRL the engine joins in one, and those of the same
// transaction as the last of them.
var joinPart = 1 << 16

// boundary gives the time at which a part ends that begins after another.
func (tx *Tx) boundary(query, issuer string, after int64) (int64, error) {
	last := int64(math.MaxInt64)
	err := tx.sql.QueryRow(query, issuer, after, joinPart-1).Scan(&last)
	if errors.Is(err, pki.ErrNotFound) {
		err = nil
	}
	return last, engine.Error("find part", err)
}

// EachCRLEntries calls fn with the encoded entries of an issuer's revoked certificates that
// were still valid at notBefore, in the order of their revocation, n of them one after
// another; fn may not keep them. One that is dated forward is there from the first commit
// on that is not before its date.
func (tx *Tx) EachCRLEntries(issuer string, notBefore time.Time, fn func(entries []byte, n int)) error {
	after := int64(0)
	for {
		last, err := tx.boundary(`SELECT revoked_at FROM certificate WHERE issuer = $1 AND revoked_at > $2 AND revoked_at <> 0
			ORDER BY revoked_at LIMIT 1 OFFSET $3`, issuer, after)
		if err != nil {
			return err
		}
		var n int
		var part sql.RawBytes
		err = tx.sql.QueryRow(`SELECT COUNT(*), string_agg(entry, '') FROM (SELECT crl_entry AS entry FROM certificate
			WHERE issuer = $1 AND revoked_at > $2 AND revoked_at <= $3 AND revoked_at <> 0 AND not_after >= $4 AND effective_at <= $5
			ORDER BY revoked_at, serial) entries`, issuer, after, last, engine.Micros(notBefore), tx.sql.Last()).
			Look(func() { fn(part, n) }, &n, &part)
		if err != nil {
			return engine.Error("read CRL entries", err)
		}
		if last == math.MaxInt64 {
			return nil
		}
		after = last
	}
}

// CRLEntriesSince gives, one after another, the entries that CRLEntries would give of
// certificates that were revoked, or whose date came, at a time or later; none and false
// where they are more than a number.
func (tx *Tx) CRLEntriesSince(issuer string, since, notBefore time.Time, most int) ([]byte, bool, error) {
	var out []byte
	for _, text := range []string{
		`SELECT crl_entry FROM certificate WHERE issuer = $1 AND revoked_at >= $2 AND revoked_at <> 0
			AND not_after >= $3 AND effective_at <= $4 ORDER BY revoked_at, serial LIMIT $5`,
		`SELECT crl_entry FROM certificate WHERE issuer = $1 AND effective_at >= $2 AND effective_at > revoked_at AND revoked_at < $2
			AND not_after >= $3 AND effective_at <= $4 ORDER BY effective_at, serial LIMIT $5`,
	} {
		rows, err := tx.sql.Query(text, issuer, engine.Micros(since), engine.Micros(notBefore), tx.sql.Last(), most+1)
		if err != nil {
			return nil, false, engine.Error("read CRL entries", err)
		}
		entries, err := engine.Collect(rows, func(row engine.Scanner) ([]byte, error) {
			var entry []byte
			err := row.Scan(&entry)
			return entry, err
		})
		if err != nil || len(entries) > most {
			return nil, false, err
		}
		most -= len(entries)
		out = append(out, bytes.Join(entries, nil)...)
	}
	return out, true, nil
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
