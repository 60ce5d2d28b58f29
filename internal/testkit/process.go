package testkit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Pause stops a process, and waits until every thread of it stands. A busy machine may
// let one go on for a while after the signal was sent.
func Pause(t testing.TB, pid int) {
	t.Helper()
	Must(t, syscall.Kill(pid, syscall.SIGSTOP))
	Await(t, "process that stands", func() bool { return stands(pid) })
}

func stands(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // a good pattern
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(" "))
		if !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(threads) > 0
}
