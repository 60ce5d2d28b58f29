package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// Config is what a signer is started with.
type Config struct {
	Dir           string     // the vault, the journal, the lock
	Socket        string     // unix socket
	Passphrase    pki.Secret // of the vault
	Issuers       map[string]*issuance.Issuer
	Keys          map[string]string // issuer ID → key URI; missing: keystore.KeyURI of the ID
	PINFile       string            // opens tokens; read when a token is opened
	Profiles      map[string]issuance.Profile
	EdgeUID       int    // the one user who may connect
	RatePerMinute int    // signatures of the holder profile; 0: 600
	Ready         func() // called when the socket listens; may be nil
	Now           func() time.Time
	Elapsed       func() time.Duration // what only passes, from any beginning; nil: by Now
	Log           *slog.Logger
}

const (
	defaultRate = 600
	ownRate     = 600 // a minute, of each profile of our own certificates and of CRLs
	maxConns    = 128
	maxLarge    = 2 // CRLs in memory at once
	limiterCRL  = "crl"
)

// Server is a signer. Its methods are the calls of the edge; they may also be used
// without a socket.
type Server struct {
	cfg     Config
	log     *slog.Logger
	vault   *keystore.Vault
	keys    map[string]crypto.Signer
	lock    *os.File
	journal *journal
	refused atomic.Int64

	mu       sync.Mutex // memory and limits; journal lines are added under it, in order
	memory   *memory
	limiters map[string]*rate.Limiter // a minute's signatures, filled evenly
	outages  map[string]outage        // by issuer
}

var _ keystore.Service = (*Server)(nil)

// New opens vault, journal and CA keys. A second signer on the same directory is
// refused with signer.running. A Server that is not served must be closed.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("signer needs a clock and a log")
	}
	if cfg.Elapsed == nil {
		began := cfg.Now()
		cfg.Elapsed = func() time.Duration { return cfg.Now().Sub(began) }
	}
	if cfg.RatePerMinute == 0 {
		cfg.RatePerMinute = defaultRate
	}
	err := keystore.CheckMode(cfg.Dir)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(cfg.Dir) // before the vault, which is slow on purpose: who waits asks often
	if err != nil {
		return nil, err
	}
	vault, err := keystore.OpenVault(cfg.Dir, cfg.Passphrase)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &Server{cfg: cfg, log: cfg.Log, vault: vault, lock: lock, memory: newMemory(), keys: map[string]crypto.Signer{}, outages: map[string]outage{}}
	s.cfg.Passphrase = "" // not needed any more
	s.limiters = map[string]*rate.Limiter{limiterCRL: perMinute(ownRate)}
	for id := range cfg.Profiles {
		n := ownRate
		if id == issuance.ProfileHolder {
			n = cfg.RatePerMinute
		}
		s.limiters[id] = perMinute(n)
	}
	err = s.open()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// allows counts one signature of a profile, or of CRLs. The time is one that nobody can
// set: a clock that is put forward gives nothing away, and one that is put back locks
// nobody out.
func (s *Server) allows(profile string) bool {
	return s.limiters[profile].AllowN(time.Unix(0, 0).Add(s.cfg.Elapsed()), 1)
}

// perMinute allows so many signatures a minute, all of them at once or one after another.
func perMinute(n int) *rate.Limiter { return rate.NewLimiter(rate.Limit(float64(n)/60), n) }

func (s *Server) open() error {
	for _, id := range slices.Sorted(maps.Keys(s.cfg.Issuers)) {
		err := s.openKey(id)
		if err != nil {
			return fmt.Errorf("open key of %s: %w", id, err)
		}
	}
	journal, err := openJournal(s.cfg.Dir, s.vault.JournalKey(), s.log, s.memory.apply, s.summary)
	if err != nil {
		return err
	}
	s.journal = journal
	// A key file that came back with a backup goes again (threat CK10).
	err = s.vault.DestroyEpochs(s.memory.destroyed)
	if err != nil {
		return err
	}
	return s.journal.add(record{At: s.cfg.Now().Unix(), Kind: kindStart, Mode: s.vault.Mode()}).wait()
}

// summary is for the head of a segment. It may know of lines that the journal does not
// have yet: those follow, or their callers are told that they failed.
func (s *Server) summary() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.summary(s.cfg.Now())
}

// openKey opens the key of the certificate or none (threat CK6). A token that is away
// does not keep the signer from what needs no signature of it.
func (s *Server) openKey(id string) error {
	uri := s.cfg.Keys[id]
	if uri == "" {
		uri = keystore.KeyURI(id)
	}
	key, err := s.vault.OpenKey(keystore.Place{URI: uri, PINFile: s.cfg.PINFile}, s.cfg.Issuers[id].Certificate().PublicKey)
	if pki.ClassOf(err) == pki.Busy {
		s.log.Error("the token of a CA key is away", "issuer", id, "code", pki.CodeOf(err), "error", err)
		err = nil
	}
	if err != nil {
		return err
	}
	s.keys[id] = key
	return nil
}

// Close gives journal and lock back, and leaves the tokens. Serve does it by itself.
func (s *Server) Close() error {
	keystore.CloseTokens()
	var err error
	if s.journal != nil {
		err = s.journal.close()
	}
	return errors.Join(err, s.lock.Close())
}

// Serve listens and answers until ctx ends; calls under way are finished then.
func (s *Server) Serve(ctx context.Context) error {
	l, err := listen(s.cfg.Socket, s.cfg.EdgeUID)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	conns := newConnections()
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		conns.drain()
	})
	defer stop()
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	err = s.accept(ctx, l, conns)
	conns.wait()
	_ = os.Remove(s.cfg.Socket)
	return errors.Join(err, s.Close())
}

func (s *Server) accept(ctx context.Context, l *net.UnixListener, conns *connections) error {
	large := make(chan struct{}, maxLarge)
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			_ = l.Close()
			conns.drain()
			return fmt.Errorf("accept call: %w", err)
		}
		conns.add(conn)
		go func() {
			s.serve(ctx, conn, large)
			conns.remove(conn)
			<-slots
		}()
	}
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn, large chan struct{}) {
	uid, err := peerUID(conn)
	if err != nil || uid != s.cfg.EdgeUID {
		s.refused.Add(1)
		s.log.ErrorContext(ctx, "signer refused a connection", "code", "signer.peer", "uid", uid, "error", err)
		return
	}
	err = keystore.ServeConn(context.WithoutCancel(ctx), conn, s, large, s.log)
	if err != nil { // a caller that gave up, or one that speaks something else
		s.log.WarnContext(ctx, "signer connection ended", "error", err)
	}
}

// connections are those open, so that they can be drained.
type connections struct {
	mu       sync.Mutex
	open     map[*net.UnixConn]bool
	draining bool
	group    sync.WaitGroup
}

func newConnections() *connections { return &connections{open: map[*net.UnixConn]bool{}} }

func (c *connections) add(conn *net.UnixConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.group.Add(1)
	c.open[conn] = true
	if c.draining {
		_ = conn.CloseRead()
	}
}

func (c *connections) remove(conn *net.UnixConn) {
	c.mu.Lock()
	delete(c.open, conn)
	c.mu.Unlock()
	_ = conn.Close()
	c.group.Done()
}

// drain ends the reading half: who rests sees the end, who works still answers.
func (c *connections) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	for conn := range c.open {
		_ = conn.CloseRead()
	}
}

func (c *connections) wait() { c.group.Wait() }
