package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// INKAN_TEST_FSYNC=1 go test -run - -bench . ./internal/store
func BenchmarkAuditedInsert(b *testing.B) {
	for _, engine := range storetest.Engines {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/clients=%d", engine, clients), func(b *testing.B) {
				db := storetest.Open(b, storetest.Migrated(b, engine), nil)
				withTable(b, db)
				var id atomic.Int64
				payload := make([]byte, 1200)
				start := db.Stats()
				b.SetParallelism(clients) // times GOMAXPROCS
				b.ReportAllocs()
				b.ResetTimer()
				one := func() {
					n := id.Add(1)
					err := db.Update(context.Background(), func(tx *store.Tx) error {
						_, err := tx.Exec(`INSERT INTO thing (id, n, raw) VALUES ($1, $2, $3)`, fmt.Sprint("thing-", n), n, payload)
						if err != nil {
							return err
						}
						_, _, err = tx.Audit(actor, "thing.made", fmt.Sprint("thing-", n), map[string]any{"n": n, "payload": "0123456789abcdef"})
						return err
					})
					if err != nil {
						b.Error(err)
					}
				}
				if clients == 1 {
					for b.Loop() {
						one()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							one()
						}
					})
				}
				b.StopTimer()
				s := db.Stats()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(float64(s.Closures-start.Closures)/float64(s.Commits-start.Commits), "rows/commit")
			})
		}
	}
}

func BenchmarkView(b *testing.B) {
	for _, engine := range storetest.Engines {
		b.Run(engine, func(b *testing.B) {
			db := storetest.Open(b, storetest.Migrated(b, engine), nil)
			appendRecords(b, db, 1000)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					err := db.View(b.Context(), func(tx *store.Tx) error {
						_, err := tx.AuditRecord(500)
						return err
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	db := storetest.SQLite(b)
	for range 10 {
		appendRecords(b, db, 2000)
	}
	b.ResetTimer()
	for b.Loop() {
		verifyClean(b, db, 0)
	}
	b.ReportMetric(20000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
