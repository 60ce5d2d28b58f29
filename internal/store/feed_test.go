package store_test

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"inkan/internal/store"
	"inkan/internal/store/audit"
	"inkan/internal/store/storetest"
)

// Threat ST7: who follows the feed reads exactly what was committed, in order.
func TestThreatST7FeedIsGapFreeAndInOrder(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			dsn := storetest.Migrated(t, engine)
			dbs := []*store.DB{storetest.Open(t, dsn, nil), storetest.Open(t, dsn, nil)}
			const writers, each = 50, 8
			type key struct {
				index int64
				leaf  [32]byte
			}
			var mu sync.Mutex
			committed := map[string]key{}
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						subject := fmt.Sprintf("%d-%d", w, i)
						fails := (w+i)%5 == 0
						var k key
						err := dbs[w%2].Update(context.Background(), func(tx *store.Tx) error {
							var err error
							k.index, k.leaf, err = tx.Audit(actor, "thing.made", subject, i)
							if mathrand.IntN(4) == 0 {
								time.Sleep(time.Duration(mathrand.IntN(1000)) * time.Microsecond)
							}
							if fails {
								return errors.New("changed my mind")
							}
							return err
						})
						if (err != nil) != fails {
							t.Errorf("%s: %v", subject, err)
						}
						if err == nil {
							mu.Lock()
							committed[subject] = k
							mu.Unlock()
						}
						time.Sleep(time.Duration(mathrand.IntN(1000)) * time.Microsecond)
					}
				})
			}
			over := make(chan struct{})
			go func() { wg.Wait(); close(over) }()
			var seen []audit.AuditRecord
			cursor := int64(-1)
			for last := false; ; {
				var page []audit.AuditRecord
				err := dbs[0].View(t.Context(), func(tx *store.Tx) error {
					var err error
					page, err = storetest.Records(tx, cursor+1)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					if r.Index != cursor+1 {
						t.Fatalf("index %d after %d", r.Index, cursor)
					}
					if len(seen) > 0 && r.At.Before(seen[len(seen)-1].At) {
						t.Errorf("record %d is older than the one before", r.Index)
					}
					cursor = r.Index
					seen = append(seen, r)
				}
				if len(page) == 0 {
					if last {
						break
					}
					select {
					case <-over:
						last = true
					case <-time.After(time.Millisecond):
					}
				}
			}
			if len(seen) != len(committed) {
				t.Errorf("%d records read, %d committed", len(seen), len(committed))
			}
			for _, r := range seen {
				k, ok := committed[r.Subject]
				if !ok || k.index != r.Index {
					t.Errorf("%s read at %d, committed %v at %d", r.Subject, r.Index, ok, k.index)
				}
			}
			verifyClean(t, dbs[1], 0)
			for i, db := range dbs {
				s := db.Stats()
				t.Logf("handle %d: %d closures in %d commits", i, s.Closures, s.Commits)
				if s.Closures == 0 {
					t.Errorf("handle %d never had its turn", i)
				}
			}
		})
	}
}

func TestTwoHandlesFiftyWriters(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			dsn := storetest.Migrated(t, engine)
			dbs := []*store.DB{storetest.Open(t, dsn, nil), storetest.Open(t, dsn, nil)}
			withTable(t, dbs[0])
			err := dbs[0].Update(t.Context(), add("counter", 0))
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for w := range 50 {
				wg.Go(func() {
					for range 10 {
						err := dbs[w%2].Update(context.Background(), func(tx *store.Tx) error { // read, then write what was read
							n, err := tx.Int(`SELECT n FROM thing WHERE id = 'counter'`)
							if err != nil {
								return err
							}
							_, err = tx.Exec(`UPDATE thing SET n = $1 WHERE id = 'counter'`, n+1)
							return err
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			err = dbs[0].View(t.Context(), func(tx *store.Tx) error {
				n, err := tx.Int(`SELECT n FROM thing WHERE id = 'counter'`)
				if n != 500 {
					t.Errorf("counter is %d, want 500: updates were lost", n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
