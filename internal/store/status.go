package store

import (
	"errors"
	"math"
	"time"

	"inkan/internal/pki"
)

// StatusRow is what status answers need of a certificate.
type StatusRow struct {
	Serial    string
	Issuer    string
	Revoked   time.Time // zero: good
	Effective time.Time
	Reason    pki.Reason
	Invalid   time.Time // since then; zero: nobody said so
}

// Committed is the time of the last transaction that this one's snapshot holds. What
// is committed later has a later Now, whatever the clock of its node says, so that
// everything that bears a time up to it is known (threat ST6).
func (tx *Tx) Committed() time.Time { return fromMicros(tx.last) }

// joinPart is how many values the engine joins in one text, and those of the same
// transaction as the last of them: a million rows handed over one by one would take
// seconds.
var joinPart = 1 << 16

// EachSerials calls fn with the serials of an issuer, many in one text with commas
// between, from an index of their own.
func (tx *Tx) EachSerials(issuer string, fn func(serials string) error) error {
	after := int64(-1)
	for {
		last, err := tx.boundary(`SELECT issued_at FROM certificate WHERE issuer = $1 AND issued_at > $2 ORDER BY issued_at LIMIT 1 OFFSET $3`, issuer, after)
		if err != nil {
			return err
		}
		var serials string
		err = tx.queryRow(`SELECT COALESCE(string_agg(serial, ','), '') FROM certificate WHERE issuer = $1 AND issued_at > $2 AND issued_at <= $3`,
			issuer, after, last).Scan(&serials)
		if err == nil && serials != "" {
			err = fn(serials)
		}
		if err != nil || last == math.MaxInt64 {
			return dbError("read serials", err)
		}
		after = last
	}
}

// boundary gives the time at which a part ends that begins after another.
func (tx *Tx) boundary(query, issuer string, after int64) (int64, error) {
	last := int64(math.MaxInt64)
	err := tx.queryRow(query, issuer, after, joinPart-1).Scan(&last)
	if errors.Is(err, pki.ErrNotFound) {
		err = nil
	}
	return last, dbError("find part", err)
}

const statusColumns = `c.serial, c.issuer, c.revoked_at, c.effective_at, c.reason, c.invalid_since`

// EachRevoked calls fn for every certificate that is revoked or on hold.
func (tx *Tx) EachRevoked(fn func(StatusRow) error) error {
	rows, err := tx.query(`SELECT ` + statusColumns + ` FROM certificate c WHERE c.revoked_at <> 0`)
	if err != nil {
		return dbError("read revocations", err)
	}
	defer rows.Close()
	for rows.Next() {
		var s StatusRow
		var revoked, effective, invalid int64
		err = rows.Scan(&s.Serial, &s.Issuer, &revoked, &effective, &s.Reason, &invalid)
		if err != nil {
			return dbError("scan status row", err)
		}
		s.Revoked, s.Effective, s.Invalid = fromMicros(revoked), fromMicros(effective), fromMicros(invalid)
		err = fn(s)
		if err != nil {
			return err
		}
	}
	return dbError("read revocations", rows.Err())
}

// StatusFeed gives the present status of the certificates that the audit records from
// one index up to, not including, another tell of, and whether a CRL was published.
func (tx *Tx) StatusFeed(from, to int64) ([]StatusRow, bool, error) {
	rows, err := tx.query(`SELECT a.kind, COALESCE(c.serial, ''), COALESCE(c.issuer, ''), COALESCE(c.revoked_at, 0), COALESCE(c.effective_at, 0),
		COALESCE(c.reason, 0), COALESCE(c.invalid_since, 0) FROM audit a LEFT JOIN certificate c ON c.serial = a.subject WHERE a.idx >= $1 AND a.idx < $2
		AND a.kind IN ('crl.published', 'certificate.issued', 'certificate.revoked', 'certificate.lifted') ORDER BY a.idx`, from, to)
	if err != nil {
		return nil, false, dbError("read status feed", err)
	}
	defer rows.Close()
	var out []StatusRow
	published := false
	for rows.Next() {
		var s StatusRow
		var kind string
		var revoked, effective, invalid int64
		err = rows.Scan(&kind, &s.Serial, &s.Issuer, &revoked, &effective, &s.Reason, &invalid)
		if err != nil {
			return nil, false, dbError("scan status feed", err)
		}
		s.Revoked, s.Effective, s.Invalid = fromMicros(revoked), fromMicros(effective), fromMicros(invalid)
		if s.Serial != "" {
			out = append(out, s)
		}
		published = published || kind == "crl.published"
	}
	return out, published, dbError("read status feed", rows.Err())
}
