package webkit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Proxies are the networks of TCP balancers that say who is behind them, by the header
// of the PROXY protocol, version 2. Who is in them has to send it; of everybody else it
// is no beginning of anything and ends the connection (threat DL3).
type Proxies []netip.Prefix

// proxyPatience is how long a proxy may take for its header. It sends it by itself, before
// anything of the other side.
const proxyPatience = 5 * time.Second

// Listen gives connections whose RemoteAddr is the source that their proxy names. Headers
// are read beside one another: a proxy that says nothing keeps nobody waiting.
func (p Proxies) Listen(l net.Listener) net.Listener {
	if len(p) == 0 {
		return l
	}
	out := &behindProxies{Listener: l, trusted: p, ready: make(chan accepted), closed: make(chan struct{})}
	out.end = sync.OnceFunc(func() { close(out.closed) })
	go out.run()
	return out
}

func (p Proxies) contain(a net.Addr) bool {
	peer, err := netip.ParseAddrPort(a.String())
	return err == nil && slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(peer.Addr().Unmap()) })
}

type behindProxies struct {
	net.Listener
	trusted Proxies
	ready   chan accepted
	closed  chan struct{}
	end     func()
}

type accepted struct {
	conn net.Conn
	err  error
}

func (l *behindProxies) Accept() (net.Conn, error) {
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *behindProxies) Close() error {
	l.end()
	return l.Listener.Close()
}

func (l *behindProxies) run() {
	for {
		conn, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			l.end()
			return
		case err != nil:
			l.give(accepted{err: err})
		case l.trusted.contain(conn.RemoteAddr()):
			go l.ask(conn)
		default:
			l.give(accepted{conn: conn})
		}
	}
}

// ask reads the header of a proxy; a connection without a right one is closed.
func (l *behindProxies) ask(conn net.Conn) {
	late := time.AfterFunc(proxyPatience, func() { _ = conn.Close() })
	source, err := readProxyHeader(conn)
	if !late.Stop() || err != nil {
		_ = conn.Close()
		return
	}
	if source.IsValid() {
		conn = &proxied{Conn: conn, source: net.TCPAddrFromAddrPort(source)}
	}
	l.give(accepted{conn: conn})
}

func (l *behindProxies) give(a accepted) {
	select {
	case l.ready <- a:
	case <-l.closed:
		if a.conn != nil {
			_ = a.conn.Close()
		}
	}
}

// proxied is a connection from behind a proxy.
type proxied struct {
	net.Conn
	source net.Addr
}

func (c *proxied) RemoteAddr() net.Addr { return c.source }

// The fixed part of the header: signature, version and command, family and transport,
// length of what follows.
const (
	proxyFixed     = 16
	proxyMaxLength = 4 << 10 // addresses, and what a proxy may add about TLS
	proxyLocal     = 0x20
	proxyProxy     = 0x21
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// readProxyHeader reads a header of version 2 and not an octet more. No valid address and
// no error: the connection is the proxy's own, to see whether we are there.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	fixed := make([]byte, proxyFixed)
	_, err := io.ReadFull(r, fixed)
	if err != nil {
		return none, fmt.Errorf("read header of proxy: %w", err)
	}
	if !bytes.HasPrefix(fixed, proxySignature) {
		return none, errors.New("header of proxy is not of version 2")
	}
	command, family, length := fixed[12], fixed[13], int(binary.BigEndian.Uint16(fixed[14:]))
	if length > proxyMaxLength {
		return none, fmt.Errorf("header of proxy has %d octets", length)
	}
	rest := make([]byte, length)
	_, err = io.ReadFull(r, rest)
	if err != nil {
		return none, fmt.Errorf("read addresses of proxy: %w", err)
	}
	size := map[byte]int{proxyTCP4: 4, proxyTCP6: 16}[family]
	switch {
	case command == proxyLocal:
		return none, nil
	case command != proxyProxy || size == 0 || length < 2*size+4:
		return none, fmt.Errorf("header of proxy has command %#x, family %#x, %d octets", command, family, length)
	}
	address, _ := netip.AddrFromSlice(rest[:size]) // of 4 or 16 octets it cannot fail
	return netip.AddrPortFrom(address.Unmap(), binary.BigEndian.Uint16(rest[2*size:])), nil
}
