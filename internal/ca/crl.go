package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// publishTries bounds how often a node makes a CRL anew because another took its
// number.
const publishTries = 6

// numberTaken is what the signer says of a number that is not above all before.
const numberTaken = "signer.crl_number"

// mostNew is how many revocations may be added to the last list without reading all rows.
const mostNew = 1000

// PublishCRL makes and publishes the next CRL of an issuer from all rows. Numbers only
// grow, also after a restore (threat ST8): a number is above the last in the database, at
// least the time in seconds, and above the high-water of the signer, which no backup
// brings back. When another node published meanwhile its CRL is returned.
func (s *Service) PublishCRL(ctx context.Context, issuerID string) (store.CRL, error) {
	seen := int64(-1)
	return s.publish(ctx, issuerID, s.allRevoked, func(last store.CRL) bool {
		if seen < 0 {
			seen = last.Number
		}
		return last.Number == seen
	})
}

// RenewCRL publishes the next CRL of an issuer if the newest one is due, with regard
// to a revocation (zero: none). Every node finds it due at about the same time; the
// first publishes, the others take its CRL.
//
// With a million entries all rows take a second, and he who revokes waits for the list:
// it is the last one with what came since, but every CRLEvery it is made of all rows and
// compared with the last (ADR 165).
func (s *Service) RenewCRL(ctx context.Context, issuerID string, newestRevocation time.Time) (store.CRL, error) {
	return s.publish(ctx, issuerID, s.newlyRevoked, func(last store.CRL) bool { return s.CRLDue(last, newestRevocation, s.Now()) })
}

// revoked is what a list is to hold.
type revoked struct {
	at       time.Time // of all revocations that are in it
	draft    *issuance.CRLDraft
	compared time.Time // when all rows were last read
}

// reader gives what the successor of a list is to hold.
type reader func(tx *store.Tx, issuer *issuance.Issuer, last store.CRL) (revoked, error)

// publish makes and publishes the successor of the newest CRL, unless that is not due.
func (s *Service) publish(ctx context.Context, issuerID string, read reader, due func(last store.CRL) bool) (store.CRL, error) {
	issuer := s.Issuers[issuerID]
	if issuer == nil {
		return store.CRL{}, pki.E(pki.Invalid, "issuer.unknown").With("Issuer", issuerID)
	}
	var failure error
	for range publishTries {
		last, err := s.lastCRL(ctx, issuerID)
		if err != nil || !due(last) {
			return last, err
		}
		next, err := s.succeedCRL(ctx, issuer, last, read)
		if !errors.Is(err, pki.ErrConflict) && pki.CodeOf(err) != numberTaken {
			return next, err
		}
		failure = err
	}
	return store.CRL{}, failure
}

// lastCRL gives the newest CRL of an issuer, a zero one before the first.
func (s *Service) lastCRL(ctx context.Context, issuerID string) (store.CRL, error) {
	var crl store.CRL
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		crl, err = tx.LastCRL(issuerID, s.View.have(issuerID))
		return err
	})
	if errors.Is(err, pki.ErrNotFound) {
		return store.CRL{}, nil
	}
	return crl, err
}

// InCRL gives the number of the newest CRL of an issuer if that list has regard to all
// that was revoked or lifted up to a time; 0 where it does not.
func (s *Service) InCRL(ctx context.Context, issuerID string, at time.Time) (int64, error) {
	var number int64
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		last, this, err := tx.LastCRLNumber(issuerID)
		if err == nil && !at.After(this) {
			number = last
		}
		return err
	})
	if errors.Is(err, pki.ErrNotFound) {
		return 0, nil
	}
	return number, err
}

// succeedCRL makes and publishes the successor of a CRL, once.
func (s *Service) succeedCRL(ctx context.Context, issuer *issuance.Issuer, last store.CRL, read reader) (store.CRL, error) {
	r, err := s.revoked(ctx, issuer, last, read)
	if err != nil {
		return store.CRL{}, err
	}
	second := r.at.Truncate(time.Second)
	info, err := s.Signer.Info(ctx)
	if err != nil {
		return store.CRL{}, fmt.Errorf("ask the signer for its high-water: %w", err)
	}
	number := max(last.Number+1, info.CRLNumbers[issuer.ID()]+1, r.at.Unix())
	next := store.CRL{Issuer: issuer.ID(), Number: number, ThisUpdate: r.at, NextUpdate: second.Add(s.CRLLifetime), Compared: r.compared}
	tbs, err := issuer.FinishCRL(r.draft, next.Number, second, next.NextUpdate)
	if err != nil {
		return store.CRL{}, fmt.Errorf("encode CRL of %s: %w", issuer.ID(), err)
	}
	crash.At("crl.1 before the signer")
	signature, err := s.Signer.SignCRL(ctx, issuer.ID(), tbs)
	crash.At("crl.1 after the signer")
	if err != nil {
		return store.CRL{}, fmt.Errorf("sign CRL of %s: %w", issuer.ID(), err)
	}
	next.DER, err = issuer.AssembleCRL(tbs, signature)
	if err != nil {
		return store.CRL{}, fmt.Errorf("assemble CRL of %s: %w", issuer.ID(), err)
	}
	var missing []string
	if r.compared.Equal(r.at) { // a list that was added to lacks nothing of the last
		missing, err = gone(last.DER, next.DER)
		if err != nil {
			return store.CRL{}, err
		}
	}
	next.Cut()
	hash := hashHex(next.DER)
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		err := mayGo(tx, missing, second)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(actor, "crl.published", issuer.ID(), map[string]any{"number": next.Number, "entries": r.draft.Count(), "sha256": hash,
			"this": next.ThisUpdate, "next": next.NextUpdate, "compared": next.Compared})
		if err != nil {
			return err
		}
		err = tx.PublishCRL(next, last.Number)
		if err == nil {
			err = tx.MarkPublished(next.Issuer, next.ThisUpdate)
		}
		crash.At("crl.2 before commit")
		return err
	})
	crash.At("crl.2 after commit")
	if err != nil {
		return next, err
	}
	s.View.take(next)
	return next, nil
}

