package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/ca"
	"inkan/internal/i18n"
	"inkan/internal/issuance"
	"inkan/internal/mail"
	"inkan/internal/notify"
	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/relay"
	"inkan/internal/status"
	"inkan/internal/webkit"
)

func (c *cli) serveCommand() *cobra.Command {
	return &cobra.Command{Use: "serve", Short: "run everything", RunE: func(cmd *cobra.Command, _ []string) error {
		log := c.logger(true)
		i, err := open(cmd.Context(), c.dir, log)
		if err != nil {
			return err
		}
		defer i.close()
		if i.config.Mode == "demo" {
			return pki.E(pki.Forbidden, "serve.demo").With("Dir", i.dir)
		}
		s := &server{instance: i}
		s.mailer, err = i.newMailer()
		if err != nil {
			return err
		}
		return s.run(cmd.Context(), func() {
			c.say("portal  https://%s/p/rcd", i.config.Portal.Hosts[0])
			c.say("api     https://%s/api/v1/certificates", i.config.API.Hosts[0])
			c.say("status  %s/ocsp, /crl/g1.crl, /ca/g1.cer", i.config.Status.URL)
			c.say("health  http://%s/ready", i.config.Internal.Listen)
		})
	}}
}

// server is a running instance.
type server struct {
	*instance
	view    *ca.View
	answers *ca.Answers
	leaves  []*leaf
	mailer  *notify.Service // nil holds mails back

	mu    sync.Mutex
	wrong map[string]string // what is wrong, by part, in words
}

// newMailer makes the office that drains the outbox; nil, which holds mails back,
// where no mail relay is configured.
func (i *instance) newMailer() (*notify.Service, error) {
	c := i.config.Mail
	if c.SMTP == "" {
		return nil, nil
	}
	password := c.PasswordFile
	if password != "" {
		password = inside(i.dir, password)
	}
	sender, err := mail.New(mail.Config{Address: c.SMTP, From: c.From, TLS: c.TLS, Username: c.Username, PasswordFile: password})
	if err != nil {
		return nil, pki.E(pki.Invalid, "config.invalid").With("Problems", err.Error()).Because(err)
	}
	desk := map[string]string{}
	if i.config.Help.Phone != "" {
		desk["ja"] = i.config.Help.Phone + "（" + i.config.Help.HoursJA + "）"
		desk["en"] = i.config.Help.Phone + " (" + i.config.Help.HoursEN + ")"
	}
	return notify.New(notify.Config{DB: i.db, Sender: sender, Text: i18n.Text, HelpDesk: desk, Now: i.clock.Now, Log: i.log}), nil
}

// drainTime bounds how long requests under way may take after SIGTERM.
const drainTime = 10 * time.Second

// run serves until the context ends: signer, certificates, listeners, timers; and
// stops in the reverse order, so that nothing calls what is gone.
func (s *server) run(ctx context.Context, ready func()) error {
	s.wrong = map[string]string{}
	unlock, err := lockServe(s.servePath())
	if err != nil {
		return err
	}
	defer unlock()
	s.serving = true
	jobs, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stopJobs()
	err = s.startSigner(jobs, &running)
	if err != nil {
		return err
	}
	err = s.prepare(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error, 8)
	servers, err := s.listen(failed)
	if err != nil {
		return err
	}
	s.startJobs(jobs, &running)
	ready()
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.log.Info("draining")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, h := range servers {
		err = errors.Join(err, h.Shutdown(drain))
	}
	return err
}

func (s *server) startSigner(ctx context.Context, running *sync.WaitGroup) error {
	if !s.config.Signer.Child {
		return s.askSigner(ctx)
	}
	c, err := s.startChild()
	if err != nil {
		return err
	}
	err = s.awaitSigner(ctx, c)
	if err != nil {
		c.stop()
		return err
	}
	running.Go(func() { s.superviseSigner(ctx, c) })
	return nil
}

