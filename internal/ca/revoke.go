package ca

import (
	"context"
	"errors"
	"time"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// RevokeIn revokes a certificate within the caller's transaction: the row, its CRL
// entry, the audit record, the end of the key that may still be held here and of every
// open case, and the mails. What was renewed from a compromised one is put on hold with
// it (threat RS9). Already revoked: *pki.Error certificate.revoked_already.
func (s *Service) RevokeIn(tx *store.Tx, by pki.Actor, c pki.Certificate, reason pki.Reason, why string) error {
	return s.revoke(tx, by, c, reason, pki.RevocationDates{}, why)
}

// revoke is RevokeIn, and may say since when the certificate was invalid.
func (s *Service) revoke(tx *store.Tx, by pki.Actor, c pki.Certificate, reason pki.Reason, dates pki.RevocationDates, why string) error {
	if c.Stopped(tx.Now) && (c.Reason != pki.CertificateHold || reason == pki.CertificateHold) {
		return pki.E(pki.Conflict, "certificate.revoked_already").With("Serial", c.Serial)
	}
	err := write(tx, by, c, reason, dates, why)
	if err != nil {
		return err
	}
	if reason == pki.CertificateHold { // everybody hears of it, who may want it undone (threat RV1)
		return tellContacts(tx, c, "revoked", c.Serial+"/"+reason.String()+"/"+tx.Now.Format(time.RFC3339Nano), map[string]string{"Reason": reason.String()})
	}
	return s.endIn(tx, by, c, reason, why)
}

// write writes a revocation: the audit record, the row and its CRL entry.
func write(tx *store.Tx, by pki.Actor, c pki.Certificate, reason pki.Reason, dates pki.RevocationDates, why string) error {
	serial, err := pki.ParseSerial(c.Serial)
	if err != nil {
		return err
	}
	c.Reason, c.EffectiveAt, c.InvalidSince = reason, tx.Now, dates.InvalidSince
	facts := map[string]any{"reason": reason.String(), "why": why, "request": c.RequestID}
	if !dates.Effective.IsZero() {
		c.EffectiveAt = dates.Effective
		facts["effective"] = dates.Effective
	}
	if !dates.InvalidSince.IsZero() {
		facts["invalidSince"] = dates.InvalidSince
	}
	_, _, err = tx.Audit(by, "certificate.revoked", c.Serial, facts)
	if err != nil {
		return err
	}
	return tx.RevokeCertificate(c, issuance.EncodeEntry(serial, c.EffectiveAt, reason, c.InvalidSince))
}

// endIn does what follows from a revocation that counts: the end of every open case, of
// the key that may still be held here and of the bond to what was renewed, and the mail.
func (s *Service) endIn(tx *store.Tx, by pki.Actor, c pki.Certificate, reason pki.Reason, why string) error {
	err := s.endCases(tx, by, c.Serial, why)
	if err != nil || c.RequestID == "" {
		return err
	}
	err = reopen(tx, c)
	if err != nil {
		return err
	}
	err = s.DestroyKeyIn(tx, by, c.RequestID, map[string]any{"revoked": reason.String()})
	if err != nil {
		return err
	}
	if reason == pki.KeyCompromise {
		err = s.HoldRenewalsIn(tx, by, c.Serial)
		if err != nil {
			return err
		}
	}
	r, err := tx.Request(c.RequestID)
	if err != nil || r.Application.Email == "" { // an API client's request has no address
		return err
	}
	at := tx.Now
	if c.Stopped(at) && c.Reason != pki.CertificateHold { // since the day that it was dated to
		at = c.EffectiveAt
	}
	return tx.AddMessage(store.Message{
		ID: "revoked/" + c.Serial + "/" + reason.String(), Kind: "revoked", Request: r.ID, Address: r.Application.Email, Language: r.Language,
		Args: map[string]string{"HolderCode": r.Application.Holder.Code, "Terminal": r.Application.TerminalName, "Reason": reason.String(), "At": at.Format(time.RFC3339)},
	})
}

// KeptAfterUse is how long a holder's key stays here after its certificate was
// first seen in use.
const KeptAfterUse = 30 * 24 * time.Hour

// Sweep destroys held keys whose time is over and revokes what nobody fetched by the
// deadline (threat LE2), drops tickets, and shreds epoch keys under which nothing
// lives any more (threat CK10). It returns how many keys it destroyed.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	destroyed := 0
	for {
		var due []pki.Request
		err := s.DB.View(ctx, func(tx *store.Tx) error {
			var err error
			due, err = tx.KeysDue(tx.Now.Add(-KeptAfterUse), 100)
			return err
		})
		if err != nil {
			return destroyed, err
		}
		if len(due) == 0 {
			break
		}
		for _, r := range due {
			err = s.DB.Update(ctx, func(tx *store.Tx) error {
				err := s.endKey(tx, r.ID)
				crash.At("sweep.1 before commit")
				return err
			})
			crash.At("sweep.1 after commit")
			if err != nil {
				return destroyed, err
			}
			destroyed++
		}
	}
	var oldest string
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.DropTickets()
		if err != nil {
			return err
		}
		_, err = tx.DropFlows()
		if err != nil {
			return err
		}
		err = tx.DropDrafts()
		if err != nil {
			return err
		}
		err = tx.DropOverdueReferences()
		if err != nil {
			return err
		}
		other, err := tx.DestroyPoolKeysBut(s.PoolKeyType)
		if err != nil {
			return err
		}
		if other > 0 {
			_, _, err = tx.Audit(actor, "pool.emptied", "pool", map[string]any{"keys": other, "kept": s.PoolKeyType})
			if err != nil {
				return err
			}
		}
		oldest, err = tx.OldestEpoch()
		return err
	})
	if err != nil {
		return destroyed, err
	}
	// The present month and the one before are always in use: a key may be on its
	// way between the signer and the database.
	last := pki.Month(pki.AddMonths(s.Now(), -1))
	if oldest == "" || oldest > last {
		oldest = last
	}
	crash.At("sweep.2 before the signer")
	_, err = s.Signer.DestroyEpochs(ctx, oldest)
	crash.At("sweep.2 after the signer")
	return destroyed, err
}

