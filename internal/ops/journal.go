package ops

import (
	"context"
	"encoding/json"
	"slices"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// CompareJournal compares the checkpoints that the signer's journal tells of, by number,
// with the saved ones, in both directions. signer.journal_behind: a saved one is not in the
// journal, whose end is missing or which is an older one. audit.checkpoint_gone: one of
// the journal is not saved. The newest may not be saved yet; what an accepted loss or a
// record signer.set_back explains is no difference.
func (s *Service) CompareJournal(ctx context.Context, journal []pki.Checkpoint, losses []pki.Loss) error {
	first, newest := int64(1), int64(0) // nothing was signed: nothing may be saved
	if len(journal) > 0 {
		first, newest = journal[0].Number, journal[len(journal)-1].Number
	}
	return s.DB.View(ctx, func(tx *store.Tx) error {
		forgotten, err := setBacks(tx)
		if err != nil {
			return err
		}
		explained := func(number int64) bool {
			return slices.ContainsFunc(losses, func(l pki.Loss) bool { return l.Kept < number && number < l.Next.Number }) ||
				slices.ContainsFunc(forgotten, func(b setBack) bool { return b.Remembered.Number < number && number <= b.Signed.Number })
		}
		for after := first - 1; ; {
			saved, err := tx.Checkpoints(after, page)
			if err != nil {
				return err
			}
			for _, c := range saved {
				for len(journal) > 0 && journal[0].Number < c.Number {
					if !explained(journal[0].Number) {
						return pki.E(pki.Conflict, "audit.checkpoint_gone").With("Number", journal[0].Number)
					}
					journal = journal[1:]
				}
				same := len(journal) > 0 && journal[0].Same(c)
				if !same && !explained(c.Number) {
					return pki.E(pki.Conflict, "signer.journal_behind").With("Number", c.Number)
				}
				if same {
					journal = journal[1:]
				}
				after = c.Number
			}
			if len(saved) < page {
				break
			}
		}
		for _, c := range journal {
			if c.Number < newest && !explained(c.Number) {
				return pki.E(pki.Conflict, "audit.checkpoint_gone").With("Number", c.Number)
			}
		}
		return nil
	})
}

// setBacks lists what records say of a signer that was set back.
func setBacks(tx *store.Tx) ([]setBack, error) {
	records, err := tx.AuditAbout("signer", 1000)
	if err != nil {
		return nil, err
	}
	var out []setBack
	for _, r := range records {
		var b setBack
		if r.Kind == "signer.set_back" && json.Unmarshal(r.Body, &b) == nil {
			out = append(out, b)
		}
	}
	return out, nil
}
