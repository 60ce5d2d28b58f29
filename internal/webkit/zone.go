package webkit

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"inkan/internal/pki"
)

// Zone is one audience's set of host names. Listeners may share an address, browsers
// may share a connection (HTTP/2 coalescing), and net/http serves any Host on any
// connection; so the zone, not the socket, is the border (threat RS3).
type Zone struct {
	Name string
	// Hosts are the exact values of Host that belong to the zone, with the port where
	// it is not the scheme's own: "cert.example.jp", "127.0.0.1:8443".
	Hosts []string
}

// Guard lets only requests of the zone pass: 421 for another zone's Host or SNI, 400
// for a request whose target or length can be read in two ways (threat AU10).
//
// net/http drops Content-Length before a handler could see both it and
// Transfer-Encoding, so every body of unknown length is refused; browsers and our own
// clients always send a length.
func (z Zone) Guard(rep *Reporter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "", !strings.HasPrefix(r.RequestURI, "/"), len(r.TransferEncoding) > 0:
			w.Header().Set("Connection", "close")
			reply(w, http.StatusBadRequest)
			rep.log.Info("request refused", "code", "http.target", "zone", z.Name, "source", Source(r))
		case !z.has(r):
			w.Header().Set("Connection", "close")
			reply(w, http.StatusMisdirectedRequest)
			rep.log.Info("request refused", "code", "http.zone", "zone", z.Name, "source", Source(r))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// reply answers with the bare status text: the person, if there is one, is not on one
// of our pages.
func reply(w http.ResponseWriter, status int) {
	Secure(w.Header())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(http.StatusText(status) + "\n"))
}

func (z Zone) has(r *http.Request) bool {
	if !slices.Contains(z.Hosts, r.Host) {
		return false
	}
	if r.TLS == nil {
		return true
	}
	name := hostname(r.Host)
	_, err := netip.ParseAddr(name)
	if err == nil {
		return r.TLS.ServerName == "" // an address is never sent as SNI (RFC 6066)
	}
	return slices.ContainsFunc(z.Hosts, func(h string) bool { return hostname(h) == r.TLS.ServerName })
}

func hostname(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.Trim(name, "[]")
}

// Source is who is at the other end of the connection. Headers such as
// X-Forwarded-For are claims and are not read (threat DL3).
func Source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// Network is what a budget is for: an address, or of IPv6 the /64 within which one
// customer changes addresses at will.
func Network(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// NotFound is the handler for paths that do not exist.
func NotFound(http.ResponseWriter, *http.Request) error { return pki.ErrNotFound }