// revoked gives what the next list of an issuer is to hold. A revocation on its way to
// the disk may bear an earlier time than now, so it is the time of the last commit that
// counts; an empty commit makes that a fresh one.
func (s *Service) revoked(ctx context.Context, issuer *issuance.Issuer, last store.CRL, read reader) (revoked, error) {
	err := s.DB.Update(ctx, func(*store.Tx) error { return nil })
	if err != nil {
		return revoked{}, err
	}
	var r revoked
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		r, err = read(tx, issuer, last)
		r.at = tx.Committed()
		return err
	})
	return r, err
}

// draft begins the successor of a list: about as long.
func draft(last store.CRL) *issuance.CRLDraft {
	return issuance.NewCRLDraft(len(last.DER) + len(last.DER)/64)
}

// allRevoked reads all rows of an issuer's revoked certificates.
func (s *Service) allRevoked(tx *store.Tx, issuer *issuance.Issuer, last store.CRL) (revoked, error) {
	r := revoked{draft: draft(last), compared: tx.Committed()}
	return r, tx.EachCRLEntries(issuer.ID(), tx.Committed().Truncate(time.Second), r.draft.Add)
}

// newlyRevoked adds to the last list what was revoked since. It reads all rows where that
// is due, where it cannot verify the list, and where something is to leave it: a hold was
// lifted. It goes by the time in the list, which is signed, and not by the row's.
func (s *Service) newlyRevoked(tx *store.Tx, issuer *issuance.Issuer, last store.CRL) (revoked, error) {
	at := tx.Committed()
	info, listed, err := issuer.OpenCRL(last.DER)
	if err != nil || at.Sub(last.Compared).Abs() >= s.CRLEvery {
		return s.allRevoked(tx, issuer, last)
	}
	lifts, err := tx.LastLifts()
	if err != nil {
		return revoked{}, err
	}
	if !lifts[issuer.ID()].Before(info.ThisUpdate) {
		return s.allRevoked(tx, issuer, last)
	}
	added, few, err := tx.CRLEntriesSince(issuer.ID(), info.ThisUpdate, at.Truncate(time.Second), mostNew)
	if err != nil {
		return revoked{}, err
	}
	if !few {
		return s.allRevoked(tx, issuer, last)
	}
	again := map[string]bool{} // a hold that became final has another entry now
	for news := issuance.ReadEntries(added); ; {
		serial, more := news.Next()
		if !more {
			err = news.Err()
			break
		}
		again[string(serial)] = true
	}
	r := revoked{draft: draft(last), compared: last.Compared}
	err = errors.Join(err, listed.Copy(r.draft, again))
	r.draft.Add(added, len(again))
	return r, err
}

// gone lists the serials of the last CRL that the next one does not hold. Entries are
// in the order of their revocation, so both are read side by side; what is not found
// so is looked for everywhere.
func gone(last, next []byte) ([]string, error) {
	before, after := issuance.ReadCRL(last), issuance.ReadCRL(next)
	missing := map[string]bool{}
	candidate, more := after.Next()
	for {
		serial, ok := before.Next()
		if !ok {
			break
		}
		if more && bytes.Equal(serial, candidate) {
			candidate, more = after.Next()
			continue
		}
		missing[string(serial)] = true
	}
	for all := issuance.ReadCRL(next); len(missing) > 0; {
		serial, ok := all.Next()
		if !ok {
			break
		}
		delete(missing, string(serial))
	}
	var out []string
	for octets := range missing {
		out = append(out, pki.SerialHex(new(big.Int).SetBytes([]byte(octets))))
	}
	return out, errors.Join(before.Err(), after.Err())
}

// mayGo refuses a CRL from which an entry has vanished though its certificate has not
// expired and no record says that its hold was lifted: somebody un-revoked it behind our back (threat RV9).
func mayGo(tx *store.Tx, serials []string, at time.Time) error {
	for _, serial := range serials {
		c, err := tx.Certificate(serial)
		if err != nil {
			return fmt.Errorf("look up %s of the last CRL: %w", serial, err)
		}
		cert, err := x509.ParseCertificate(c.DER) // its own word, not the row's
		if err != nil {
			return fmt.Errorf("parse %s of the last CRL: %w", serial, err)
		}
		if cert.NotAfter.Before(at) {
			continue
		}
		back, err := lifted(tx, serial, at)
		if err != nil {
			return err
		}
		if !back {
			return pki.E(pki.Forbidden, "crl.entry_vanished").With("Serial", serial)
		}
	}
	return nil
}

// CRLDue says whether an issuer's CRL must be renewed: none, old enough, or without
// the newest revocation.
func (s *Service) CRLDue(crl store.CRL, newestRevocation, now time.Time) bool {
	return crl.Number == 0 || now.Sub(crl.ThisUpdate) >= s.CRLEvery || newestRevocation.After(crl.ThisUpdate)
}
