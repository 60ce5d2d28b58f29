package signer

import (
	"context"

	"inkan/internal/crash"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// The calls about sealing are the vault's; the month is the signer's own clock's.

func (s *Server) month() string { return pki.Month(s.cfg.Now()) }

// SealPool seals fresh keys into the pool.
func (s *Server) SealPool(_ context.Context, keys []keystore.PoolKey) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		blob, err := s.vault.SealPool(k, s.month())
		if err != nil {
			return nil, err
		}
		out[i] = blob
	}
	crash.At("signer.pool sealed")
	return out, nil
}

// Hold takes a key from the pool for a request.
func (s *Server) Hold(ctx context.Context, r keystore.HoldRequest) (keystore.Held, error) {
	held, err := s.vault.Hold(ctx, r, s.month())
	crash.At("signer.hold sealed")
	return held, s.alarm(err)
}

// OpenHeld gives the PKCS#8 key of a request.
func (s *Server) OpenHeld(ctx context.Context, r keystore.OpenRequest) ([]byte, error) {
	key, err := s.vault.OpenHeld(ctx, r)
	crash.At("signer.open opened")
	return key, s.alarm(err)
}

// Rewrap seals a held key anew under the present month.
func (s *Server) Rewrap(_ context.Context, r keystore.RewrapRequest) (keystore.Held, error) {
	held, err := s.vault.Rewrap(r, s.month())
	return held, s.alarm(err)
}

// NewVerifier makes what the database keeps of a reference ID.
func (s *Server) NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (keystore.Verifier, error) {
	return s.vault.NewVerifier(ctx, requestID, ref)
}

// CheckReference says whether ref is the reference ID of the request.
func (s *Server) CheckReference(ctx context.Context, requestID string, ref pki.Secret, v keystore.Verifier) (bool, error) {
	return s.vault.CheckReference(ctx, requestID, ref, v)
}

// SealReference keeps a reference ID until its letter is printed.
func (s *Server) SealReference(_ context.Context, requestID string, ref pki.Secret) ([]byte, error) {
	return s.vault.SealReference(requestID, ref, s.month())
}

// OpenReference gives it back.
func (s *Server) OpenReference(_ context.Context, requestID string, blob []byte) (pki.Secret, error) {
	ref, err := s.vault.OpenReference(requestID, blob)
	return ref, s.alarm(err)
}

// A live epoch outlives the last download deadline of its keys, whatever the edge
// says: 180 days and the day itself fit into seven calendar months.
const epochMonths = 6

// DestroyEpochs destroys the keys of the months strictly before a month, as far as
// they may go, and names them. The journal knows first: a crash in between leaves a
// destruction that the next start completes.
func (s *Server) DestroyEpochs(_ context.Context, before string) ([]string, error) {
	now := s.cfg.Now()
	if before > pki.Month(now) {
		return nil, pki.E(pki.Invalid, "signer.epoch").With("Before", before)
	}
	if s.vault.Mode() == keystore.ModeLive {
		before = min(before, pki.Month(pki.AddMonths(now, -epochMonths)))
	}
	months, err := s.vault.EpochsBefore(before)
	if err != nil || len(months) == 0 {
		return nil, err
	}
	crash.At("signer.epochs before the journal")
	err = s.journalEpochs(record{At: now.Unix(), Kind: kindDestroy, Epochs: months}).wait()
	if err != nil {
		return nil, err
	}
	s.log.Info("signer destroys epochs", "epochs", months)
	crash.At("signer.epochs journaled")
	err = s.vault.DestroyEpochs(months)
	crash.At("signer.epochs destroyed")
	return months, err
}

// journalEpochs has the memory know first: a segment that begins behind the line repeats
// it in its head.
func (s *Server) journalEpochs(rec record) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory.apply(rec)
	return s.journal.add(rec)
}

// Info tells about the signer.
func (s *Server) Info(context.Context) (keystore.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := keystore.Info{
		Mode: s.vault.Mode(), InstanceID: s.vault.InstanceID(), AuditVerifierKey: s.vault.AuditVerifierKey(),
		Tree: s.memory.tree, CRLNumbers: s.memory.crlNumbers(), Refused: s.refused.Load(),
	}
	for _, l := range s.memory.losses {
		info.Losses = append(info.Losses, l.Loss)
	}
	return info, nil
}

// alarm counts what only a defect or an attack can bring about: rows or blobs that
// do not belong together.
func (s *Server) alarm(err error) error {
	switch pki.CodeOf(err) {
	case "seal.open", "seal.form", "seal.key_differs", "seal.not_bound", "seal.epoch":
		s.refused.Add(1)
	}
	return err
}
