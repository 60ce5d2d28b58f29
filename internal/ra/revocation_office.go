package ra

import (
	"context"
	"errors"
	"time"

	"inkan/internal/crash"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// RevocationDetail is a case with the certificate it is about.
type RevocationDetail struct {
	Revocation  pki.Revocation
	Certificate pki.Certificate
	There       bool // RevokeDated found it: the same was said before
}

// Revocations lists cases of revocation.
func (s *Service) Revocations(ctx context.Context, by pki.Actor, f store.RevocationFilter) ([]RevocationDetail, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return nil, err
	}
	return read(ctx, s, func(tx *store.Tx) ([]RevocationDetail, error) {
		all, err := tx.Revocations(f)
		if err != nil {
			return nil, err
		}
		out := make([]RevocationDetail, len(all))
		for n, v := range all {
			out[n].Revocation = v
			out[n].Certificate, err = tx.Certificate(v.Serial)
			if err != nil {
				return nil, err
			}
		}
		return out, nil
	})
}

// Revocation reads one case.
func (s *Service) Revocation(ctx context.Context, by pki.Actor, id string) (RevocationDetail, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return RevocationDetail{}, err
	}
	return read(ctx, s, func(tx *store.Tx) (RevocationDetail, error) { return caseOf(tx, id) })
}

func caseOf(tx *store.Tx, id string) (RevocationDetail, error) {
	v, err := tx.Revocation(id)
	if errors.Is(err, pki.ErrNotFound) {
		return RevocationDetail{}, pki.E(pki.NotFound, "revocation.unknown").With("Number", id)
	}
	if err != nil {
		return RevocationDetail{}, err
	}
	c, err := tx.Certificate(v.Serial)
	return RevocationDetail{Revocation: v, Certificate: c}, err
}

// seenCase reads a case and refuses when it is no longer what was shown. One that is
// decided meanwhile is told as that by Revocation.Next.
func seenCase(tx *store.Tx, id, contentHash string) (RevocationDetail, error) {
	d, err := caseOf(tx, id)
	if err != nil {
		return d, err
	}
	if d.Revocation.State == pki.RevocationReceived && !d.Revocation.Is(contentHash) {
		return d, pki.E(pki.Conflict, "revocation.changed").With("Number", id)
	}
	return d, nil
}

// ApproveRevocation is an officer's yes (失効の承認): the certificate is revoked for the
// reason of the case. One person may: the other who wants it is the one who asked. Where
// that one says since when the certificate was invalid, it must be another (threat RV7).
// What counts from a day to come on needs no yes. contentHash is the Hash of the case that
// the officer was shown; this holds for every decision here.
func (s *Service) ApproveRevocation(ctx context.Context, by pki.Actor, id, contentHash, why string) (RevocationDetail, error) {
	err := by.Need(pki.MayRevoke)
	if err != nil {
		return RevocationDetail{}, err
	}
	d, err := change(ctx, s, func(tx *store.Tx) (RevocationDetail, error) {
		d, err := seenCase(tx, id, contentHash)
		if err != nil {
			return d, err
		}
		v := d.Revocation
		switch {
		case v.Dated():
			return d, pki.E(pki.NotYet, "revocation.dated").With("Number", id).With("Date", v.Dates.Effective)
		case !v.Dates.InvalidSince.IsZero() && by.ID == v.AskedBy:
			return d, pki.E(pki.Forbidden, "revocation.since_second").With("Number", id)
		}
		d, err = s.finish(tx, by, d, why)
		crash.At("revocation.2 before commit")
		return d, err
	})
	crash.At("revocation.2 after commit")
	return d, err
}

// finish revokes the certificate of an open case.
func (s *Service) finish(tx *store.Tx, by pki.Actor, d RevocationDetail, why string) (RevocationDetail, error) {
	_, err := d.Revocation.Next(pki.EventRevoke)
	if err != nil {
		return d, err
	}
	err = s.Issuer.FinishIn(tx, by, d.Certificate, d.Revocation, why)
	if err != nil {
		return d, err
	}
	return caseOf(tx, d.Revocation.ID)
}

// RejectRevocation is a word against a case without a hold (失効の却下), LiftRevocation
// against one with a hold (停止の解除) or with a day that has not come. Each takes two
// officers, one after the other, and neither is a holder who asked (pki.Revocation.Second).
func (s *Service) RejectRevocation(ctx context.Context, by pki.Actor, id, contentHash, why string) (RevocationDetail, error) {
	return s.undo(ctx, by, id, contentHash, pki.EventDismiss, why)
}

// LiftRevocation: see RejectRevocation.
func (s *Service) LiftRevocation(ctx context.Context, by pki.Actor, id, contentHash, why string) (RevocationDetail, error) {
	return s.undo(ctx, by, id, contentHash, pki.EventLift, why)
}

