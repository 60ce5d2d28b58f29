package store

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
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
func (tx *Tx) Committed() time.Time { return engine.FromMicros(tx.sql.Last()) }

// partRecords is how many audit records are of the time in which a part of what is read
// at a start came to be. The engine joins a part in one text: a million rows handed over
// one by one would take seconds.
var partRecords = int64(1 << 18)

// eachPart calls fn with one stretch of time after another, all together the whole: after
// one time, up to and including another. Every change has its record in the same
// transaction, so that a stretch has no more changes than records; should records be
// damaged or lost, the stretches are others, and still the whole.
func (tx *Tx) eachPart(fn func(after, to int64) error) error {
	size, _, err := tx.AuditTree()
	if err != nil {
		return err
	}
	after := int64(math.MinInt64)
	for index := partRecords; index < size; index += partRecords {
		to := after
		err := tx.sql.QueryRow(`SELECT at FROM audit WHERE idx >= $1 ORDER BY idx LIMIT 1`, index).Scan(&to)
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return engine.Error("find part", err)
		}
		if to <= after {
			continue
		}
		err = fn(after, to)
		if err != nil {
			return err
		}
		after = to
	}
	return fn(after, math.MaxInt64)
}

// EachSerials calls fn with the serials of some issuers, many of one issuer in one text
// with commas between, from an index of their own.
func (tx *Tx) EachSerials(issuers []string, fn func(issuer int, serials string) error) error {
	return tx.eachPart(func(after, to int64) error {
		return tx.join(issuers, `SELECT COALESCE(string_agg(serial, ','), '') FROM certificate
			WHERE issuer = $1 AND issued_at > $2 AND issued_at <= $3`, after, to, fn)
	})
}

// join calls fn with what the engine joins for each issuer, if it is anything.
func (tx *Tx) join(issuers []string, query string, after, to int64, fn func(issuer int, text string) error) error {
	for n, issuer := range issuers {
		var text string
		err := tx.sql.QueryRow(query, issuer, after, to).Scan(&text)
		if err == nil && text != "" {
			err = fn(n, text)
		}
		if err != nil {
			return engine.Error("read status", err)
		}
	}
	return nil
}

// EachRevoked calls fn for every certificate of some issuers that is revoked or on hold.
func (tx *Tx) EachRevoked(issuers []string, fn func(StatusRow) error) error {
	return tx.eachPart(func(after, to int64) error {
		return tx.join(issuers, `SELECT COALESCE(string_agg(serial || ' ' || revoked_at || ' ' || effective_at || ' ' || reason || ' ' || invalid_since, ','), '')
			FROM certificate WHERE issuer = $1 AND revoked_at > $2 AND revoked_at <= $3 AND revoked_at <> 0`, after, to, func(issuer int, text string) error {
			for one := range strings.SplitSeq(text, ",") {
				row, err := readRevoked(one)
				if err != nil {
					return err
				}
				row.Issuer = issuers[issuer]
				err = fn(row)
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// readRevoked reads what EachRevoked has the engine join of one certificate.
func readRevoked(text string) (StatusRow, error) {
	serial, rest, _ := strings.Cut(text, " ")
	var numbers [4]int64
	for n := range numbers {
		var one string
		var err error
		one, rest, _ = strings.Cut(rest, " ")
		numbers[n], err = strconv.ParseInt(one, 10, 64)
		if err != nil {
			return StatusRow{}, fmt.Errorf("read revocation %q: %w", text, err)
		}
	}
	return StatusRow{Serial: serial, Revoked: engine.FromMicros(numbers[0]), Effective: engine.FromMicros(numbers[1]), Reason: pki.Reason(numbers[2]),
		Invalid: engine.FromMicros(numbers[3])}, nil
}

// StatusFeed gives the present status of the certificates that the audit records from
// one index up to, not including, another tell of, and whether a CRL was published.
func (tx *Tx) StatusFeed(from, to int64) ([]StatusRow, bool, error) {
	rows, err := tx.sql.Query(`SELECT a.kind, COALESCE(c.serial, ''), COALESCE(c.issuer, ''), COALESCE(c.revoked_at, 0), COALESCE(c.effective_at, 0),
		COALESCE(c.reason, 0), COALESCE(c.invalid_since, 0) FROM audit a LEFT JOIN certificate c ON c.serial = a.subject WHERE a.idx >= $1 AND a.idx < $2
		AND a.kind IN ('crl.published', 'certificate.issued', 'certificate.revoked', 'certificate.lifted') ORDER BY a.idx`, from, to)
	if err != nil {
		return nil, false, engine.Error("read status feed", err)
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
			return nil, false, engine.Error("scan status feed", err)
		}
		s.Revoked, s.Effective, s.Invalid = engine.FromMicros(revoked), engine.FromMicros(effective), engine.FromMicros(invalid)
		if s.Serial != "" {
			out = append(out, s)
		}
		published = published || kind == "crl.published"
	}
	return out, published, engine.Error("read status feed", rows.Err())
}
