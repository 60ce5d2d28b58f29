package store_test

import (
	"errors"
	"slices"
	"testing"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// Request IDs of one batch are drawn from memory; they are without gaps or doubles all
// the same, whoever fails beside them and however many nodes draw.
func TestRequestIDsOfABatch(t *testing.T) {
	boom := errors.New("boom")
	fails := func(round, i int) bool { return round == 1 && i%10 == 7 }
	const all = 2*30 + 2*27
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			dsn := storetest.Migrated(t, engine)
			var ids []string
			for round := range 2 { // in the first all succeed
				for _, db := range []*store.DB{storetest.Open(t, dsn, nil), storetest.Open(t, dsn, nil)} {
					drawn := make([]string, 30)
					var fns []func(*store.Tx) error
					for i := range drawn {
						fns = append(fns, func(tx *store.Tx) error {
							var err error
							drawn[i], err = tx.NextRequestID()
							if fails(round, i) {
								drawn[i], err = "", boom
							}
							return err
						})
					}
					for i, err := range together(t, db, fns...) {
						if (err != nil) != fails(round, i) {
							t.Errorf("closure %d: %v", i, err)
						}
					}
					ids = append(ids, slices.DeleteFunc(drawn, func(id string) bool { return id == "" })...)
				}
			}
			slices.Sort(ids)
			if distinct := len(slices.Compact(slices.Clone(ids))); distinct != all || len(ids) != all {
				t.Fatalf("%d IDs, %d of them distinct: %v", len(ids), distinct, ids)
			}
			var n int64
			err := storetest.Open(t, dsn, nil).View(t.Context(), func(tx *store.Tx) error {
				var err error
				n, err = tx.Int(`SELECT SUM(last) FROM day_sequence`)
				return err
			})
			if err != nil || n != all {
				t.Errorf("%d numbers were drawn for %d requests, %v", n, len(ids), err)
			}
		})
	}
}