// endKey destroys the held key of a request and, when nobody fetched it by the
// deadline, revokes the certificate in the same transaction.
func (s *Service) endKey(tx *store.Tx, id string) error {
	r, err := tx.Request(id)
	if err != nil {
		return err
	}
	overdue := tx.Now.After(r.Downloads)
	used := !r.Installed.IsZero() && tx.Now.Sub(r.Installed) > KeptAfterUse
	if r.State != pki.Issued || !overdue && !used {
		return nil // extended or cancelled since it was listed
	}
	err = s.DestroyKeyIn(tx, actor, r.ID, map[string]any{"deadline": r.Downloads, "fetched": !r.FetchedAt.IsZero()})
	if err != nil || !overdue || !r.FetchedAt.IsZero() {
		return err
	}
	c, err := tx.Certificate(r.Serial)
	if err != nil {
		return err
	}
	err = s.RevokeIn(tx, actor, c, pki.CessationOfOperation, "not fetched by the deadline")
	if pki.CodeOf(err) == "certificate.revoked_already" {
		return nil
	}
	return err
}

// DestroyKeyIn destroys the key of a request within the caller's transaction, with its
// audit record. Where there is none any more, nothing happens.
func (s *Service) DestroyKeyIn(tx *store.Tx, by pki.Actor, request string, facts map[string]any) error {
	destroyed, err := tx.DestroyKey(request)
	if err != nil || !destroyed {
		return err
	}
	_, _, err = tx.Audit(by, "key.destroyed", request, facts)
	return err
}

// staleIntent is the age beyond which the signer would soon call an intent
// backdated: it is given up and the request starts anew with another serial.
const staleIntent = 45 * time.Minute

var stale = pki.E(pki.Busy, pki.StaleIntent)

func (s *Service) tooOld(intent store.Intent) bool {
	return intent.State == "open" && s.Now().Sub(intent.MadeAt) > staleIntent
}

// Recover finishes what a crash left: every intent without a result that is older
// than grace, and every approved, generating or failed request. It is the normal
// path of the background worker, too.
func (s *Service) Recover(ctx context.Context, grace time.Duration) error {
	var intents []store.Intent
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		intents, err = tx.OpenIntents(tx.Now.Add(-grace), 1000)
		return err
	})
	if err != nil {
		return err
	}
	waiting, err := s.waiting(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, intent := range intents {
		err = s.resume(ctx, intent)
		if err != nil {
			failures = append(failures, err)
		}
	}
	for _, id := range waiting {
		_, err = s.Issue(ctx, id)
		if err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// resume finishes an intent, or gives it up when it is too old.
func (s *Service) resume(ctx context.Context, intent store.Intent) error {
	if s.tooOld(intent) {
		return s.dropStale(ctx, intent)
	}
	var r pki.Request
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		err := proveIntent(tx, intent)
		if err != nil || intent.Request == "" {
			return err
		}
		r, err = tx.Request(intent.Request)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.Finish(ctx, r, intent)
	return err
}

// waiting lists the requests that are to be issued. What failed for another cause than
// its age would be refused again, so an operator must look at it; however many of those
// there are, they keep nobody else waiting.
func (s *Service) waiting(ctx context.Context) ([]string, error) {
	const page = 1000
	var ids []string
	filter := store.RequestFilter{States: []pki.RequestState{pki.Approved, pki.Generating, pki.Failed}, Limit: page}
	for {
		var found []pki.Request
		err := s.DB.View(ctx, func(tx *store.Tx) error {
			var err error
			found, err = tx.Requests(filter)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if r.State != pki.Failed || r.Failure == pki.StaleIntent {
				ids = append(ids, r.ID)
			}
			filter.After = r.ID
		}
		if len(found) < page {
			return ids, nil
		}
	}
}

// dropStale abandons an intent whose signature may have been made but was never
// stored, and therefore never left: the request starts anew with another serial.
func (s *Service) dropStale(ctx context.Context, intent store.Intent) error {
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(actor, "certificate.abandoned", intent.Serial, map[string]any{"request": intent.Request, "code": "stale"})
		if err != nil {
			return err
		}
		err = tx.CloseIntent(intent.Serial, "abandoned")
		if err != nil || intent.Request == "" {
			return err
		}
		return s.failIn(tx, intent.Request, stale)
	})
	if errors.Is(err, pki.ErrConflict) {
		return nil // another worker closed it
	}
	return err
}
