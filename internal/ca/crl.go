package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// PublishCRL makes and publishes the next CRL of an issuer. Numbers only grow: the
// number is at least the time in seconds, so that it grows also after a restore
// (threat ST8), and the signer refuses one that it has seen. When another node
// published meanwhile its CRL is returned.
func (s *Service) PublishCRL(ctx context.Context, issuerID string) (store.CRL, error) {
	issuer := s.Issuers[issuerID]
	if issuer == nil {
		return store.CRL{}, pki.E(pki.Invalid, "issuer.unknown").With("Issuer", issuerID)
	}
	var last store.CRL
	var entries [][]byte
	var now time.Time
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		now = tx.Now.UTC().Truncate(time.Second)
		last, err = tx.LastCRL(issuerID)
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return err
		}
		entries, err = tx.CRLEntries(issuerID, now)
		return err
	})
	if err != nil {
		return store.CRL{}, err
	}
	next := store.CRL{Issuer: issuerID, Number: max(last.Number+1, now.Unix()), ThisUpdate: now, NextUpdate: now.Add(s.CRLLifetime)}
	tbs, err := issuer.CRLTBS(next.Number, next.ThisUpdate, next.NextUpdate, entries)
	if err != nil {
		return store.CRL{}, fmt.Errorf("encode CRL of %s: %w", issuerID, err)
	}
	signature, err := s.Signer.SignCRL(ctx, issuerID, tbs)
	if err != nil {
		return store.CRL{}, fmt.Errorf("sign CRL of %s: %w", issuerID, err)
	}
	next.DER, err = issuer.AssembleCRL(tbs, signature)
	if err != nil {
		return store.CRL{}, fmt.Errorf("assemble CRL of %s: %w", issuerID, err)
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		err := s.keepsRevoked(tx, last, next)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(actor, "crl.published", issuerID, map[string]any{"number": next.Number, "entries": len(entries), "sha256": hashHex(next.DER)})
		if err != nil {
			return err
		}
		return tx.PublishCRL(next, last.Number)
	})
	if errors.Is(err, pki.ErrConflict) {
		err = s.DB.View(ctx, func(tx *store.Tx) error {
			var err error
			next, err = tx.LastCRL(issuerID)
			return err
		})
	}
	return next, err
}

// keepsRevoked refuses a CRL from which an entry of the last one has vanished though
// its certificate has not expired: somebody un-revoked it behind our back (RV9).
func (s *Service) keepsRevoked(tx *store.Tx, last, next store.CRL) error {
	if len(last.DER) == 0 {
		return nil
	}
	before, err := x509.ParseRevocationList(last.DER)
	if err != nil {
		return fmt.Errorf("parse last CRL: %w", err)
	}
	after, err := x509.ParseRevocationList(next.DER)
	if err != nil {
		return fmt.Errorf("parse next CRL: %w", err)
	}
	listed := make(map[string]bool, len(after.RevokedCertificateEntries))
	for _, e := range after.RevokedCertificateEntries {
		listed[pki.SerialHex(e.SerialNumber)] = true
	}
	for _, e := range before.RevokedCertificateEntries {
		serial := pki.SerialHex(e.SerialNumber)
		if listed[serial] {
			continue
		}
		c, err := tx.Certificate(serial)
		if err != nil {
			return fmt.Errorf("look up %s of the last CRL: %w", serial, err)
		}
		if !c.NotAfter.Before(next.ThisUpdate) {
			return pki.E(pki.Forbidden, "crl.entry_vanished").With("Serial", serial)
		}
	}
	return nil
}

// CRLDue says whether an issuer's CRL must be renewed: none, old enough, or older
// than a revocation.
func (s *Service) CRLDue(crl store.CRL, newestRevocation, now time.Time) bool {
	return crl.Number == 0 || now.Sub(crl.ThisUpdate) >= s.CRLEvery ||
		!newestRevocation.IsZero() && !newestRevocation.Truncate(time.Second).Before(crl.ThisUpdate)
}
