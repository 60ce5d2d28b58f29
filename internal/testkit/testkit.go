// Package testkit gives the tests of every package the small things that many of them
// need: the end of a test on an error, the wait for something, programs of other makers,
// files, free ports, keys and certificates, a log and a clock.
//
// It owns whether a test may be left out: only Tool, Missing, Long and Asked skip one. It
// owns nothing of the domain and imports nothing of ours: helpers that know a package
// live in that package's own kit (pkitest, storetest, keystoretest, catest). Program code
// must not import it.
package testkit

import (
	"testing"
	"time"
)

// Patience is how long a test waits for something before it says that it will not happen.
// How long that takes is no part of a test, and the machine may be busy.
const Patience = time.Minute

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Await waits until something is so.
func Await(t testing.TB, what string, is func() bool) {
	t.Helper()
	if !Soon(is) {
		t.Fatalf("%s: not within %s", what, Patience)
	}
}

// Soon waits until something is so, and says whether it became so. It is for those who
// have no test to end.
func Soon(is func() bool) bool {
	pause := 2 * time.Millisecond
	for end := time.Now().Add(Patience); !is(); time.Sleep(pause) {
		if time.Now().After(end) {
			return false
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
	return true
}
