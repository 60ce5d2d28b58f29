package ra_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store/storetest"
)

// INKAN_TEST_FSYNC=1 go test -run - -bench IssueByGrant ./internal/ra
//
// Everything of an issue but TLS and HTTP; edge and signer share the process.
func BenchmarkIssueByGrant(b *testing.B) {
	for _, engine := range storetest.Engines {
		b.Run(engine, func(b *testing.B) {
			o := catest.New(b, catest.Options{Engine: engine})
			client := o.Client("vendor")
			o.Grant(pki.Grant{ClientID: client.ID, PerDay: 10_000_000, Total: 10_000_000})
			calls := make([]ra.APIRequest, b.N)
			for i := range calls {
				calls[i] = o.Call(fmt.Sprint(i), catest.Holder(1))
			}
			start := o.DB.Stats()
			var next atomic.Int64
			b.SetParallelism(32) // times GOMAXPROCS
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := o.RA.IssueByGrant(b.Context(), client, calls[next.Add(1)-1])
					if err != nil {
						b.Error(err)
					}
				}
			})
			s := o.DB.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
			b.ReportMetric(float64(s.Closures-start.Closures)/float64(s.Commits-start.Commits), "closures/commit")
		})
	}
}
