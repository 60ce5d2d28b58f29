package webkit

import (
	"net"
	"net/netip"
	"sync"
)

// PerSource bounds how many connections one source has open at a time, so that nobody
// takes all of them by opening and saying nothing (threat AU11).
type PerSource struct {
	Most int // open connections of one source
	// Shared are networks in which many institutions share one address; each of them is
	// one source with a bound of its own (threat DL3).
	Shared     []netip.Prefix
	MostShared int
}

// Limit puts the bound before a listener. What is over it is closed at once: left
// unanswered, it would stand in the way of others.
func (p PerSource) Limit(l net.Listener) net.Listener {
	return &limited{Listener: l, bound: p, open: map[netip.Addr]int{}}
}

type limited struct {
	net.Listener
	bound PerSource

	mu   sync.Mutex
	open map[netip.Addr]int // sources without an open connection are not in it
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source, most := l.bound.of(conn.RemoteAddr())
		if l.enter(source, most) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { l.leave(source) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *limited) enter(source netip.Addr, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= most {
		return false
	}
	l.open[source]++
	return true
}

func (l *limited) leave(source netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[source]--
	if l.open[source] == 0 {
		delete(l.open, source)
	}
}

// of gives the source of a connection and its bound.
func (p PerSource) of(remote net.Addr) (netip.Addr, int) {
	peer, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Addr{}, p.Most // all that have no address are one source
	}
	source, shared := SourceNetwork(peer.Addr().Unmap(), p.Shared)
	if shared {
		return source, p.MostShared
	}
	return source, p.Most
}

// SourceNetwork gives what counts as one source: the shared network of an address, else
// the address as Network sees it.
func SourceNetwork(a netip.Addr, shared []netip.Prefix) (netip.Addr, bool) {
	for _, n := range shared {
		if n.Contains(a) {
			return n.Masked().Addr(), true
		}
	}
	return Network(a), false
}

// counted is a connection that is in the count until it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
