package app

import (
	"net"
	"os"
)

// tellManager tells the service manager how far this process is (sd_notify), where one
// waits for it. That nobody hears is no failure of ours.
func tellManager(state string) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(state))
}