// prepare loads what answers need and makes sure of our own certificates.
func (s *server) prepare(ctx context.Context) error {
	s.view = ca.NewView(s.db, caIDs, s.clock.Now, s.log)
	s.answers = ca.NewAnswers(s.view, s.issuers[issuance.G1], s.clock.Now)
	s.leaves = []*leaf{{zone: "portal", hosts: s.config.Portal.Hosts}, {zone: "api", hosts: s.config.API.Hosts}}
	err := s.renewOwn(ctx)
	if !s.serves() {
		return err
	}
	s.note("certificates", err)
	err = s.view.Load(ctx)
	if err != nil {
		return err
	}
	s.note("crl", s.renewCRLs(ctx))
	return nil
}

// renewOwn renews the site's TLS certificates and the OCSP responder. The error tells
// what could not be renewed; what still serves is in use all the same.
func (s *server) renewOwn(ctx context.Context) error {
	var failures []error
	for _, l := range s.leaves {
		failures = append(failures, l.renew(ctx, s.instance))
	}
	key, cert, err := s.keepOwn(ctx, "ocsp", issuance.ProfileOCSP, "OCSP Responder 1", nil, nil, func(c *x509.Certificate) bool {
		return c.CheckSignatureFrom(s.cas[issuance.G1]) == nil
	})
	failures = append(failures, err)
	if cert != nil {
		failures = append(failures, s.answers.UseResponder(cert, key))
	}
	return errors.Join(failures...)
}

// serves says whether everything that the listeners need is there.
func (s *server) serves() bool {
	for _, l := range s.leaves {
		if l.current.Load() == nil {
			return false
		}
	}
	return s.answers.Ready()
}

// renewCRLs publishes every CRL that is due.
func (s *server) renewCRLs(ctx context.Context) error {
	var failures []error
	for _, issuer := range online {
		crl, newest := s.view.CRL(issuer)
		if !s.ca.CRLDue(crl, newest, s.clock.Now()) {
			continue
		}
		_, err := s.ca.PublishCRL(ctx, issuer)
		if err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(append(failures, s.view.Catch(ctx))...)
}

// Limits of every listener (threat AU11).
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
)

