//go:build unix

package engine

import (
	"os"
	"syscall"
	"time"
)

// turn makes processes on one SQLite file take turns. SQLite's write lock goes to
// whoever asks at the right moment, so a busy server starves a command beside it.
// Who wants to write holds the turn while it waits for the write lock: the process
// that just committed has to queue behind it.
//
// It is about fairness alone; correctness is SQLite's own lock. So a turn that
// cannot be had in time is no error.
type turn struct{ f *os.File }

func openTurn(path string) (*turn, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &turn{f}, nil
}

func (t *turn) take() {
	if t == nil {
		return
	}
	for wait := 250 * time.Microsecond; wait < time.Second; wait += wait / 8 {
		err := syscall.Flock(int(t.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return
		}
		time.Sleep(min(wait, 20*time.Millisecond))
	}
}

func (t *turn) pass() {
	if t != nil {
		_ = syscall.Flock(int(t.f.Fd()), syscall.LOCK_UN)
	}
}

func (t *turn) close() {
	if t != nil {
		_ = t.f.Close()
	}
}
