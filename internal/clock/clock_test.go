package clock

import (
	"testing"
	"time"

	"inkan/internal/pki"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// machine is a machine whose clocks a test sets.
type machine struct {
	wall                  time.Time
	elapsed               time.Duration
	synchronised, running bool
}

func (m *machine) clock() *Clock {
	return New(Sources{Wall: func() time.Time { return m.wall }, Elapsed: func() time.Duration { return m.elapsed },
		Synchronised: func() bool { return m.synchronised }, Running: func() bool { return m.running }})
}

// code is the code of an error, "" of none.
func code(err error) string {
	if err == nil {
		return ""
	}
	return pki.CodeOf(err)
}

func (m *machine) pass(d time.Duration) { m.wall, m.elapsed = m.wall.Add(d), m.elapsed+d }

// A process that has just started knows only the last commit.
func TestBelieveAtStart(t *testing.T) {
	for _, row := range []struct {
		name    string
		gap     time.Duration
		machine machine
		code    string
	}{
		{"at once", 0, machine{}, ""},
		{"another node is a little ahead", -Tolerance, machine{}, ""},
		{"behind", -Tolerance - 1, machine{}, "clock.behind"},
		{"behind, and a time server says so", -time.Hour, machine{synchronised: true}, "clock.behind"},
		{"a busy morning", Silence, machine{running: true}, ""},
		{"a command beside serve, whose clock jumped", Silence + 1, machine{running: true}, "clock.ahead"},
		{"the same with a time server", 10 * time.Hour, machine{running: true, synchronised: true}, "clock.ahead"},
		{"a weekend", Away, machine{}, ""},
		{"a long weekend", Away + 1, machine{}, "clock.ahead"},
		{"a summer, with a time server", 60 * 24 * time.Hour, machine{synchronised: true}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.machine.wall = noon
			c := row.machine.clock()
			err := c.Believe(noon.Add(-row.gap))
			if code(err) != row.code || code(c.Doubt()) != row.code {
				t.Errorf("%v, then %v, want %q", err, c.Doubt(), row.code)
			}
			if row.code != "" && pki.ClassOf(err) != pki.Busy {
				t.Errorf("class %v", pki.ClassOf(err))
			}
			if err := row.machine.clock().Believe(time.Time{}); err != nil {
				t.Errorf("before the first commit: %v", err)
			}
		})
	}
}

// A process that runs has seen how much time passed.
func TestBelieveWhileRunning(t *testing.T) {
	for _, row := range []struct {
		name           string
		passed, jumped time.Duration // since the last commit
		code           string
		off            time.Duration // of Now from the truth
	}{
		{"a second", time.Second, 0, "", 0},
		{"the database was away for two hours", 2 * time.Hour, 0, "", 0},
		{"and for a month", 30 * 24 * time.Hour, 0, "", 0},
		{"and the clock was set right meanwhile", 2 * time.Hour, 4 * time.Second, "", 4 * time.Second},
		{"ahead", time.Second, 200 * 24 * time.Hour, "clock.ahead", 0},
		{"ahead while the database was away", 2 * time.Hour, 20 * time.Hour, "clock.ahead", 0},
		{"back", time.Second, -time.Hour, "clock.behind", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := &machine{wall: noon, synchronised: true}
			c := m.clock()
			err := c.Believe(noon)
			if err != nil {
				t.Fatal(err)
			}
			m.pass(row.passed)
			truth := m.wall
			m.wall = truth.Add(row.jumped)
			if off := c.Now().Sub(truth); off != row.off {
				t.Errorf("now is off by %s", off)
			}
			err = c.Believe(noon)
			if code(err) != row.code {
				t.Errorf("%v, want %q", err, row.code)
			}
			m.wall = truth
			if err = c.Believe(noon); err != nil {
				t.Errorf("the clock is right again: %v", err)
			}
		})
	}
}

// A person's word makes the clock right for the whole process, but not for the past.
func TestAccept(t *testing.T) {
	m := &machine{wall: noon}
	c := m.clock()
	last := noon.Add(-200 * 24 * time.Hour)
	if err := c.Believe(last); pki.CodeOf(err) != "clock.ahead" {
		t.Fatal(err)
	}
	c.Accept()
	if err := c.Believe(last); err != nil {
		t.Error(err)
	}
	if err := c.Believe(noon.Add(time.Minute)); pki.CodeOf(err) != "clock.behind" {
		t.Errorf("accepted the past: %v", err)
	}
}
