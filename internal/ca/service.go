// Package ca is the certification authority's office (認証局): it issues, revokes,
// publishes CRLs, answers status from memory, keeps the pool of holders' keys, and
// finishes after a crash what was begun.
//
// It owns the order in which things are stored and signed (docs/ISSUANCE.md). It does
// not own who asked and whether they may (ra), the CA keys (signer), or what a
// certificate looks like (issuance).
package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// Signer is the signer process as this office needs it: the CA keys, the
// key-encryption keys and the ID key stay on its side.
type Signer interface {
	SignIntents(ctx context.Context, requests []keystore.SignRequest) ([]keystore.SignResult, error)
	SignCRL(ctx context.Context, issuer string, tbs []byte) ([]byte, error)
	SealPool(ctx context.Context, keys []keystore.PoolKey) ([][]byte, error)
	Hold(ctx context.Context, r keystore.HoldRequest) (keystore.Held, error)
	NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (keystore.Verifier, error)
	SealReference(ctx context.Context, requestID string, ref pki.Secret) ([]byte, error)
	DestroyEpochs(ctx context.Context, before string) ([]string, error)
	Info(ctx context.Context) (keystore.Info, error)
}

// Config is what the office is made of.
type Config struct {
	DB       *store.DB
	Signer   Signer
	Issuers  map[string]*issuance.Issuer
	Profiles map[string]issuance.Profile

	PoolKeyType pki.KeyType // type of the keys made ahead
	PoolSize    int         // keys to keep ahead; 0: none
	// RenewalGrace is how many days after the end of the old certificate a renewed one
	// may still be downloaded.
	RenewalGrace int

	// View is what this process knows of status; nil where it keeps nothing in memory.
	View *View

	CRLLifetime time.Duration // nextUpdate − thisUpdate
	CRLEvery    time.Duration // a new CRL at least this often

	Now func() time.Time
	Log *slog.Logger
}

// Service is the office.
type Service struct{ Config }

// New makes the office.
func New(c Config) *Service { return &Service{c} }

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
