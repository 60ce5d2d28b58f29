package catest

import (
	"errors"
	"sync"

	"inkan/internal/pki"
)

// Steps are the things that an office has others do, in the order in which they come:
// every COMMIT of its database and every call of its signer. One of them can be made
// to fail: before it takes effect, or with the answer lost though it did.
type Steps struct {
	mu    sync.Mutex
	names []string
	at    int // the step to come that fails, from 1; 0: none
	when  When
}

var (
	errAway = pki.E(pki.Busy, "signer.away")
	errCut  = errors.New("connection to the database lost")
)

// Fail lets the n-th step from now fail, counted from 0.
func (s *Steps) Fail(n int, when When) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names, s.at, s.when = nil, n+1, when
}

// Taken lists the steps since the last call of Fail or Taken, and says whether what
// was to fail is still to come.
func (s *Steps) Taken() ([]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, pending := s.names, s.at > 0
	s.names, s.at = nil, 0
	return names, pending
}

func (s *Steps) commit(do func() error) error { return s.take("COMMIT", errCut, do) }

func (s *Steps) take(name string, failure error, do func() error) error {
	s.mu.Lock()
	s.names = append(s.names, name)
	fails := s.at == 1
	s.at = max(0, s.at-1)
	when := s.when
	s.mu.Unlock()
	if fails && when == Before {
		return failure
	}
	err := do()
	if fails && err == nil {
		return failure
	}
	return err
}
