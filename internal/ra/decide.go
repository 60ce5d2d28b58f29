package ra

import (
	"context"
	"slices"
	"time"

	"inkan/internal/crash"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// Approve is one person's yes to exactly the content whose hash is given. The first yes to
// a request that no operator entered is the check (審査); the yes of a second person
// approves it and starts the issue. Who entered, checked or edited it is refused
// (invariant 8).
func (s *Service) Approve(ctx context.Context, by pki.Actor, id, contentHash string) (pki.Request, error) {
	r, err := change(ctx, s, func(tx *store.Tx) (pki.Request, error) { return s.approve(tx, by, id, contentHash) })
	crash.At("approve after commit")
	if err != nil || r.State != pki.Approved {
		return r, err
	}
	issued, err := s.Issuer.Issue(ctx, r.ID)
	if pki.ClassOf(err) == pki.Busy || pki.ClassOf(err) == pki.Internal && err != nil {
		// The approval stands; the background worker carries it on.
		s.Log.WarnContext(ctx, "approved; issue goes on in the background", "request", r.ID, "err", err)
		return r, nil
	}
	return issued, err
}

func (s *Service) approve(tx *store.Tx, by pki.Actor, id, contentHash string) (pki.Request, error) {
	r, err := seen(tx, id, contentHash)
	if err != nil {
		return r, err
	}
	if r.EnteredBy == "" && r.CheckedBy == "" {
		err = by.Need(pki.MayCheck)
		if err != nil {
			return r, err
		}
		editors, err := tx.Editors(id)
		if err != nil {
			return r, err
		}
		if slices.Contains(editors, by.ID) {
			return r, pki.E(pki.Forbidden, "request.same_person")
		}
		err = step(tx, by, &r, pki.EventCheck, store.RequestChange{CheckedBy: by.ID}, nil)
		r.CheckedBy = by.ID
		return r, err
	}
	err = by.Need(pki.MayApprove)
	if err != nil {
		return r, err
	}
	editors, err := tx.Editors(id)
	if err != nil {
		return r, err
	}
	err = pki.SecondPerson(r, editors, by)
	if err != nil {
		return r, err
	}
	err = step(tx, by, &r, pki.EventApprove, store.RequestChange{ApprovedBy: by.ID, ApprovedAt: tx.Now}, nil)
	r.ApprovedBy, r.ApprovedAt = by.ID, tx.Now
	crash.At("approve before commit")
	return r, err
}

// seen reads a request and refuses when its content is no longer what was shown.
func seen(tx *store.Tx, id, contentHash string) (pki.Request, error) {
	r, err := tx.Request(id)
	if err != nil {
		return r, unknownRequest(err, id)
	}
	if contentHash != r.ContentHash || !r.Application.Is(r.ContentHash) {
		return r, pki.E(pki.Conflict, "request.changed").With("RequestID", id)
	}
	return r, nil
}

// Correct replaces the typed content of a received or returned request. The editor
// is excluded from approving it, and an earlier check falls away (threats AP6, AP7).
func (s *Service) Correct(ctx context.Context, by pki.Actor, id, contentHash string, a pki.Application) (pki.Request, error) {
	err := by.Need(pki.MaySubmit)
	if err != nil {
		return pki.Request{}, err
	}
	return change(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		r, err := seen(tx, id, contentHash)
		if err != nil {
			return r, err
		}
		next := pki.Received
		if r.State == pki.Returned {
			next, err = r.State.Next(pki.EventCorrect)
		} else if r.State != pki.Received && r.State != pki.Reviewing {
			_, err = r.State.Next(pki.EventCorrect)
		}
		if err != nil {
			return r, err
		}
		a.Holder, a.CSR = r.Application.Holder, r.Application.CSR // another institution is another request
		err = a.Validate(r.Source)
		if err != nil {
			return r, err
		}
		_, _, err = tx.Audit(by, "request.corrected", id, map[string]any{"before": r.ContentHash, "content": a.Hash()})
		if err != nil {
			return r, err
		}
		err = tx.AddEditor(id, by.ID)
		if err != nil {
			return r, err
		}
		err = tx.ChangeContent(r, next, a)
		if err != nil {
			return r, err
		}
		return tx.Request(id)
	})
}

// Return sends a request back for correction (差戻し).
func (s *Service) Return(ctx context.Context, by pki.Actor, id, why string) (pki.Request, error) {
	return s.end(ctx, by, pki.MayCheck, request(id), pki.EventReturn, why)
}

// Reject refuses a request for good (却下), for exactly the content whose hash is given.
func (s *Service) Reject(ctx context.Context, by pki.Actor, id, contentHash, why string) (pki.Request, error) {
	shown := func(tx *store.Tx) (pki.Request, error) { return seen(tx, id, contentHash) }
	return s.end(ctx, by, pki.MayReject, shown, pki.EventReject, why)
}

// Cancel withdraws a request (取消). After the issue it is possible until the first
// download: the certificate is revoked and its key destroyed in the same
// transaction, so that a request made twice by mistake leaves nothing behind.
func (s *Service) Cancel(ctx context.Context, by pki.Actor, id, why string) (pki.Request, error) {
	return s.end(ctx, by, pki.MayCancel, request(id), pki.EventCancel, why)
}

// request reads a request as it is.
func request(id string) func(tx *store.Tx) (pki.Request, error) {
	return func(tx *store.Tx) (pki.Request, error) {
		r, err := tx.Request(id)
		if err != nil {
			return r, unknownRequest(err, id)
		}
		return r, nil
	}
}

