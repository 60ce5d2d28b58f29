package ops

import (
	"context"
	"errors"
	"strings"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// definitions compares the definitions of the database.
func (s *Service) definitions(ctx context.Context, c *comparison) error {
	found, err := s.DB.CompareDefinitions(ctx)
	if errors.Is(err, store.ErrNoScratch) {
		c.list(Deviation{Key: "definitions", What: Unchecked})
		return nil
	}
	for _, d := range found {
		c.list(Deviation{Table: d.Table, Key: nameOf(d), What: d.What})
	}
	return err
}

func nameOf(d store.Difference) string {
	return d.Kind + " " + strings.TrimSuffix(d.Name, "()")
}

// RestoreGuards makes guards of the database anew that are missing, changed or disabled,
// and names them; the audit record guards.made_anew does, too. Other definitions it
// leaves as they are: what is stored may contradict them.
func (s *Service) RestoreGuards(ctx context.Context) ([]string, error) {
	found, err := s.DB.CompareDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range found {
		if d.Guard() {
			names = append(names, nameOf(d))
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(pki.System("migrate"), "guards.made_anew", "guards", map[string]any{"guards": names})
		if err != nil {
			return err
		}
		return tx.MakeGuards(found)
	})
	return names, err
}
