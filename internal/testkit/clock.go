package testkit

import (
	"sync"
	"time"
)

// FakeClock is a clock that a test sets: the time of day, and the time that has passed
// since the start of the machine.
type FakeClock struct {
	mu      sync.Mutex
	now     time.Time
	elapsed time.Duration
}

// NewClock makes a clock that shows a time.
func NewClock(now time.Time) *FakeClock { return &FakeClock{now: now} }

// Now gives the time of day.
func (c *FakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Elapsed gives the time since the start of the machine.
func (c *FakeClock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// Advance lets time pass, for every clock of the machine.
func (c *FakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.elapsed = c.now.Add(d), c.elapsed+d
}

// Jump sets the time of day alone, as somebody may who has the machine.
func (c *FakeClock) Jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Set lets the time pass until then.
func (c *FakeClock) Set(then time.Time) { c.Advance(then.Sub(c.Now())) }
