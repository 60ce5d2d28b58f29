package ops

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// AddAPIClient registers a program that acts for a vendor or a relying system. by is
// the administrator who adds, or the system at init.
func (s *Service) AddAPIClient(ctx context.Context, by pki.Actor, c store.APIClient) error {
	if by.Auth != pki.AuthSystem {
		err := by.Need(pki.MayManage)
		if err != nil {
			return err
		}
	}
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(by, "client.added", c.ID, map[string]any{"name": c.Name, "role": c.Role, "certificate": c.CertSHA256})
		if err != nil {
			return err
		}
		return tx.AddAPIClient(c)
	})
	if errors.Is(err, pki.ErrConflict) {
		return pki.E(pki.Conflict, "client.exists").With("Client", c.ID)
	}
	return err
}

// ClientDetail is an API client with its certificate and what it may issue under.
type ClientDetail struct {
	Client      store.APIClient
	Certificate pki.Certificate
	Grants      []pki.Grant // in force
}

// APIClients lists all API clients.
func (s *Service) APIClients(ctx context.Context) ([]ClientDetail, error) {
	var out []ClientDetail
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		all, err := tx.APIClients()
		if err != nil {
			return err
		}
		out = make([]ClientDetail, len(all))
		for n, c := range all {
			out[n], err = detail(tx, c)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func detail(tx *store.Tx, c store.APIClient) (ClientDetail, error) {
	d := ClientDetail{Client: c}
	var err error
	d.Certificate, err = tx.OwnCertificateByHash(c.CertSHA256)
	if err != nil {
		return d, err
	}
	grants, err := tx.GrantsOf(c)
	for _, g := range grants {
		if g.ApprovedBy != "" && g.RevokedAt.IsZero() && tx.Now.Before(g.EndsAt) {
			d.Grants = append(d.Grants, g)
		}
	}
	return d, err
}

// APIClient reads one API client, who is not disabled.
func (s *Service) APIClient(ctx context.Context, id string) (store.APIClient, error) {
	var c store.APIClient
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		c, err = living(tx, id)
		return err
	})
	return c, err
}

func living(tx *store.Tx, id string) (store.APIClient, error) {
	c, err := tx.APIClient(id)
	if errors.Is(err, pki.ErrNotFound) {
		return c, pki.E(pki.NotFound, "client.missing").With("Client", id)
	}
	if err == nil && !c.Disabled.IsZero() {
		err = pki.E(pki.Conflict, "client.disabled").With("Client", id).With("At", c.Disabled)
	}
	return c, err
}

// DisableAPIClient ends what a client may do, at once and for good, and revokes its
// certificate.
func (s *Service) DisableAPIClient(ctx context.Context, by pki.Actor, id string) error {
	err := by.Need(pki.MayManage)
	if err != nil {
		return err
	}
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		c, err := living(tx, id)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(by, "client.disabled", id, map[string]any{"certificate": c.CertSHA256})
		if err != nil {
			return err
		}
		err = tx.DisableAPIClient(id)
		if err != nil {
			return err
		}
		return s.revoke(tx, by, c, pki.PrivilegeWithdrawn, "API client "+id+" was disabled")
	})
}

// RenewAPIClient gives a client, as it was seen, a certificate with another key. The old
// one is revoked in the same transaction: there is never a time at which both work.
func (s *Service) RenewAPIClient(ctx context.Context, by pki.Actor, seen store.APIClient, certSHA256 string) error {
	err := by.Need(pki.MayManage)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		_, err := living(tx, seen.ID)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(by, "client.renewed", seen.ID, map[string]any{"certificate": certSHA256, "before": seen.CertSHA256})
		if err != nil {
			return err
		}
		err = s.revoke(tx, by, seen, pki.SupersededReason, "API client "+seen.ID+" got another certificate")
		if err != nil {
			return err
		}
		return tx.RenewAPIClient(seen, certSHA256)
	})
	if errors.Is(err, pki.ErrConflict) {
		return pki.E(pki.Conflict, "client.changed").With("Client", seen.ID)
	}
	return err
}

// revoke revokes the certificate of a client, unless it is revoked.
func (s *Service) revoke(tx *store.Tx, by pki.Actor, c store.APIClient, reason pki.Reason, why string) error {
	cert, err := tx.OwnCertificateByHash(c.CertSHA256)
	if err != nil {
		return err
	}
	err = s.Authority.RevokeIn(tx, by, cert, reason, why)
	if pki.CodeOf(err) == "certificate.revoked_already" {
		return nil
	}
	return err
}

// statusAge is how old the knowledge in memory may be that answers for a client. A view
// that follows the database is younger.
const statusAge = 5 * time.Second

// Client identifies an API client by the certificate of its TLS connection: by the
// certificate's hash, never by its name (threats RS8, CO2). Whose certificate it is does
// not change and is remembered. Whether it is in force is asked each time, of the memory
// of this process where that is fresh: who is disabled or renewed has it revoked in the
// same transaction. The transaction of an order asks the database again (threats RS1,
// RS14; see GrantsOf and ClientInForce).
func (s *Service) Client(ctx context.Context, cert *x509.Certificate) (store.APIClient, pki.Actor, error) {
	c, err := s.client(ctx, cert)
	if err != nil {
		return store.APIClient{}, pki.Actor{}, err
	}
	return c, pki.Actor{ID: "api/" + c.ID, Auth: pki.AuthTLS, Roles: []pki.Role{c.Role}}, nil
}

func (s *Service) client(ctx context.Context, cert *x509.Certificate) (store.APIClient, error) {
	hash := sha256.Sum256(cert.Raw)
	found, ok := s.clients.Load(hash)
	if ok && s.knownGood(cert) {
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
		inForce, err := tx.ClientInForce(c)
		if err == nil && !inForce {
			err = unknown
		}
		return err
	})
	if errors.Is(err, pki.ErrNotFound) {
		return c, unknown
	}
	if err == nil && !ok {
		s.clients.Store(hash, c) // as many as there were certificates of clients
	}
	return c, err
}

// knownGood says whether the memory of this process knows, up to now, that a certificate
// of the Operations CA is in force.
func (s *Service) knownGood(cert *x509.Certificate) bool {
	now := s.Now()
	if s.Status == nil || now.After(cert.NotAfter) || now.Sub(s.Status.Horizon()) > statusAge {
		return false
	}
	row, known := s.Status.Status(issuance.Operations, cert.SerialNumber)
	return known && (row.Revoked.IsZero() || now.Before(row.Effective))
}