func (s *Service) undo(ctx context.Context, by pki.Actor, id, contentHash string, event pki.RevocationEvent, why string) (RevocationDetail, error) {
	err := by.Need(pki.MayRevoke)
	if err != nil {
		return RevocationDetail{}, err
	}
	d, err := change(ctx, s, func(tx *store.Tx) (RevocationDetail, error) {
		d, err := seenCase(tx, id, contentHash)
		if err != nil {
			return d, err
		}
		_, err = d.Revocation.Next(event)
		if err != nil {
			return d, err
		}
		second, err := d.Revocation.Second(by)
		if err != nil {
			return d, err
		}
		switch {
		case !second:
			err = propose(tx, by, d.Revocation, event, why)
		case event == pki.EventLift:
			err = s.lift(tx, by, d.Revocation, why)
		default:
			_, err = s.Issuer.EndIn(tx, by, d.Revocation, event, why)
		}
		if err != nil {
			return d, err
		}
		crash.At("revocation.3 before commit")
		return caseOf(tx, id)
	})
	crash.At("revocation.3 after commit")
	return d, err
}

func propose(tx *store.Tx, by pki.Actor, v pki.Revocation, event pki.RevocationEvent, why string) error {
	_, _, err := tx.Audit(by, "revocation.proposed", v.ID, map[string]any{"event": event, "serial": v.Serial, "why": why})
	if err != nil {
		return err
	}
	return tx.ProposeRevocation(v.ID, by.ID)
}

// lift ends a hold unless somebody else reported the same certificate compromised: that
// case, which found it on hold already, is decided first.
func (s *Service) lift(tx *store.Tx, by pki.Actor, v pki.Revocation, why string) error {
	open, err := tx.Revocations(store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{v.Serial}})
	if err != nil {
		return err
	}
	for _, other := range open {
		if other.ID != v.ID && other.Reason == pki.KeyCompromise {
			return pki.E(pki.Conflict, "revocation.others").With("Number", v.ID).With("Other", other.ID)
		}
	}
	_, err = s.Issuer.LiftIn(tx, by, v, why)
	return err
}

// timeout is who decides where nobody did.
var timeout = pki.System("timeout")

// Queue is what of the open cases needs people.
type Queue struct {
	Open   int
	Oldest time.Time // the oldest of them came then; zero where there is none
	Unheld int       // reports of compromise whose certificate still works
}

// FinishRevocations revokes what holders asked for and nobody decided in time (threat
// RV3), and tells what is waiting.
func (s *Service) FinishRevocations(ctx context.Context) (Queue, error) {
	var q Queue
	var failures []error
	f := store.RevocationFilter{State: pki.RevocationReceived, Limit: 1000}
	for {
		open, err := read(ctx, s, func(tx *store.Tx) ([]pki.Revocation, error) { return tx.Revocations(f) })
		if err != nil {
			return q, errors.Join(append(failures, err)...)
		}
		for _, v := range open {
			f.After = v.ID
			still, err := s.finishIfRipe(ctx, v)
			if err != nil {
				failures = append(failures, err)
			}
			if !still || v.Dated() { // what is dated waits for its day and for nobody
				continue
			}
			q.Open++
			if q.Oldest.IsZero() || v.ReceivedAt.Before(q.Oldest) {
				q.Oldest = v.ReceivedAt
			}
			works, err := s.works(ctx, v)
			if err != nil {
				failures = append(failures, err)
			}
			if works {
				q.Unheld++
			}
		}
		if len(open) < f.Limit {
			return q, errors.Join(failures...)
		}
	}
}

// works says whether a certificate still works that was reported compromised.
func (s *Service) works(ctx context.Context, v pki.Revocation) (bool, error) {
	if v.Reason != pki.KeyCompromise || !v.HeldAt.IsZero() {
		return false, nil
	}
	return read(ctx, s, func(tx *store.Tx) (bool, error) {
		c, err := tx.Certificate(v.Serial)
		return c.State(tx.Now).Usable(), err
	})
}

// finishIfRipe says whether the case stays open.
func (s *Service) finishIfRipe(ctx context.Context, v pki.Revocation) (bool, error) {
	if !v.Ripe(s.Now()) {
		return true, nil
	}
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		d, err := caseOf(tx, v.ID)
		if err != nil || !d.Revocation.Ripe(tx.Now) {
			return err // decided meanwhile
		}
		why := "nobody decided"
		if d.Revocation.Dated() {
			why = "its day has come"
		}
		_, err = s.finish(tx, timeout, d, why)
		crash.At("revocation.4 before commit")
		return err
	})
	crash.At("revocation.4 after commit")
	return err != nil, err
}