// end makes a request's last step.
func (s *Service) end(ctx context.Context, by pki.Actor, need pki.Permission, read func(tx *store.Tx) (pki.Request, error), event pki.RequestEvent, why string) (pki.Request, error) {
	err := by.Need(need)
	if err != nil {
		return pki.Request{}, err
	}
	return change(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		r, err := read(tx)
		if err != nil {
			return r, err
		}
		wasIssued := r.State == pki.Issued
		if wasIssued && !r.FetchedAt.IsZero() {
			return r, pki.E(pki.Conflict, "request.fetched").With("RequestID", r.ID)
		}
		err = step(tx, by, &r, event, store.RequestChange{}, map[string]any{"why": why})
		if err != nil || !wasIssued {
			return r, err
		}
		c, err := tx.Certificate(r.Serial)
		if err != nil {
			return r, err
		}
		if !c.Stopped(tx.Now) || c.Reason == pki.CertificateHold {
			err = s.Issuer.RevokeIn(tx, by, c, pki.CessationOfOperation, "request cancelled")
		}
		return r, err
	})
}

// Dispatch records that the letter left (差出): from now on its IDs work and nobody
// in the office can read the reference ID any more (threats LE3, LE4).
func (s *Service) Dispatch(ctx context.Context, by pki.Actor, id string) (pki.Request, error) {
	err := by.Need(pki.MayDispatch)
	if err != nil {
		return pki.Request{}, err
	}
	return change(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		r, err := tx.Request(id)
		if err != nil {
			return r, unknownRequest(err, id)
		}
		if !r.Dispatched.IsZero() {
			return r, nil // said twice is done once
		}
		if r.State != pki.Issued || r.Kind == pki.Renewal { // a renewal has no letter
			return r, pki.E(pki.Conflict, "request.state").With("State", string(r.State)).With("Event", "dispatch")
		}
		_, _, err = tx.Audit(by, "letter.dispatched", id, nil)
		if err != nil {
			return pki.Request{}, err
		}
		err = tx.MarkDispatched(id)
		if err != nil {
			return pki.Request{}, err
		}
		return tx.Request(id)
	})
}

// Extend moves the download deadline (ダウンロード期限の延長) to the end of a day in
// Japan. The held key's outer seal moves into the present month, so that the old
// month's key can be destroyed on time; the inner seal, under the letter's reference
// ID, stays as it is (threats DL9, CK10).
func (s *Service) Extend(ctx context.Context, by pki.Actor, id string, day time.Time) (pki.Request, error) {
	err := by.Need(pki.MayExtend)
	if err != nil {
		return pki.Request{}, err
	}
	until := pki.Day(day).AddDate(0, 0, 1).Add(-time.Second).UTC()
	key, err := read(ctx, s, func(tx *store.Tx) (store.SealedKey, error) {
		r, err := tx.Request(id)
		if err != nil {
			return store.SealedKey{}, unknownRequest(err, id)
		}
		c, err := tx.Certificate(r.Serial)
		if r.State != pki.Issued || err != nil || until.After(c.NotAfter) || !until.After(r.Downloads) {
			return store.SealedKey{}, pki.E(pki.Invalid, "request.extension").With("RequestID", id)
		}
		k, err := tx.KeyOfRequest(id)
		if pki.ClassOf(err) == pki.NotFound {
			return k, pki.E(pki.Gone, "request.key_gone").With("RequestID", id)
		}
		return k, err
	})
	if err != nil {
		return pki.Request{}, err
	}
	held, err := s.Custody.Rewrap(ctx, keystore.RewrapRequest{KeyID: key.ID, RequestID: id, SPKISHA256: key.SPKISHA256, Blob: key.Blob})
	if err != nil {
		return pki.Request{}, err
	}
	return change(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		_, _, err := tx.Audit(by, "letter.extended", id, map[string]any{"until": until, "epoch": held.Epoch, "blob": store.SealedKey{Blob: held.Blob}.BlobHash()})
		if err != nil {
			return pki.Request{}, err
		}
		err = tx.RewrapKey(key.ID, key.Blob, held.Blob, held.Epoch)
		if err != nil {
			return pki.Request{}, err
		}
		err = tx.ExtendDownloads(id, until)
		if err != nil {
			return pki.Request{}, err
		}
		return tx.Request(id)
	})
}

// Revoke revokes a certificate (失効) at an officer's decision.
func (s *Service) Revoke(ctx context.Context, by pki.Actor, serial string, reason pki.Reason, why string) (pki.Certificate, error) {
	err := by.Need(pki.MayRevoke)
	if err != nil {
		return pki.Certificate{}, err
	}
	c, err := change(ctx, s, func(tx *store.Tx) (pki.Certificate, error) {
		c, err := certificate(tx, serial)
		if err != nil {
			return c, err
		}
		if reason == pki.CertificateHold && !c.Stopped(tx.Now) { // with a case, of which officers decide
			_, err = s.Issuer.ReceiveIn(tx, by, c, pki.Revocation{Proof: pki.ByOfficer, Reason: reason, HeldAt: tx.Now}, why)
		} else {
			err = s.Issuer.RevokeIn(tx, by, c, reason, why)
		}
		if err != nil {
			return c, err
		}
		crash.At("revoke before commit")
		return tx.Certificate(c.Serial)
	})
	crash.At("revoke after commit")
	return c, err
}

// Certificates lists certificates.
func (s *Service) Certificates(ctx context.Context, by pki.Actor, f store.CertificateFilter) ([]pki.Certificate, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return nil, err
	}
	return read(ctx, s, func(tx *store.Tx) ([]pki.Certificate, error) { return tx.Certificates(f) })
}

// Certificate reads one certificate by serial.
func (s *Service) Certificate(ctx context.Context, by pki.Actor, serial string) (pki.Certificate, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return pki.Certificate{}, err
	}
	return read(ctx, s, func(tx *store.Tx) (pki.Certificate, error) { return certificate(tx, serial) })
}
