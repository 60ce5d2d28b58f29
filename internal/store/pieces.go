package store

import (
	"context"
	"database/sql"
	"fmt"

	"inkan/internal/store/engine"
)

// toPieces is migration 15: a CRL is kept in pieces (ADR 165), and what is revoked with
// a date to come is found by its date.
func toPieces(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, `SELECT issuer, number, this_update, der FROM crl`)
	if err != nil {
		return fmt.Errorf("read CRLs: %w", err)
	}
	lists, err := engine.Collect(rows, func(row engine.Scanner) (CRL, error) {
		var c CRL
		var this int64
		err := row.Scan(&c.Issuer, &c.Number, &this, &c.DER)
		c.Compared = engine.FromMicros(this)
		return c, err
	})
	if err != nil {
		return err
	}
	do := func(text string, args ...any) {
		if err == nil {
			_, err = tx.ExecContext(ctx, text, args...)
		}
	}
	do(`CREATE INDEX certificate_dated ON certificate (issuer, effective_at) WHERE effective_at > revoked_at`)
	do(`CREATE TABLE crl_piece (issuer TEXT NOT NULL, hash BYTEA NOT NULL, der BYTEA NOT NULL, PRIMARY KEY (issuer, hash))`)
	do(`ALTER TABLE crl DROP COLUMN der`)
	do(`ALTER TABLE crl ADD COLUMN compared_at BIGINT NOT NULL DEFAULT 0`)
	do(`ALTER TABLE crl ADD COLUMN octets BIGINT NOT NULL DEFAULT 0`)
	do(`ALTER TABLE crl ADD COLUMN pieces BYTEA`)
	for _, c := range lists {
		c.Cut()
		do(`UPDATE crl SET compared_at = $1, octets = $2, pieces = $3 WHERE issuer = $4 AND number = $5`,
			engine.Micros(c.Compared), len(c.DER), c.hashes(), c.Issuer, c.Number)
		for _, p := range c.pieces {
			do(`INSERT INTO crl_piece (issuer, hash, der) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, c.Issuer, p.hash[:], p.der)
		}
	}
	if err != nil {
		return fmt.Errorf("divide CRLs: %w", err)
	}
	return nil
}
