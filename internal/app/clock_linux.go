package app

import (
	"time"

	"golang.org/x/sys/unix"
)

// elapsed is the time since the machine started, its sleep included: what Go's own
// monotonic clock leaves out.
func elapsed() time.Duration {
	var at unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at)
	if err != nil {
		panic(err) // every Linux that Go runs on has it
	}
	return time.Duration(at.Nano())
}

// synchronised says whether the kernel knows of a time server that keeps the clock
// right. Setting the clock by hand ends that.
func synchronised() bool {
	var state unix.Timex
	status, err := unix.Adjtimex(&state)
	return err == nil && status != unix.TIME_ERROR && state.Status&unix.STA_UNSYNC == 0
}
