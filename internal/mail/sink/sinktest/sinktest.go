// Package sinktest starts the mail catcher for tests that look at what was mailed.
//
// It owns the catcher's start and end. It does not own what is sent. Program code must
// not import it.
package sinktest

import (
	"testing"
	"time"

	"inkan/internal/mail/sink"
	"inkan/internal/testkit"
)

// Start starts a catcher, and gives it with the address at which it takes mails. It ends
// with the test.
func Start(t testing.TB) (*sink.Sink, string) {
	t.Helper()
	s := sink.New(time.Now, testkit.Quiet)
	l := testkit.Listen(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		testkit.Must(t, s.Close())
		testkit.Must(t, <-done)
	})
	return s, l.Addr().String()
}
