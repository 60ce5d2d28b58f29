package ops_test

import (
	"slices"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// TestThreatAU2Journal compares the checkpoints of the signer's journal with the saved ones:
// whatever one of them lacks is told, but for what a death or a record explains.
func TestThreatAU2Journal(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		o := signedOffice(t, engine)
		var all []pki.Checkpoint
		catest.Must(t, o.DB.View(t.Context(), func(tx *store.Tx) error {
			var err error
			all, err = tx.Checkpoints(0, 100)
			return err
		}))
		if len(all) != 3 {
			t.Fatalf("%d checkpoints", len(all))
		}
		other := slices.Clone(all)
		other[1].Root[0] ^= 1
		next := append(slices.Clone(all), pki.Checkpoint{Number: 4, Size: 100})
		later := append(slices.Clone(next), pki.Checkpoint{Number: 5, Size: 101})
		for _, row := range []struct {
			name    string
			journal []pki.Checkpoint
			losses  []pki.Loss
			code    string
		}{
			{"the same", all, nil, ""},
			{"older parts are elsewhere", all[1:], nil, ""},
			{"the newest is not saved yet", next, nil, ""},
			{"two are not saved", later, nil, "audit.checkpoint_gone"},
			{"two are not saved, and a loss was accepted", later, []pki.Loss{{Kept: 3, Next: pki.Checkpoint{Number: 5}}}, ""},
			{"an empty journal", nil, nil, "signer.journal_behind"},
			{"the end of the journal is gone", all[:2], nil, "signer.journal_behind"},
			{"one of the journal is gone", []pki.Checkpoint{all[0], all[2]}, nil, "signer.journal_behind"},
			{"another tree", other, nil, "signer.journal_behind"},
		} {
			err := o.Ops.CompareJournal(t.Context(), row.journal, row.losses)
			if (err != nil) != (row.code != "") || err != nil && pki.CodeOf(err) != row.code {
				t.Errorf("%s: %v, want %q", row.name, err, row.code)
			}
		}
		o.Disarm()
		o.SQL(`DELETE FROM checkpoint WHERE number = 2`)
		catest.WantCode(t, o.Ops.CompareJournal(t.Context(), all, nil), "audit.checkpoint_gone")
	})
}
