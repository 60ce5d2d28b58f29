// Package ops is the operations' office (運用): operators, their roles and the proof
// of who acts, the recovery of an administrator, API clients, and the audit tree's
// checkpoints.
//
// It owns who an actor is. It does not own what an actor may do to a request (ra) or
// how the tree is kept (store).
package ops

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
)

// Authority is the certification authority as this office needs it.
type Authority interface {
	// RevokeIn revokes within the caller's transaction.
	RevokeIn(tx *store.Tx, by pki.Actor, c pki.Certificate, reason pki.Reason, why string) error
}

// Status is the view of certificates that a process keeps in memory.
type Status interface {
	Status(issuer string, number *big.Int) (store.StatusRow, bool)
	// Horizon is the time up to which everything is known.
	Horizon() time.Time
}

// Config is what the office is made of.
type Config struct {
	DB     *store.DB
	Signer TreeSigner
	// Saw is told of each checkpoint with which the tree was compared; nil: nobody is.
	Saw func(head audit.Head, note []byte)
	// Root is the certificate of the root CA, whose key makes an administrator where none
	// can act.
	Root *x509.Certificate
	// Authority revokes the certificates of API clients.
	Authority Authority
	// Status is what this process knows of certificates in memory; nil where it keeps
	// nothing, and the database is asked.
	Status Status
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
	// BelieveClock makes this process believe the clock of the machine as it is; nil: nothing
	// doubts it.
	BelieveClock func()
	Log          *slog.Logger
}

// Service is the office.
type Service struct {
	Config
	clients sync.Map        // store.APIClient by the SHA-256 of its certificate, never forgotten
	told    map[string]bool // operators whom TellRecoveries has looked at
}

// New makes the office.
func New(c Config) *Service {
	if c.BelieveClock == nil {
		c.BelieveClock = func() {}
	}
	return &Service{Config: c, told: map[string]bool{}}
}

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
	err = s.DB.Update(ctx, func(tx *store.Tx) error { return s.addIn(tx, by, o) })
	return exists(err, o.ID)
}

// exists gives a conflict of IDs its words.
func exists(err error, operator string) error {
	if errors.Is(err, pki.ErrConflict) {
		return pki.E(pki.Conflict, "operator.exists").With("Operator", operator)
	}
	return err
}

func (s *Service) addIn(tx *store.Tx, by pki.Actor, o pki.Operator) error {
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

// AcceptClock puts on the record that the present time is that of the instance, because an
// administrator, who proved ClockAccept, says that it is right; and gives that time.
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

// InForce counts the operators who have a role and can act.
func (s *Service) InForce(ctx context.Context, role pki.Role) (int, error) {
	var ids []string
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		ids, err = tx.OperatorsInForce(role)
		return err
	})
	return len(ids), err
}

// DisableOperator ends an operator's powers at once. The last administrator who can act
// stays: nobody else could make one.
func (s *Service) DisableOperator(ctx context.Context, by pki.Actor, id string) error {
	err := by.Need(pki.MayManage)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		err := mayDisable(tx, id)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(by, "operator.disabled", id, nil)
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

func mayDisable(tx *store.Tx, id string) error {
	admins, err := tx.OperatorsInForce(pki.RoleAdmin)
	if err != nil {
		return err
	}
	if len(admins) == 1 && admins[0] == id {
		return pki.E(pki.Conflict, "operator.last_admin").With("Operator", id)
	}
	return nil
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
