package signer

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkStart opens the journal of a signer that signed so many certificates, all of
// them within a day, which is the worst: a head then carries a quarter of a million.
func BenchmarkStart(b *testing.B) {
	for name, certificates := range map[string]int64{"10k": 10_000, "1M": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			const batch = 250
			book, dir := newLogbook(b)
			began := time.Now()
			for n := int64(0); n < certificates; n += batch {
				records := make([]record, batch)
				for i := range records {
					records[i] = signed(n + int64(i))
					records[i].At = 1_800_000_000
				}
				book.note(b, records...)
			}
			check(b, book.close())
			writing := time.Since(began)
			b.ResetTimer()
			for b.Loop() {
				book, err := openLogbook(b, dir)
				check(b, err)
				check(b, book.close())
			}
			info, err := os.Stat(filepath.Join(dir, journalName))
			check(b, err)
			b.ReportMetric(float64(info.Size())/1e6, "MB-read")
			b.ReportMetric(float64(certificates)/writing.Seconds(), "written/s")
			b.ReportMetric(float64(book.number), "segments")
		})
	}
}
