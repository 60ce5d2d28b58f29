// Package clock owns whether the time of the machine is believed (ADR 60).
//
// Times in this program only go forward: each commit is later than the one before, a
// destroyed key is gone, a mail has left. A clock that is wrong for a minute would do
// harm for good (threats AU8 and AU9). So the time that somebody set is held against
// two others: the last commit, and a counter that nobody can set.
//
// It does not own what is refused while the time is in doubt: the store refuses every
// commit, and no office does anything that cannot be taken back without one.
package clock

import (
	"sync"
	"time"

	"inkan/internal/pki"
)

const (
	// Tolerance is by how much the clocks of nodes, or two clocks of one machine, may
	// differ.
	Tolerance = 5 * time.Second
	// Silence is the age of the last commit that needs an explanation: where an
	// instance runs, something is committed every second.
	Silence = time.Hour
	// Away is for how long an instance may have been switched off, all of it, and be
	// believed at its next start though no time server vouches for the clock.
	Away = 72 * time.Hour
)

// Sources are the clocks of a machine.
type Sources struct {
	Wall         func() time.Time     // what people and programs may set
	Elapsed      func() time.Duration // what only passes, from any beginning
	Synchronised func() bool          // whether a time server keeps Wall right
	Running      func() bool          // whether another process keeps committing, by the same clocks
}

// Clock is the time of one process.
type Clock struct {
	from Sources

	mu      sync.Mutex
	trusted bool          // the next two are a moment whose time was believed
	wall    time.Time     // what Wall said then
	elapsed time.Duration // what Elapsed said then
	doubt   error
}

// New makes the clock of a process.
func New(from Sources) *Clock { return &Clock{from: from} }

// Now is the time: that of the wall clock, or, when somebody moved that, the last one
// that was believed and what has passed since.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, steady := c.look()
	if c.trusted && !near(wall, steady) {
		return steady
	}
	return wall
}

// look reads the wall clock, and what it should say by the time that has passed.
func (c *Clock) look() (wall, steady time.Time) {
	return c.from.Wall(), c.wall.Add(c.from.Elapsed() - c.elapsed)
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() <= Tolerance }

// Believe says whether the wall clock is believed beside the time of the last commit,
// zero before the first: clock.behind or clock.ahead where it is not.
func (c *Clock) Believe(last time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, steady := c.look()
	c.doubt = c.judge(wall, steady, last)
	if c.doubt == nil {
		c.trust(wall)
	}
	return c.doubt
}

func (c *Clock) judge(wall, steady, last time.Time) error {
	if last.IsZero() {
		return nil
	}
	gap := wall.Sub(last)
	switch {
	case gap < -Tolerance:
		return pki.E(pki.Busy, "clock.behind").With("By", (-gap).Round(time.Second).String())
	case gap <= Silence:
		return nil
	case c.trusted && near(wall, steady):
		return nil // the database was away, and we saw the time pass
	case !c.trusted && !c.from.Running() && (gap <= Away || c.from.Synchronised()):
		return nil // everything was switched off
	}
	return pki.E(pki.Busy, "clock.ahead").With("By", gap.Round(time.Second).String())
}

func (c *Clock) trust(wall time.Time) {
	c.trusted, c.wall, c.elapsed = true, wall, c.from.Elapsed()
}

// Accept believes the wall clock as it is, because a person says so. It still cannot
// go back behind the last commit.
func (c *Clock) Accept() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trust(c.from.Wall())
}

// Doubt is what the last Believe answered.
func (c *Clock) Doubt() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubt
}
