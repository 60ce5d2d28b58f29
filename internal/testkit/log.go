package testkit

import (
	"bytes"
	"log/slog"
	"sync"
)

// Log keeps what was logged. Its zero value is ready.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write takes a line.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String gives all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Logger writes text into the log.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Quiet is a logger that keeps nothing.
var Quiet = slog.New(slog.DiscardHandler)
