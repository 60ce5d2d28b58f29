package webkit

import (
	"sync"
	"time"
)

// Budget gives each key a number of tries that refill with time, in memory. A try can
// be given back, so that only wrong answers count; that is why it is not x/time/rate,
// whose reservations cannot be cancelled once their time has come.
//
// It is the generic cell rate algorithm: one time a key, the moment at which its
// budget will be full again. The map is bounded: full budgets are forgotten, and when
// all are in use an arbitrary one is, since refusing newcomers would lock people out.
type Budget[K comparable] struct {
	every time.Duration // one try comes back
	burst time.Duration // every × tries at once
	max   int
	now   func() time.Time

	mu   sync.Mutex
	full map[K]time.Time
}

// NewBudget makes a budget of tries at once and one more every so often, for at most
// max keys.
func NewBudget[K comparable](tries int, every time.Duration, max int, now func() time.Time) *Budget[K] {
	return &Budget[K]{every: every, burst: every * time.Duration(tries), max: max, now: now, full: map[K]time.Time{}}
}

// Take takes one try. When there is none, ok is false and until says when there will
// be one. Concurrent takers cannot take the same try.
func (b *Budget[K]) Take(key K) (until time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	full := b.full[key]
	if full.Before(now) {
		full = now
	}
	full = full.Add(b.every)
	if full.Sub(now) > b.burst {
		return full.Add(-b.burst), false
	}
	_, known := b.full[key]
	if !known && len(b.full) >= b.max {
		b.forget(now)
	}
	b.full[key] = full
	return time.Time{}, true
}

// Back gives one try back.
func (b *Budget[K]) Back(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full, known := b.full[key]
	if !known {
		return
	}
	full = full.Add(-b.every)
	if !full.After(b.now()) {
		delete(b.full, key)
		return
	}
	b.full[key] = full
}

func (b *Budget[K]) forget(now time.Time) {
	for key, full := range b.full {
		if !full.After(now) {
			delete(b.full, key)
		}
	}
	for key := range b.full {
		if len(b.full) < b.max {
			return
		}
		delete(b.full, key)
	}
}

// Len says how many keys are remembered.
func (b *Budget[K]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.full)
}
