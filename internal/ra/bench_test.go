package ra_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
			start, busy := o.DB.Stats(), processor(b)
			var next atomic.Int64
			b.SetParallelism(32) // times GOMAXPROCS
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := o.RA.IssueByGrant(b.Context(), catest.ByClient(client), client, calls[next.Add(1)-1])
					if err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64((processor(b)-busy).Microseconds())/float64(b.N), "processor-µs/certificate")
			s := o.DB.Stats()
			b.ReportMetric(float64(s.Statements-start.Statements)/float64(b.N), "statements/certificate")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
			b.ReportMetric(float64(s.Closures-start.Closures)/float64(s.Commits-start.Commits), "closures/commit")
		})
	}
}

// processor is the time that this process has had of the processor. Beside other work
// on the machine it says more than the clock.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
