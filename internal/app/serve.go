package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/ca"
	"inkan/internal/i18n"
	"inkan/internal/issuance"
	"inkan/internal/mail"
	"inkan/internal/notify"
	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/release"
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
		s, err := newServer(i)
		if err != nil {
			return err
		}
		return s.run(cmd.Context(), func() {
			c.say("portal  https://%s/p/", i.config.Portal.Hosts[0])
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
	site    *portal.Portal
	leaves  []*leaf
	mailer  *notify.Service // nil holds mails back
	shelf   *release.Shelf  // what the download page gives out

	health         health
	metrics        *metrics
	signerRefusals atomic.Int64 // as the signer last said
	signerSilent   atomic.Bool  // it is there and does not answer
}

func newServer(i *instance) (*server, error) {
	mailer, err := i.newMailer()
	if err != nil {
		return nil, err
	}
	shelf, err := i.config.shelf(i.dir, i.clock.Now)
	if err != nil {
		return nil, err
	}
	return &server{instance: i, mailer: mailer, shelf: shelf, health: health{since: map[string]time.Time{}}, metrics: newMetrics()}, nil
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
	return notify.New(notify.Config{DB: i.db, Sender: sender, Text: i18n.Text, HelpDesk: desk,
		Site: "https://" + i.config.Portal.Hosts[0], Now: i.clock.Now, Log: i.log}), nil
}

// run serves until the context ends: signer, certificates, listeners, timers; and
// stops in the reverse order, so that nothing calls what is gone: the jobs after the
// last request, the signer after the last job.
func (s *server) run(ctx context.Context, ready func()) error {
	harden(s.log)
	unlock, err := lockServe(s.servePath())
	if err != nil {
		return err
	}
	defer unlock()
	s.serving = true
	var signers, running sync.WaitGroup
	lasting := context.WithoutCancel(ctx)
	signing, stopSigner := context.WithCancel(lasting)
	defer signers.Wait()
	defer stopSigner()
	jobs, stopJobs := context.WithCancel(lasting)
	defer running.Wait()
	defer stopJobs()
	meanwhile := s.begin(ctx)
	err = errors.Join(s.startSigner(signing, &signers), <-meanwhile)
	if err != nil {
		return err
	}
	err = s.prepare(ctx)
	for began := now(); pki.ClassOf(err) == pki.Busy && ctx.Err() == nil && now().Sub(began) < signerStart; {
		time.Sleep(100 * time.Millisecond) // the signer that answered was another's, and is gone
		err = s.prepare(ctx)
	}
	if err != nil {
		return err
	}
	err = s.recordConfig(ctx)
	if err != nil {
		return err
	}
	s.metrics.registry.MustRegister(stateMetrics{s})
	failed := make(chan error, 8)
	public, internal, err := s.listen(failed)
	if err != nil {
		return err
	}
	s.startJobs(jobs, &running)
	ready()
	tellManager("READY=1")
	lead := s.config.Internal.DrainLead.Duration
	select {
	case <-ctx.Done():
	case err = <-failed:
		lead = 0
	}
	tellManager("STOPPING=1")
	return errors.Join(err, s.drain(lasting, lead, public, internal))
}

// begin makes what needs no signer, while that opens its vault, which is slow on purpose:
// status is read, and the site's pages are parsed.
func (s *server) begin(ctx context.Context) <-chan error {
	s.view = ca.NewView(s.db, caIDs, s.clock.Now, s.log)
	s.ca.View, s.ops.Status = s.view, s.view
	done := make(chan error, 1)
	go func() {
		var reading sync.WaitGroup
		reading.Go(func() {
			err := s.view.Preload(ctx)
			if err != nil { // prepare tries it again
				s.log.Warn("status is not loaded yet", "err", err)
			}
		})
		var err error
		s.site, err = s.portal()
		reading.Wait()
		done <- err
	}()
	return done
}

// drainTime bounds how long requests under way may take after SIGTERM.
const drainTime = 10 * time.Second

// drain turns /ready red, leaves balancers the time to see it, closes the public
// listeners together and lets the requests under way finish. What is not done in time is
// cut. Health and metrics answer until the end.
func (s *server) drain(ctx context.Context, lead time.Duration, public []*http.Server, internal *http.Server) error {
	s.health.set(partDraining, true)
	s.log.Info("draining", "lead", lead.String())
	time.Sleep(lead)
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	results := make(chan error)
	for _, h := range public {
		go func() { results <- shut(ctx, h) }()
	}
	var err error
	for range public {
		err = errors.Join(err, <-results)
	}
	return errors.Join(err, shut(ctx, internal))
}

func shut(ctx context.Context, h *http.Server) error {
	err := h.Shutdown(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("drain requests: %w", err), h.Close())
	}
	return nil
}

func (s *server) startSigner(ctx context.Context, running *sync.WaitGroup) error {
	if !s.config.Signer.Child {
		return s.askSigner(ctx)
	}
	err := s.askSigner(ctx)
	if silent(err) { // beside one that hangs no other can start
		return err
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

// prepare loads what answers need and makes sure of our own certificates, if the audit
// tree is the one that the signer knows (threats AU1, AU2).
func (s *server) prepare(ctx context.Context) error {
	_, err := s.ops.Follow(ctx)
	if err != nil {
		return err
	}
	s.answers = ca.NewAnswers(s.view, s.issuers[issuance.G1], s.clock.Now)
	s.leaves = []*leaf{{zone: "portal", hosts: s.config.Portal.Hosts}, {zone: "api", hosts: s.config.API.Hosts},
		{zone: "portal-auth", hosts: s.config.PortalAuth.Hosts}}
	err = s.renewOwn(ctx)
	if !s.serves() {
		return err
	}
	s.note("certificates", err)
	err = s.view.Load(ctx)
	if err != nil {
		return err
	}
	s.note("crl", s.renewCRLs(ctx)) // as it would be while serving: what was published is served
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
		began := now()
		next, err := s.ca.RenewCRL(ctx, issuer, newest)
		if err != nil {
			failures = append(failures, err)
		} else if next.Number > crl.Number {
			s.log.Info("CRL published", "issuer", issuer, "number", next.Number, "octets", len(next.DER), "took", now().Sub(began).Round(time.Millisecond))
		}
	}
	return errors.Join(append(failures, s.view.Catch(ctx))...)
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
	cmd.AddCommand(c.verifyJournalCommand())
	return cmd
}
