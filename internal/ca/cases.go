package ca

import (
	"encoding/json"
	"errors"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// ReceiveIn stores a case of revocation within the caller's transaction and numbers it.
// With HeldAt set, the certificate is put on hold together with it; with a day from which
// it counts, it is revoked from that day on, and everybody hears of it now.
func (s *Service) ReceiveIn(tx *store.Tx, by pki.Actor, c pki.Certificate, r pki.Revocation, why string) (pki.Revocation, error) {
	r.Serial, r.RequestID, r.AskedBy, r.State, r.ReceivedAt = c.Serial, c.RequestID, by.ID, pki.RevocationReceived, tx.Now
	id, err := tx.AddRevocation(r)
	if err != nil {
		return r, err
	}
	r.ID = id
	facts := map[string]any{
		"serial": r.Serial, "request": r.RequestID, "proof": r.Proof, "reason": r.Reason.String(), "held": !r.HeldAt.IsZero(), "content": r.Content(), "why": why,
	}
	if r.Dates != (pki.RevocationDates{}) {
		facts["effective"], facts["invalidSince"] = r.Dates.Effective, r.Dates.InvalidSince
	}
	_, _, err = tx.Audit(by, "revocation.received", r.ID, facts)
	switch {
	case err != nil:
		return r, err
	case !r.HeldAt.IsZero():
		return r, s.RevokeIn(tx, by, c, pki.CertificateHold, why)
	case r.Dated():
		err = write(tx, by, c, r.Reason, r.Dates, why)
		if err != nil {
			return r, err
		}
		return r, tellContacts(tx, c, "revocation_dated", r.ID, map[string]string{"At": r.Dates.Effective.Format(time.RFC3339), "Reason": r.Reason.String()})
	}
	return r, nil
}

// FinishIn revokes for good what an open case asks for, within the caller's transaction.
// Where the case revoked it from a day on that has come, only what follows is left to do.
// Since when it was invalid is written where two asked for it: the database looks for the
// case that says so (threat RV7).
func (s *Service) FinishIn(tx *store.Tx, by pki.Actor, c pki.Certificate, r pki.Revocation, why string) error {
	if r.Dated() && c.Stopped(tx.Now) && c.Reason != pki.CertificateHold {
		return s.endIn(tx, by, c, c.Reason, why)
	}
	reason := r.Reason
	if reason == pki.CertificateHold { // an officer's hold: nobody gave another reason yet
		reason = pki.Unspecified
	}
	dates := pki.RevocationDates{InvalidSince: r.Dates.InvalidSince}
	if !dates.InvalidSince.IsZero() {
		_, err := s.EndIn(tx, by, r, pki.EventRevoke, why)
		if err != nil {
			return err
		}
	}
	return s.revoke(tx, by, c, reason, dates, why)
}

// EndIn decides a case within the caller's transaction. The mail to the address that was
// typed names the number and the time, and nothing of the certificate: whoever typed it
// may have had no right to more (threat RV4).
func (s *Service) EndIn(tx *store.Tx, by pki.Actor, r pki.Revocation, event pki.RevocationEvent, why string) (pki.Revocation, error) {
	next, err := r.Next(event)
	if err != nil {
		return r, err
	}
	_, _, err = tx.Audit(by, "revocation."+string(next), r.ID, map[string]any{"serial": r.Serial, "why": why})
	if err != nil {
		return r, err
	}
	err = tx.DecideRevocation(r.ID, next, by.ID)
	if err != nil {
		return r, err
	}
	r.State, r.DecidedBy, r.DecidedAt = next, by.ID, tx.Now
	kind := "revocation_refused"
	if next == pki.RevocationDone {
		kind = "revocation_done"
	}
	if r.Email == "" {
		return r, nil
	}
	return r, tx.AddMessage(store.Message{ID: kind + "/" + r.ID, Kind: kind, Request: r.RequestID, Address: r.Email, Language: r.Language,
		Args: map[string]string{"Number": r.ID, "At": tx.Now.Format(time.RFC3339)}})
}

// LiftIn ends a case and the hold that came with it (停止の解除), or the revocation from a
// day to come on, within the caller's transaction. That the audit tree has it is what lets
// the entry leave the CRL (threat RV9). What was dated forward before the hold is so again.
func (s *Service) LiftIn(tx *store.Tx, by pki.Actor, r pki.Revocation, why string) (pki.Revocation, error) {
	c, err := tx.Certificate(r.Serial)
	if err != nil {
		return r, err
	}
	dated := r.Dated()
	if dated && c.Stopped(tx.Now) && c.Reason != pki.CertificateHold {
		return r, pki.E(pki.Conflict, "certificate.revoked_already").With("Serial", c.Serial)
	}
	r, err = s.EndIn(tx, by, r, pki.EventLift, why)
	if err != nil || dated && !c.Dated(tx.Now) { // on hold for another cause
		return r, err
	}
	_, _, err = tx.Audit(by, "certificate.lifted", r.Serial, map[string]any{"case": r.ID, "request": r.RequestID, "held": c.RevokedAt, "proposed": r.ProposedBy})
	if err != nil {
		return r, err
	}
	err = tx.LiftCertificate(r.Serial)
	if err != nil {
		return r, err
	}
	if dated {
		return r, tellContacts(tx, c, "revocation_undated", r.ID, nil)
	}
	err = s.dateAgain(tx, by, c)
	if err != nil {
		return r, err
	}
	return r, tellContacts(tx, c, "lifted", r.ID, nil)
}

// dateAgain revokes what comes back from a hold from the day on that an open case names.
func (s *Service) dateAgain(tx *store.Tx, by pki.Actor, c pki.Certificate) error {
	open, err := tx.Revocations(store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{c.Serial}})
	if err != nil {
		return err
	}
	for _, r := range open {
		if r.Dated() && r.Dates.Effective.After(tx.Now) {
			return write(tx, by, c, r.Reason, r.Dates, "as case "+r.ID+" says")
		}
	}
	return nil
}

