package keystore

import (
	"context"
	"fmt"
	"sync"

	"inkan/internal/pki"
)

// How many certificates one call of the signer carries at most, and how many such calls
// are made at once. A token may need a tenth of a second for each: together they stay
// far below callTimeout.
const (
	maxGroup   = 32
	maxFlights = 2
)

// group sends what waits for signatures in common calls, as the database's writer does:
// a call costs both processes more than half of what a signature costs.
type group struct {
	call func([]SignRequest) ([]SignResult, error)

	mu      sync.Mutex
	waiting []*signing
	flights int
}

type signing struct {
	request SignRequest
	result  SignResult
	err     error
	done    chan struct{}
}

// sign waits for one signature.
func (g *group) sign(ctx context.Context, r SignRequest) (SignResult, error) {
	s := &signing{request: r, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, s)
	if g.flights < maxFlights {
		g.flights++
		go g.fly()
	}
	g.mu.Unlock()
	select {
	case <-s.done:
		return s.result, s.err
	case <-ctx.Done():
		return SignResult{}, fmt.Errorf("call signer: %w", ctx.Err())
	}
}

// fly makes calls until nobody waits.
func (g *group) fly() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), maxGroup)
		if n == 0 {
			g.flights--
			g.mu.Unlock()
			return
		}
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		g.mu.Unlock()
		g.land(batch)
	}
}

// land makes a call and answers everybody. An error that is not the signer's absence
// may be about one of them: then each is asked for alone.
func (g *group) land(batch []*signing) {
	requests := make([]SignRequest, len(batch))
	for i, s := range batch {
		requests[i] = s.request
	}
	results, err := g.call(requests)
	if err != nil && len(batch) > 1 && pki.ClassOf(err) != pki.Busy {
		for i := range batch {
			g.land(batch[i : i+1])
		}
		return
	}
	for i, s := range batch {
		s.err = err
		if err == nil {
			s.result = results[i]
		}
		close(s.done)
	}
}
