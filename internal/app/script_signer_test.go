package app_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// passing DIR: the signer of a command that is about to end listens in the directory of an
// instance. It tells of itself when serve begins, once more when serve waits for its own
// signer, and is gone.
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
		for _, last := range []bool{false, true} {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if last {
				_ = listener.Close()
			}
			_ = keystore.ServeConn(context.Background(), lastWords{conn}, passer{}, nil, testkit.Quiet)
		}
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

// listed SERIAL: the CRL that is served holds it, now or soon; with !, it does not.
func listed(ts *testscript.TestScript, neg bool, args []string) {
	holds := func() bool {
		resp, err := http.Get("http://" + ts.Getenv("STATUS") + "/crl/g1.crl")
		ts.Check(err)
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		ts.Check(err)
		list, err := x509.ParseRevocationList(raw)
		ts.Check(err)
		return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return pki.SerialHex(e.SerialNumber) == args[0] })
	}
	if !neg {
		until(ts, args[0]+" in the CRL", holds)
	} else if holds() {
		ts.Fatalf("%s is in the CRL", args[0])
	}
}

// listening FILE: waits until a process listens on the socket. A command that begins
// before that would start a signer of its own, which may be the first.
func listening(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, "somebody listens", func() bool {
		address, done, err := keystore.SocketAddress(ts.MkAbs(args[0]))
		ts.Check(err)
		defer done()
		conn, err := net.Dial("unix", address)
		return err == nil && conn.Close() == nil
	})
}
