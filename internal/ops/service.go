// Package ops is the operations' office (運用): operators, their roles and the proof
// of who acts, API clients, and the audit tree's checkpoints.
//
// It owns who an actor is. It does not own what an actor may do to a request (ra) or
// how the tree is kept (store).
package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// Config is what the office is made of.
type Config struct {
	DB     *store.DB
	Signer TreeSigner
	// Saw is told of each checkpoint with which the tree was compared; nil: nobody is.
	Saw func(head store.Head, note []byte)
	// Asserted accepts a bare name as an actor. Only a demo's wiring sets it
	// (threat CO1).
	Asserted bool
	// Login says which account of the operating system somebody logged in under to start
	// this process; an error where nobody did, or where the system cannot tell. Only
	// commands of people have it.
	Login func() (pki.Account, error)
	// Shared are accounts, besides root's, that stand for no single person: the instance's.
	Shared []uint32
	Now    func() time.Time
	Log    *slog.Logger
}

// Service is the office.
type Service struct {
	Config
	clients sync.Map // store.APIClient by the SHA-256 of its certificate
}

// New makes the office.
func New(c Config) *Service { return &Service{Config: c} }

// AddOperator makes an operator with a certificate of the Operations CA. by is the
// administrator who adds, or the system at init.
func (s *Service) AddOperator(ctx context.Context, by pki.Actor, o pki.Operator) error {
	if by.Auth != pki.AuthSystem {
		err := by.Need(pki.MayManage)
		if err != nil {
			return err
		}
	}
	err := CheckOperator(o)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		all, err := tx.Operators()
		if err != nil {
			return err
		}
		err = s.CheckAccount(o.Account, all)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(by, "operator.added", o.ID, map[string]any{"name": o.Name, "roles": o.Roles, "certificate": o.CertSHA256,
			"osUser": o.Account.Name, "osUID": o.Account.UID})
		if err != nil {
			return err
		}
		return tx.AddOperator(o)
	})
	if errors.Is(err, pki.ErrConflict) {
		return pki.E(pki.Conflict, "operator.exists").With("Operator", o.ID)
	}
	return err
}

// CheckOperator checks the form of an ID and that the roles exist and do not
// conflict.
func CheckOperator(o pki.Operator) error {
	err := CheckID(o.ID)
	if err != nil {
		return err
	}
	if len(o.Roles) == 0 {
		return pki.E(pki.Invalid, "operator.roles")
	}
	for _, r := range o.Roles {
		if !slices.Contains(pki.Roles(), r) || r == pki.RoleRA {
			return pki.E(pki.Invalid, "operator.roles")
		}
	}
	for _, pair := range pki.RoleConflicts() {
		if slices.Contains(o.Roles, pair[0]) && slices.Contains(o.Roles, pair[1]) {
			return pki.E(pki.Forbidden, "operator.role_conflict").With("Role", string(pair[0])).With("Other", string(pair[1]))
		}
	}
	return nil
}

// CheckID checks the form of an ID of an operator or an API client: it names files.
func CheckID(id string) error {
	if id == "" || len(id) > 40 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return pki.E(pki.Invalid, "operator.id")
	}
	return nil
}

// AcceptClock makes the commit from which on the present time is that of the instance,
// because an administrator says that it is right, and gives that time.
func (s *Service) AcceptClock(ctx context.Context, by pki.Actor) (time.Time, error) {
	err := by.Need(pki.MayManage)
	if err != nil {
		return time.Time{}, err
	}
	var at time.Time
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		at = tx.Now
		_, _, err := tx.Audit(by, "clock.accepted", "", map[string]any{"now": at, "last": tx.Committed()})
		return err
	})
	return at, err
}

// Operators lists all operators.
func (s *Service) Operators(ctx context.Context) ([]pki.Operator, error) {
	var all []pki.Operator
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		all, err = tx.Operators()
		return err
	})
	return all, err
}

// DisableOperator ends an operator's powers at once.
func (s *Service) DisableOperator(ctx context.Context, by pki.Actor, id string) error {
	err := by.Need(pki.MayManage)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(by, "operator.disabled", id, nil)
		if err != nil {
			return err
		}
		return tx.DisableOperator(id)
	})
	if errors.Is(err, pki.ErrConflict) {
		return pki.E(pki.NotFound, "operator.unknown").With("Operator", id)
	}
	return err
}

// AddAPIClient registers a program that acts for a vendor or a relying system. by is
// the administrator who adds, or the system at init.
func (s *Service) AddAPIClient(ctx context.Context, by pki.Actor, c store.APIClient) error {
	if by.Auth != pki.AuthSystem {
		err := by.Need(pki.MayManage)
		if err != nil {
			return err
		}
	}
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(by, "client.added", c.ID, map[string]any{"name": c.Name, "role": c.Role, "certificate": c.CertSHA256})
		if err != nil {
			return err
		}
		return tx.AddAPIClient(c)
	})
}

// Client identifies an API client by the certificate of its TLS connection: by the
// certificate's hash, never by its name (threats RS8, CO2). Neither row changes, so
// what was found is remembered; whether client and certificate are still in force is
// asked anew in each transaction that acts (threats RS1, RS14; see GrantsOf).
func (s *Service) Client(ctx context.Context, certDER []byte) (store.APIClient, error) {
	hash := sha256.Sum256(certDER)
	found, ok := s.clients.Load(hash)
	if ok {
		return found.(store.APIClient), nil
	}
	unknown := pki.E(pki.Forbidden, "client.unknown")
	var c store.APIClient
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		c, err = tx.APIClientByHash(hex.EncodeToString(hash[:]))
		if err != nil {
			return err
		}
		inForce, err := tx.ClientInForce(c.ID)
		if err == nil && !inForce {
			err = unknown
		}
		return err
	})
	if errors.Is(err, pki.ErrNotFound) {
		return c, unknown
	}
	if err == nil {
		s.clients.Store(hash, c) // as many as there are clients
	}
	return c, err
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
