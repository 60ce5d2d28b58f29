package ops

import (
	"context"
	"errors"

	"inkan/internal/pki"
	"inkan/internal/store/audit"
)

// ProveRecord gives an auditor a record of the audit tree, with the proof that it is in the
// newest checkpoint, for which the signer is asked first. audit.no_record: there is none.
func (s *Service) ProveRecord(ctx context.Context, by pki.Actor, index int64) (audit.Proof, error) {
	err := by.Need(pki.MayReadAudit)
	if err != nil {
		return audit.Proof{}, err
	}
	err = s.Checkpoint(ctx)
	if err != nil {
		return audit.Proof{}, err
	}
	p, err := s.DB.ProveAudit(ctx, index)
	if errors.Is(err, pki.ErrNotFound) {
		return p, pki.E(pki.NotFound, "audit.no_record").With("Index", index)
	}
	return p, err
}
