package signer

import (
	"time"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// outage is what kept a key from signing, and when that was found.
type outage struct {
	at  time.Time
	err error
}

// outagePause is how long an outage is believed: opening a token that is away may take
// long, and everything that waits for it comes again and asks.
const outagePause = time.Second

// ready says whether the key of an issuer can sign. It is asked before anything is
// journaled or counted, so that waiting for a token costs neither.
func (s *Server) ready(issuer string) error {
	key := s.keys[issuer]
	if key == nil {
		return nil // refused as what it is
	}
	now := s.cfg.Now()
	s.mu.Lock()
	before := s.outages[issuer]
	s.mu.Unlock()
	if before.err != nil && now.Sub(before.at).Abs() < outagePause {
		return before.err
	}
	err := keystore.Ready(key)
	s.note(issuer, err)
	return err
}

// note remembers how the key of an issuer does, and logs when that changes.
func (s *Server) note(issuer string, err error) {
	s.mu.Lock()
	before := s.outages[issuer].err
	s.outages[issuer] = outage{s.cfg.Now(), err}
	s.mu.Unlock()
	switch {
	case err != nil && before == nil:
		s.log.Error("a CA key cannot sign", "issuer", issuer, "code", pki.CodeOf(err), "error", err)
	case err == nil && before != nil:
		s.log.Info("a CA key can sign again", "issuer", issuer)
	}
}
