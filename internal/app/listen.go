package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/relay"
	"inkan/internal/status"
	"inkan/internal/webkit"
)

// Limits of every listener (threat AU11).
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	maxStreams    = 100 // of one HTTP/2 connection
)

func httpServer(h http.Handler, config *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout,
		WriteTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams}, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// zone is one listener with its server.
type zone struct {
	name, address string
	server        *http.Server
}

// zones are the public listeners, and health and metrics as the last.
func (s *server) zones() []zone {
	return []zone{
		{"portal", s.config.Portal.Listen, httpServer(s.site.Handler(), serverTLS(s.leaves[0]), s.log)},
		{"portal_auth", s.config.PortalAuth.Listen, httpServer(s.site.AuthHandler(), s.askingTLS(), s.log)},
		{"api", s.config.API.Listen, httpServer(s.api(), s.apiTLS(), s.log)},
		{"status", s.config.Status.Listen, httpServer(s.status(s.site.AboutRoot()), nil, s.log)},
		{"internal", s.config.Internal.Listen, httpServer(s.internal(), nil, s.log)},
	}
}

// listen opens every listener before it serves any, so that a taken port is said at
// once and nothing runs by half.
func (s *server) listen(failed chan<- error) ([]*http.Server, *http.Server, error) {
	zones := s.zones()
	bound, proxies := s.config.perSource(), s.config.proxies()
	listeners := make([]net.Listener, len(zones))
	for n, z := range zones {
		l, err := net.Listen("tcp", z.address)
		if err != nil {
			for _, l := range listeners[:n] {
				_ = l.Close()
			}
			return nil, nil, pki.E(pki.Conflict, "listen.taken").With("Zone", z.name).With("Address", z.address).Because(err)
		}
		if n < len(zones)-1 { // the last is for this machine
			l = proxies.Listen(l)
		}
		listeners[n] = bound.Limit(l)
	}
	servers := make([]*http.Server, len(zones))
	for n, z := range zones {
		servers[n] = z.server
		go func() {
			err := z.serve(listeners[n])
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", z.name, err)
			}
		}()
	}
	last := len(servers) - 1
	return servers[:last], servers[last], nil
}

func (z zone) serve(l net.Listener) error {
	if z.server.TLSConfig != nil {
		return z.server.ServeTLS(l, "", "")
	}
	return z.server.Serve(l)
}

// status answers everybody; it has no names of its own, because its address stands in
// certificates and is asked through all kinds of proxies.
func (s *server) status(aboutRoot http.Handler) http.Handler {
	public := status.Handler(status.Config{Answers: s.answers, Lists: s.view, CAs: s.cas, AboutRoot: aboutRoot, OCSP: s.metrics.answered, Now: s.clock.Now, Log: s.log})
	return s.metrics.recorder().Watch("status", webkit.OneMeaning(public))
}

func (s *server) portal() (*portal.Portal, error) {
	return portal.New(portal.Config{
		Hosts: s.config.Portal.Hosts, AuthHosts: s.config.PortalAuth.Hosts,
		Flows: webkit.Flows{DB: s.db, Idle: s.config.Policy.SessionIdle.Duration},
		Help:  portal.HelpDesk{Phone: s.config.Help.Phone, Hours: map[string]string{"ja": s.config.Help.HoursJA, "en": s.config.Help.HoursEN}},
		Authorities: []portal.Authority{
			{Name: s.config.Names.Root, URL: s.config.Status.URL + "/ca/root.cer"},
			{Name: s.config.Names.Issuer, URL: s.config.Status.URL + "/ca/g1.cer"},
		},
		Issuer: s.config.Names.Issuer, SiteRoot: s.cas[issuance.TLS], StatusURL: s.config.Status.URL, Releases: s.shelf.Offer, Status: s.view,
		SharedSources: s.config.perSource().Shared,
		Demo:          s.config.Mode == "demo", Count: s.metrics.recorder(), Now: s.clock.Now, Log: s.log,
	}, s.ra)
}

// askingTLS asks for a certificate of the issuing CA, so that the browser's picker shows
// ours alone (manual §6.2.1), and judges none: what is wrong with one is a page.
func (s *server) askingTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.cas[issuance.G1])
	c := serverTLS(s.leaves[2])
	c.ClientAuth, c.ClientCAs = tls.RequestClientCert, pool
	return c
}

func (s *server) api() http.Handler {
	report := webkit.NewReporter(s.log, relay.Problem{Now: s.clock.Now}.Draw)
	mux := http.NewServeMux()
	relay.New(relay.Config{Office: s.ra, Clients: s.ops, Chain: [][]byte{s.cas[issuance.G1].Raw, s.cas[issuance.Root].Raw}, Report: report}).Mount(mux)
	mux.Handle("/", report.Handle(webkit.NotFound))
	return webkit.Stack{Zone: webkit.Zone{Name: "api", Hosts: s.config.API.Hosts}, Report: report, Count: s.metrics.recorder()}.Wrap(mux)
}

// apiTLS demands a certificate of the Operations CA; a holder's does not even connect
// (threat CO2).
func (s *server) apiTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.cas[issuance.Operations])
	c := serverTLS(s.leaves[1])
	c.ClientAuth, c.ClientCAs, c.Time = tls.RequireAndVerifyClientCert, pool, s.clock.Now
	return c
}
