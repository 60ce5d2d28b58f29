package app

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// What may gather between two collections of garbage, at least. Each request leaves a
// tenth of a megabyte behind, and little of the memory lives on: with the library's
// rule, as much again as lives, a busy process of a small instance would collect many
// times a second. In a large one most of what lives is status and lists, in which the
// collector has nothing to look at: it runs cheaply, and a quarter of them may gather.
const (
	edgeHeadroom   = 40 << 20
	signerHeadroom = 16 << 20
	headroomCheck  = 10 * time.Second
)

// keepHeadroom sets the pace of the collector until the context ends. Who set GOGC
// knows better.
func keepHeadroom(ctx context.Context, room uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		runtimemetrics.Read(live)
		debug.SetGCPercent(int(max(25, 100*room/max(live[0].Value.Uint64(), 1<<20))))
		select {
		case <-ctx.Done():
			return
		case <-time.After(headroomCheck):
		}
	}
}
