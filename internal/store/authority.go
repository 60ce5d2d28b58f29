package store

import (
	"context"
	"database/sql"
	"fmt"
)

// The conditions of the table revocation that say who undoes a case (ADR 170).
const (
	undoneByOthers = `CHECK (proposed_by = '' OR proposed_by <> asked_by),
  CHECK (state NOT IN ('rejected', 'lifted') OR (proposed_by <> '' AND decided_by NOT IN ('', proposed_by, asked_by))),`
	undoneByTwo = `CONSTRAINT revocation_first CHECK (proposed_by = '' OR proposed_by <> asked_by OR proof IN ('officer', 'chain')),
  CONSTRAINT revocation_second CHECK (state NOT IN ('rejected', 'lifted') OR (proposed_by <> '' AND decided_by NOT IN ('', proposed_by)
    AND (decided_by <> asked_by OR proof IN ('officer', 'chain')))),`
)

// authoritySQL is for PostgreSQL, which can exchange a condition.
var authoritySQL = []string{
	`ALTER TABLE revocation DROP CONSTRAINT revocation_check`,
	`ALTER TABLE revocation DROP CONSTRAINT revocation_check1`,
	`ALTER TABLE revocation ADD CONSTRAINT revocation_first CHECK (proposed_by = '' OR proposed_by <> asked_by OR proof IN ('officer', 'chain'))`,
	`ALTER TABLE revocation ADD CONSTRAINT revocation_second CHECK (state NOT IN ('rejected', 'lifted') OR (proposed_by <> ''
		AND decided_by NOT IN ('', proposed_by) AND (decided_by <> asked_by OR proof IN ('officer', 'chain'))))`,
}

// toAuthority is migration 19, before its guards: two officers undo what an officer said,
// and the register of keys has the keys of our own certificates, too.
func toAuthority(ctx context.Context, tx *sql.Tx, engine string) error {
	texts := authoritySQL
	if engine != PostgreSQL {
		texts = nil
		err := rebuild(ctx, tx, "revocation", undoneByOthers, undoneByTwo)
		if err != nil {
			return fmt.Errorf("build table revocation anew: %w", err)
		}
	}
	texts = append(texts[:len(texts):len(texts)], `INSERT INTO public_key (spki_sha256, owner)
		SELECT spki_sha256, 'certificate/' || serial FROM certificate WHERE request = '' ON CONFLICT DO NOTHING`)
	for _, text := range texts {
		_, err := tx.ExecContext(ctx, text)
		if err != nil {
			return fmt.Errorf("change schema: %w", err)
		}
	}
	return nil
}
