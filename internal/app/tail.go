package app

import (
	"context"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// checkTail refuses to serve on an audit tree that is smaller than one whose checkpoint
// the signer has signed: its tail was cut off, or an older database was put in its place
// without a restore (threat AU2).
func (i *instance) checkTail(ctx context.Context) error {
	info, err := i.signer.Info(ctx)
	if err != nil {
		return err
	}
	return i.db.View(ctx, func(tx *store.Tx) error {
		size, _, err := tx.AuditTree()
		if err == nil && size < info.HighWater.TreeSize {
			err = pki.E(pki.Conflict, "audit.tail").With("Size", size).With("HighWater", info.HighWater.TreeSize)
		}
		return err
	})
}
