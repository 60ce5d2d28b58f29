package catest

import (
	"context"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// When says on which side of a call a hook stands.
type When string

// The sides of a call. After, the signer has done what it was asked.
const (
	Before When = "before"
	After  When = "answer lost" // the call took effect and its answer is replaced by the hook's error
)

type hook struct {
	when When
	do   func() error
}

// Signer is the client of the real signer. Hooks come between: what they answer is
// what the office hears.
type Signer struct {
	*keystore.Client
	// Spoil changes what the signer answers to SignIntents: a faulty key.
	Spoil func([]keystore.SignResult)
	steps *Steps
	mu    sync.Mutex
	hooks map[string][]hook
	calls []string
	epoch string
}

// Once lets do come between at the next call of a method, once.
func (s *Signer) Once(method string, when When, do func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks[method] = append(s.hooks[method], hook{when, do})
}

// Calls lists the methods called so far.
func (s *Signer) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// Epoch gives the last month before which keys were to be destroyed.
func (s *Signer) Epoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

func (s *Signer) at(method string, when When) error {
	s.mu.Lock()
	if when == Before {
		s.calls = append(s.calls, method)
	}
	var found func() error
	for i, h := range s.hooks[method] {
		if h.when == when {
			found = h.do
			s.hooks[method] = append(s.hooks[method][:i:i], s.hooks[method][i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	if found == nil {
		return nil
	}
	return found()
}

// around calls the real signer between its hooks.
func around[T any](s *Signer, method string, call func() (T, error)) (T, error) {
	var none T
	err := s.at(method, Before)
	if err != nil {
		return none, err
	}
	var out T
	err = s.steps.take(method, errAway, func() error {
		var err error
		out, err = call()
		return err
	})
	if err == nil {
		err = s.at(method, After)
	}
	if err != nil {
		return none, err
	}
	return out, nil
}

// SignIntents passes the call on.
func (s *Signer) SignIntents(ctx context.Context, requests []keystore.SignRequest) ([]keystore.SignResult, error) {
	results, err := around(s, "SignIntents", func() ([]keystore.SignResult, error) { return s.Client.SignIntents(ctx, requests) })
	if err == nil && s.Spoil != nil {
		s.Spoil(results)
	}
	return results, err
}

// SignCRL passes the call on.
func (s *Signer) SignCRL(ctx context.Context, issuer string, tbs []byte) ([]byte, error) {
	return around(s, "SignCRL", func() ([]byte, error) { return s.Client.SignCRL(ctx, issuer, tbs) })
}

// SignCheckpoint passes the call on.
func (s *Signer) SignCheckpoint(ctx context.Context, after int64, next pki.Checkpoint, proof tlog.TreeProof) ([]byte, error) {
	return around(s, "SignCheckpoint", func() ([]byte, error) { return s.Client.SignCheckpoint(ctx, after, next, proof) })
}

// AcceptLoss passes the call on.
func (s *Signer) AcceptLoss(ctx context.Context, l pki.Loss, by []pki.LossSignature) error {
	_, err := around(s, "AcceptLoss", func() (struct{}, error) { return struct{}{}, s.Client.AcceptLoss(ctx, l, by) })
	return err
}

// SealPool passes the call on.
func (s *Signer) SealPool(ctx context.Context, keys []keystore.PoolKey) ([][]byte, error) {
	return around(s, "SealPool", func() ([][]byte, error) { return s.Client.SealPool(ctx, keys) })
}

// Hold passes the call on.
func (s *Signer) Hold(ctx context.Context, r keystore.HoldRequest) (keystore.Held, error) {
	return around(s, "Hold", func() (keystore.Held, error) { return s.Client.Hold(ctx, r) })
}

// OpenHeld passes the call on.
func (s *Signer) OpenHeld(ctx context.Context, r keystore.OpenRequest) ([]byte, error) {
	return around(s, "OpenHeld", func() ([]byte, error) { return s.Client.OpenHeld(ctx, r) })
}

// Rewrap passes the call on.
func (s *Signer) Rewrap(ctx context.Context, r keystore.RewrapRequest) (keystore.Held, error) {
	return around(s, "Rewrap", func() (keystore.Held, error) { return s.Client.Rewrap(ctx, r) })
}

// NewVerifier passes the call on.
func (s *Signer) NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (keystore.Verifier, error) {
	return around(s, "NewVerifier", func() (keystore.Verifier, error) { return s.Client.NewVerifier(ctx, requestID, ref) })
}

// CheckReference passes the call on.
func (s *Signer) CheckReference(ctx context.Context, requestID string, ref pki.Secret, v keystore.Verifier) (bool, error) {
	return around(s, "CheckReference", func() (bool, error) { return s.Client.CheckReference(ctx, requestID, ref, v) })
}

// SealReference passes the call on.
func (s *Signer) SealReference(ctx context.Context, requestID string, ref pki.Secret) ([]byte, error) {
	return around(s, "SealReference", func() ([]byte, error) { return s.Client.SealReference(ctx, requestID, ref) })
}

// OpenReference passes the call on.
func (s *Signer) OpenReference(ctx context.Context, requestID string, blob []byte) (pki.Secret, error) {
	return around(s, "OpenReference", func() (pki.Secret, error) { return s.Client.OpenReference(ctx, requestID, blob) })
}

// DestroyEpochs passes the call on.
func (s *Signer) DestroyEpochs(ctx context.Context, before string) ([]string, error) {
	s.mu.Lock()
	s.epoch = before
	s.mu.Unlock()
	return around(s, "DestroyEpochs", func() ([]string, error) { return s.Client.DestroyEpochs(ctx, before) })
}

// Info passes the call on.
func (s *Signer) Info(ctx context.Context) (keystore.Info, error) {
	return around(s, "Info", func() (keystore.Info, error) { return s.Client.Info(ctx) })
}
