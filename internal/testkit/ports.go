package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
)

// Ports come in blocks, below the range from which systems take ports for outgoing
// connections. The last port of a block is the mark that somebody has the block: its
// listener is held, so that tests of other processes see it, too.
const (
	firstPort = 10_000
	blockSize = 500
	blocks    = 38
	mark      = blockSize - 1
)

// Ports gives a base of which nobody holds a port at these offsets (below 499). The ports
// are the test's until it ends, so a program that is down for a moment keeps its own.
func Ports(t testing.TB, offsets ...int) int {
	t.Helper()
	base, release, err := ReservePorts(offsets...)
	Must(t, err)
	t.Cleanup(release)
	return base
}

// ReservePorts is Ports for those who have no test; release gives the ports back.
func ReservePorts(offsets ...int) (int, func(), error) {
	for i := range blocks {
		base := firstPort + blockSize*((os.Getpid()+i)%blocks)
		held, err := net.Listen("tcp", address(base+mark))
		if err != nil {
			continue
		}
		if free(base, offsets) {
			return base, func() { _ = held.Close() }, nil
		}
		_ = held.Close()
	}
	return 0, nil, errors.New("no free ports between 10000 and 29000")
}

func free(base int, offsets []int) bool {
	for _, offset := range offsets {
		l, err := net.Listen("tcp", address(base+offset))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Accept serves each connection of a listener at the same time, until the listener is
// closed.
func Accept(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

// Listen listens at a free port of this machine until the test ends.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}
