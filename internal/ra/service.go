// Package ra is the registration authority's office (登録局): the use cases of
// requests, letters, downloads and revocations, and who may do them. The command
// line and the console call the same functions.
//
// It owns permissions, four-eyes and what a request may become. It does not own
// signing or keys (ca, signer), pages (portal) or how an operator proves who it is
// (ops): it is given a proved pki.Actor.
package ra

import (
	"context"
	"crypto"
	"log/slog"
	"runtime"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// Issuer is the certification authority as this office needs it.
type Issuer interface {
	// Issue carries an approved request to its certificate; repeatable.
	Issue(ctx context.Context, requestID string) (pki.Request, error)
	// Prepare builds and lints the certificate of a request that may not be stored yet,
	// IntendIn stores what will be signed within the transaction that stores the
	// request as issuing, Finish signs it.
	Prepare(r pki.Request, public crypto.PublicKey) (*issuance.Linted, error)
	IntendIn(tx *store.Tx, r pki.Request, l *issuance.Linted) (store.Intent, error)
	Finish(ctx context.Context, r pki.Request, intent store.Intent) (pki.Certificate, error)
	// RevokeIn revokes within the caller's transaction.
	RevokeIn(tx *store.Tx, by pki.Actor, c pki.Certificate, reason pki.Reason, why string) error
	// ReceiveIn stores a case of revocation, with a hold where HeldAt is set, or dated
	// forward; FinishIn revokes for good what it asks for, EndIn decides it, LiftIn lifts
	// its hold or date, and HoldRenewalsIn holds what was renewed from a certificate: all
	// within the caller's transaction.
	ReceiveIn(tx *store.Tx, by pki.Actor, c pki.Certificate, r pki.Revocation, why string) (pki.Revocation, error)
	FinishIn(tx *store.Tx, by pki.Actor, c pki.Certificate, r pki.Revocation, why string) error
	EndIn(tx *store.Tx, by pki.Actor, r pki.Revocation, event pki.RevocationEvent, why string) (pki.Revocation, error)
	LiftIn(tx *store.Tx, by pki.Actor, r pki.Revocation, why string) (pki.Revocation, error)
	HoldRenewalsIn(tx *store.Tx, by pki.Actor, serial string) error
	// DestroyKeyIn destroys the key of a request within the caller's transaction.
	DestroyKeyIn(tx *store.Tx, by pki.Actor, request string, facts map[string]any) error
}

// Custody is the part of the signer process that knows reference IDs and opens held
// keys.
type Custody interface {
	NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (keystore.Verifier, error)
	SealReference(ctx context.Context, requestID string, ref pki.Secret) ([]byte, error)
	CheckReference(ctx context.Context, requestID string, ref pki.Secret, v keystore.Verifier) (bool, error)
	OpenReference(ctx context.Context, requestID string, sealed []byte) (pki.Secret, error)
	OpenHeld(ctx context.Context, r keystore.OpenRequest) ([]byte, error)
	Rewrap(ctx context.Context, r keystore.RewrapRequest) (keystore.Held, error)
}

// Config is what the office is made of.
type Config struct {
	DB      *store.DB
	Issuer  Issuer
	Custody Custody

	// ActivateOnIssue lets the letter's IDs work from the moment of issue (a demo);
	// otherwise from the recorded dispatch of the letter (threat LE3).
	ActivateOnIssue bool
	KeyType         pki.KeyType // of keys that the CA makes
	Chain           [][]byte    // DER of issuing CA and root, for PKCS#12 files
	IssuerName      string      // shown on pages

	Now func() time.Time
	Log *slog.Logger
}

// Service is the office.
type Service struct {
	Config
	making chan struct{} // has room for the files that are made at once
}

// New makes the office.
func New(c Config) *Service {
	return &Service{Config: c, making: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// read runs one use case that only reads.
func read[T any](ctx context.Context, s *Service, fn func(tx *store.Tx) (T, error)) (T, error) {
	var out T
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		out, err = fn(tx)
		return err
	})
	return out, err
}

// change runs one use case that writes.
func change[T any](ctx context.Context, s *Service, fn func(tx *store.Tx) (T, error)) (T, error) {
	var out T
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		var err error
		out, err = fn(tx)
		return err
	})
	return out, err
}

// step makes one conditional step of a request with its audit record.
func step(tx *store.Tx, by pki.Actor, r *pki.Request, event pki.RequestEvent, c store.RequestChange, facts map[string]any) error {
	next, err := r.State.Next(event)
	if err != nil {
		return err
	}
	body := map[string]any{"from": r.State, "to": next, "content": r.ContentHash}
	for k, v := range facts {
		body[k] = v
	}
	_, _, err = tx.Audit(by, "request."+string(next), r.ID, body)
	if err != nil {
		return err
	}
	err = tx.MoveRequest(*r, next, c)
	if err != nil {
		return err
	}
	r.State = next
	return nil
}
