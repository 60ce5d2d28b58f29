package engine

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLineToAGoneMachineIsGivenUp: the kernel has to be told, or a statement that was on
// its way when the machine of the database went would wait for a quarter of an hour.
func TestLineToAGoneMachineIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config, err := postgresConfig("postgres://nobody@127.0.0.1/nothing")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := config.ConnConfig.DialFunc(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []struct {
		name string
		id   int
		want int
	}{{"TCP_USER_TIMEOUT", unix.TCP_USER_TIMEOUT, 20000}, {"TCP_KEEPIDLE", unix.TCP_KEEPIDLE, 10}} {
		var got int
		var failed error
		err = raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option.id) })
		if err != nil || failed != nil || got != option.want {
			t.Errorf("%s is %d, %v, %v; want %d", option.name, got, err, failed, option.want)
		}
	}
}