// endCases ends every open case of a certificate that is revoked for good, whoever
// revoked it.
func (s *Service) endCases(tx *store.Tx, by pki.Actor, serial, why string) error {
	open, err := tx.Revocations(store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{serial}})
	if err != nil {
		return err
	}
	for _, r := range open {
		_, err = s.EndIn(tx, by, r, pki.EventRevoke, why)
		if err != nil {
			return err
		}
	}
	return nil
}

// HoldRenewalsIn puts on hold what was renewed from a compromised certificate, and from
// that: whoever had the key could renew, and nobody knows who did. An officer decides of
// each (threat RS9). A renewal that is not issued yet is held when it is, see keep.
func (s *Service) HoldRenewalsIn(tx *store.Tx, by pki.Actor, serial string) error {
	for ask := []string{serial}; len(ask) > 0; {
		renewals, err := tx.Renewals(ask)
		if err != nil {
			return err
		}
		ask = nil
		for _, r := range renewals {
			if r.Serial == "" {
				continue
			}
			ask = append(ask, r.Serial)
			c, err := tx.Certificate(r.Serial)
			if err != nil {
				return err
			}
			err = s.holdRenewal(tx, by, c)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) holdRenewal(tx *store.Tx, by pki.Actor, c pki.Certificate) error {
	if c.Stopped(tx.Now) || tx.Now.After(c.NotAfter) {
		return nil
	}
	_, err := s.ReceiveIn(tx, by, c, pki.Revocation{Proof: pki.ByChain, Reason: pki.KeyCompromise, HeldAt: tx.Now},
		"renewed from "+c.Predecessor+", whose key was compromised")
	return err
}

// holdLate puts a renewal on hold that was on its way while what it was renewed from was
// reported compromised.
func (s *Service) holdLate(tx *store.Tx, c pki.Certificate) error {
	old, err := tx.Certificate(c.Predecessor)
	if err != nil || old.RevokedAt.IsZero() || old.Reason != pki.KeyCompromise && old.Reason != pki.CertificateHold {
		return err
	}
	return s.holdRenewal(tx, actor, c)
}

// lifted says whether the last word of the audit records on a certificate, at a time, is
// that its hold was lifted. A revocation that does not count yet is no word.
func lifted(tx *store.Tx, serial string, at time.Time) (bool, error) {
	records, err := tx.AuditOf([]string{serial})
	if err != nil {
		return false, err
	}
	is := false
	for _, r := range records {
		switch r.Kind {
		case "certificate.lifted":
			is = true
		case "certificate.revoked":
			var told struct{ Effective time.Time }
			err = json.Unmarshal(r.Body, &told)
			is = is && err == nil && told.Effective.After(at)
		}
	}
	return is, nil
}

// tellContacts mails everybody whom the request of a certificate names.
func tellContacts(tx *store.Tx, c pki.Certificate, kind, about string, args map[string]string) error {
	r, err := tx.Request(c.RequestID)
	if errors.Is(err, pki.ErrNotFound) {
		return nil // one of our own
	}
	if err != nil {
		return err
	}
	return tx.TellContacts(r, kind, about, args)
}
