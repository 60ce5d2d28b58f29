package app_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"inkan/internal/keystore"
)

// passing DIR: the signer of a command that is about to end listens in the directory of an
// instance. It tells of itself once and is gone.
func passing(ts *testscript.TestScript, _ bool, args []string) {
	socket := ts.MkAbs(args[0] + "/signer.sock")
	address, done, err := keystore.SocketAddress(socket)
	ts.Check(err)
	listener, err := net.Listen("unix", address)
	ts.Check(err)
	done()
	ts.Check(os.Chmod(socket, 0o600))
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // a signer that was killed leaves it, too
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_ = listener.Close()
		_ = keystore.ServeConn(context.Background(), lastWords{conn}, passer{}, nil, slog.New(slog.DiscardHandler))
	}()
}

// passer is a signer that tells of itself and does nothing else.
type passer struct{ keystore.Service }

func (passer) Info(context.Context) (keystore.Info, error) {
	return keystore.Info{Mode: keystore.ModeLive}, nil
}

// lastWords is a connection that ends with the first answer.
type lastWords struct{ net.Conn }

func (c lastWords) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, errors.Join(err, c.Close())
}
