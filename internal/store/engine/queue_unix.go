//go:build unix

package engine

import (
	"os"
	"syscall"
	"time"
)

// queue has processes on one SQLite file write one after another. SQLite's write lock goes to
// whoever asks at the right moment, so a busy server starves a command beside it.
// Who wants to write is the head of the queue while it waits for the write lock: the process
// that just committed has to queue behind it.
//
// It is about fairness alone; correctness is SQLite's own lock. So a place that
// cannot be had in time is no error.
type queue struct{ f *os.File }

func openQueue(path string) (*queue, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &queue{f}, nil
}

func (q *queue) take() {
	if q == nil {
		return
	}
	for wait := 250 * time.Microsecond; wait < time.Second; wait += wait / 8 {
		err := syscall.Flock(int(q.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return
		}
		time.Sleep(min(wait, 20*time.Millisecond))
	}
}

func (q *queue) pass() {
	if q != nil {
		_ = syscall.Flock(int(q.f.Fd()), syscall.LOCK_UN)
	}
}

func (q *queue) close() {
	if q != nil {
		_ = q.f.Close()
	}
}