func httpServer(h http.Handler, config *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout,
		WriteTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// listen opens every listener before it serves any, so that a taken port is said at
// once and nothing runs by half.
func (s *server) listen(failed chan<- error) ([]*http.Server, error) {
	site, err := s.portal()
	if err != nil {
		return nil, err
	}
	api, err := s.api()
	if err != nil {
		return nil, err
	}
	public := status.Handler(status.Config{Answers: s.answers, Lists: s.view, CAs: s.cas, Now: s.clock.Now, Log: s.log})
	plan := []struct {
		name, address string
		server        *http.Server
	}{
		{"portal", s.config.Portal.Listen, httpServer(site, serverTLS(s.leaves[0]), s.log)},
		{"api", s.config.API.Listen, httpServer(api, s.apiTLS(), s.log)},
		{"status", s.config.Status.Listen, httpServer(public, nil, s.log)},
		{"internal", s.config.Internal.Listen, httpServer(s.internal(), nil, s.log)},
	}
	listeners := make([]net.Listener, len(plan))
	for n, p := range plan {
		listeners[n], err = net.Listen("tcp", p.address)
		if err != nil {
			for _, l := range listeners[:n] {
				_ = l.Close()
			}
			return nil, pki.E(pki.Conflict, "listen.taken").With("Zone", p.name).With("Address", p.address).Because(err)
		}
	}
	servers := make([]*http.Server, len(plan))
	for n, p := range plan {
		servers[n] = p.server
		go func() {
			var err error
			if p.server.TLSConfig != nil {
				err = p.server.ServeTLS(listeners[n], "", "")
			} else {
				err = p.server.Serve(listeners[n])
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", p.name, err)
			}
		}()
	}
	return servers, nil
}

func (s *server) portal() (http.Handler, error) {
	p, err := portal.New(portal.Config{
		Hosts: s.config.Portal.Hosts,
		Help:  portal.HelpDesk{Phone: s.config.Help.Phone, Hours: map[string]string{"ja": s.config.Help.HoursJA, "en": s.config.Help.HoursEN}},
		Authorities: []portal.Authority{
			{Name: s.config.Names.Root, URL: s.config.Status.URL + "/ca/root.cer"},
			{Name: s.config.Names.Issuer, URL: s.config.Status.URL + "/ca/g1.cer"},
		},
		Demo: s.config.Mode == "demo", Now: s.clock.Now, Log: s.log,
	}, s.ra)
	if err != nil {
		return nil, err
	}
	return p.Handler(), nil
}

func (s *server) api() (http.Handler, error) {
	report := webkit.NewReporter(s.log, relay.Problem{Now: s.clock.Now}.Draw)
	mux := http.NewServeMux()
	relay.New(relay.Config{Office: s.ra, Clients: s.ops, Chain: [][]byte{s.cas[issuance.G1].Raw, s.cas[issuance.Root].Raw}, Report: report}).Mount(mux)
	mux.Handle("/", report.Handle(webkit.NotFound))
	return webkit.Stack{Zone: webkit.Zone{Name: "api", Hosts: s.config.API.Hosts}, Report: report}.Wrap(mux), nil
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

// internal answers monitoring on this machine: live, ready, and what is wrong in
// words. Another Host is refused, so that no page of a browser can ask (threat PL4).
func (s *server) internal() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("live\n")) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		wrong := s.problems()
		w.Header().Set("Content-Type", "application/json")
		if len(wrong) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": len(wrong) == 0, "wrong": wrong})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOnly(r.Host)
		if host != "localhost" && host != "127.0.0.1" && host != "::1" {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// horizonHealth is the age of the view's horizon beyond which a node is not ready.
const horizonHealth = 10 * time.Second

// rootCRLWarn is how long before its end the root's CRL is told to need a ceremony.
const rootCRLWarn = 60 * 24 * time.Hour

func (s *server) problems() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string, len(s.wrong))
	for part, text := range s.wrong {
		out[part] = text
	}
	if doubt := s.clock.Doubt(); doubt != nil {
		out["clock"] = said(doubt)
	}
	if age := s.clock.Now().Sub(s.view.Horizon()); age > horizonHealth {
		out["status"] = fmt.Sprintf("nothing heard from the database for %s", age.Truncate(time.Second))
	}
	root, _ := s.view.CRL(issuance.Root)
	if left := root.NextUpdate.Sub(s.clock.Now()); left < rootCRLWarn {
		out["root"] = fmt.Sprintf("the root's CRL ends in %d days; the next is a ceremony", int(left.Hours()/24))
	}
	return out
}

// said is an error in the words of the health page, with what to do.
func said(err error) string {
	text, hint := i18n.Error("en", err)
	return strings.TrimSpace(text + " " + hint)
}

func (c *cli) signerCommand() *cobra.Command {
	var asChild bool
	cmd := &cobra.Command{Use: "signer", Short: "run the signer process on its own", RunE: func(cmd *cobra.Command, _ []string) error {
		dir, err := filepath.Abs(c.dir)
		if err != nil {
			return fmt.Errorf("resolve directory: %w", err)
		}
		if asChild {
			// The parent decides when it ends: a Ctrl-C at the terminal reaches both, and
			// the signer must outlive the draining of its parent.
			return runSigner(context.WithoutCancel(cmd.Context()), dir, c.stdin, c.logger(true))
		}
		return runSigner(cmd.Context(), dir, nil, c.logger(true))
	}}
	cmd.Flags().BoolVar(&asChild, "child", false, "end when standard input ends")
	_ = cmd.Flags().MarkHidden("child")
	return cmd
}
