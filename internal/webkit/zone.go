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
// for what OneMeaning refuses.
func (z Zone) Guard(rep *Reporter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		oneRequest(w, r)
		switch {
		case !oneMeaning(r):
			rep.turnAway(w, r, http.StatusBadRequest, "http.target", z.Name)
		case !z.has(r):
			rep.turnAway(w, r, http.StatusMisdirectedRequest, "http.zone", z.Name)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (rep *Reporter) turnAway(w http.ResponseWriter, r *http.Request, status int, code, zone string) {
	rep.log.InfoContext(failed(r, code), "request refused", "code", code, "zone", zone, "source", Source(r))
	w.Header().Set("Connection", "close")
	reply(w, status)
}

// OneMeaning answers 400 and closes the connection where a request could be read in two
// ways by us and by a program in between (threat AU10). Zone.Guard does the same in
// zones that have names.
func OneMeaning(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		oneRequest(w, r)
		if !oneMeaning(r) {
			w.Header().Set("Connection", "close")
			reply(w, http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// oneRequest ends a connection of HTTP/1.0 behind its first request: net/http overlooks a
// Transfer-Encoding there without a trace, so the next request could begin elsewhere for
// a program in between.
func oneRequest(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		w.Header().Set("Connection", "close")
	}
}

// oneMeaning wants a Host, a target in origin-form and a body of known length. net/http
// drops Content-Length before a handler could see both it and Transfer-Encoding, so
// every body of unknown length is refused; browsers, OCSP clients and our own programs
// always send a length. Of "OPTIONS *" net/http takes care by itself.
func oneMeaning(r *http.Request) bool {
	return r.Host != "" && strings.HasPrefix(r.RequestURI, "/") && len(r.TransferEncoding) == 0
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

// OtherHost gives another configured name of a zone than the one that was asked for; ""
// where there is none.
func OtherHost(r *http.Request, hosts []string) string {
	n := slices.Index(hosts, r.Host)
	if n < 0 || len(hosts) < 2 {
		return ""
	}
	return hosts[(n+1)%len(hosts)]
}

func hostname(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.Trim(name, "[]")
}

// Source is who is at the other end of the connection, or whom a trusted proxy names
// there (Proxies). Headers such as X-Forwarded-For are claims and are not read (threat
// DL3).
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
