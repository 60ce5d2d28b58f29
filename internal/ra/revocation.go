package ra

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"inkan/internal/crash"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// RevocationWay is on what a holder asks for a revocation: the request whose two IDs
// were right when the flow began, or the certificate that the connection proved.
type RevocationWay struct {
	RequestID string
	Leaf      *x509.Certificate
}

// RevocationInput is a wish to revoke (失効申請).
type RevocationInput struct {
	RevocationWay
	Flow     string // one flow asks once, however often its button is pressed
	Email    string
	Reason   pki.Reason
	Language string // of mails to Email
	Source   netip.Addr
}

// RevocationSubject is the certificate of a way as its pages show it.
type RevocationSubject struct {
	RequestID string
	Holder    pki.Holder
	Terminal  string
	NotAfter  time.Time
	Held      bool // it is on hold already
	Renewed   bool // a renewal of it is in force: it would be put on hold for a compromise
}

// LetterHolds is how many certificates may be put on hold in an hour by letters' IDs
// alone. Further reports wait for an officer, with an alarm: whoever has many letters
// must not take a region off line (threat RV1).
const LetterHolds = 20

// ProveLetter checks both IDs for the revocation site, as identify does, and gives the
// request ID that a flow keeps. Errors: revocation.wrong_ids before both are right, for
// every cause; then revocation.not_issued, .already, .expired.
func (s *Service) ProveLetter(ctx context.Context, in PickupInput) (string, error) {
	f, err := s.identify(ctx, in)
	switch pki.CodeOf(err) {
	case "pickup.wrong_ids":
		return "", pki.E(pki.NotFound, "revocation.wrong_ids")
	case "pickup.busy":
		return "", pki.E(pki.Busy, "revocation.busy").Because(err)
	}
	if err != nil {
		return "", err
	}
	r := f.request
	if r.State == pki.Issued && !s.ActivateOnIssue && r.Dispatched.IsZero() && r.Kind != pki.Renewal {
		err = s.readEarly(ctx, r)
		if pki.CodeOf(err) != "pickup.not_dispatched" {
			return "", err
		}
		return "", pki.E(pki.NotYet, "revocation.not_issued")
	}
	if r.Serial == "" {
		return "", pki.E(pki.NotYet, "revocation.not_issued")
	}
	return r.ID, mayRevoke(f.certificate, s.Now())
}

// mayRevoke says why there is nothing to revoke.
func mayRevoke(c pki.Certificate, now time.Time) error {
	switch c.State(now) {
	case pki.Revoked:
		return pki.E(pki.Gone, "revocation.already").With("At", c.EffectiveAt)
	case pki.Expired:
		return pki.E(pki.Gone, "revocation.expired").With("To", c.NotAfter)
	}
	return nil
}

// of reads the certificate of a way within a transaction (threat RS14). Neither way
// tells of any other certificate.
func (w RevocationWay) of(tx *store.Tx) (pki.Certificate, error) {
	if w.Leaf != nil {
		p, err := present(tx, w.Leaf)
		if errors.Is(err, pki.ErrNotFound) || err == nil && p.Verdict == OtherPurpose {
			return pki.Certificate{}, pki.E(pki.Forbidden, "revocation.foreign")
		}
		if err != nil {
			return pki.Certificate{}, err
		}
		return p.Authority.Certificate, mayRevoke(p.Authority.Certificate, tx.Now)
	}
	r, err := tx.Request(w.RequestID)
	if err != nil {
		return pki.Certificate{}, err
	}
	ref, err := tx.Reference(r.ID)
	if err != nil || !ref.Voided.IsZero() { // the letter was sent anew meanwhile
		return pki.Certificate{}, errors.Join(err, pki.E(pki.NotFound, "revocation.wrong_ids"))
	}
	c, err := tx.Certificate(r.Serial)
	if err != nil {
		return c, err
	}
	return c, mayRevoke(c, tx.Now)
}

// RevocationSubject gives the certificate of a way.
func (s *Service) RevocationSubject(ctx context.Context, w RevocationWay) (RevocationSubject, error) {
	return read(ctx, s, func(tx *store.Tx) (RevocationSubject, error) {
		c, err := w.of(tx)
		if err != nil {
			return RevocationSubject{}, err
		}
		return RevocationSubject{RequestID: c.RequestID, Holder: c.Holder, Terminal: c.Terminal, NotAfter: c.NotAfter,
			Held: c.State(tx.Now) == pki.Suspended, Renewed: c.Successor != ""}, nil
	})
}

// RevocationOfFlow gives what a flow asked for and how far that is; pki.ErrNotFound
// before it did.
func (s *Service) RevocationOfFlow(ctx context.Context, flow string) (pki.Revocation, pki.Certificate, error) {
	var c pki.Certificate
	v, err := read(ctx, s, func(tx *store.Tx) (pki.Revocation, error) {
		v, err := tx.RevocationOfFlow(flow)
		if err != nil {
			return v, err
		}
		c, err = tx.Certificate(v.Serial)
		return v, err
	})
	return v, c, err
}

// AskRevocation receives a revocation. A compromised key is revoked at once where the
// certificate itself was presented; by a letter's IDs, which others may have read, it is
// put on hold at once and an officer makes it final. Everything else waits for an
// officer, and for nobody longer than pki.Undecided. It may be asked any number of times.
func (s *Service) AskRevocation(ctx context.Context, in RevocationInput) (pki.Revocation, error) {
	switch {
	case in.Flow == "" || !pki.HoldersReason(in.Reason):
		return pki.Revocation{}, pki.E(pki.Invalid, "revocation.reason").With("Reason", in.Reason.String())
	case !pki.ValidEmail(in.Email):
		return pki.Revocation{}, pki.E(pki.Invalid, "email.form")
	}
	queued := false
	try := func(tx *store.Tx) (pki.Revocation, error) {
		done, err := tx.RevocationOfFlow(in.Flow)
		if !errors.Is(err, pki.ErrNotFound) {
			return done, err
		}
		c, err := in.of(tx)
		if err != nil {
			return pki.Revocation{}, err
		}
		v, err := s.receiveRevocation(tx, c, in)
		queued = err == nil && v.Reason == pki.KeyCompromise && v.State == pki.RevocationReceived && !c.Stopped(tx.Now) && v.HeldAt.IsZero()
		crash.At("revocation.1 before commit")
		return v, err
	}
	v, err := change(ctx, s, try)
	crash.At("revocation.1 after commit")
	if errors.Is(err, pki.ErrConflict) { // the same button in another tab, at another node
		v, err = change(ctx, s, try)
	}
	if err == nil && queued {
		s.Log.ErrorContext(ctx, "alarm: too many certificates were put on hold by letters' IDs; a report of compromise waits for an officer", "revocation", v.ID)
	}
	return v, err
}

func (s *Service) receiveRevocation(tx *store.Tx, c pki.Certificate, in RevocationInput) (pki.Revocation, error) {
	v := pki.Revocation{Flow: in.Flow, Proof: pki.ByLetter, Reason: in.Reason, Email: in.Email, Language: in.Language}
	if in.Leaf != nil {
		v.Proof = pki.ByCertificate
	}
	compromised := in.Reason == pki.KeyCompromise
	if compromised && v.Proof == pki.ByLetter && !c.Stopped(tx.Now) {
		holds, err := tx.LetterHolds(tx.Now.Add(-time.Hour))
		if err != nil {
			return v, err
		}
		if holds < LetterHolds {
			v.HeldAt = tx.Now
		}
	}
	v, err := s.Issuer.ReceiveIn(tx, holder, c, v, "from "+in.Source.String())
	if err != nil {
		return v, err
	}
	switch {
	case compromised && v.Proof == pki.ByCertificate:
		err = s.Issuer.RevokeIn(tx, holder, c, v.Reason, v.ID)
		if err != nil {
			return v, err
		}
		return tx.Revocation(v.ID)
	case v.Held():
		err = s.Issuer.HoldRenewalsIn(tx, holder, c.Serial)
	case c.RequestID != "":
		err = s.tellAsked(tx, c, v)
	}
	if err != nil {
		return v, err
	}
	return v, tx.AddMessage(store.Message{ID: "revocation_received/" + v.ID, Kind: "revocation_received", Request: v.RequestID,
		Address: v.Email, Language: v.Language, Args: map[string]string{"Number": v.ID, "At": tx.Now.Format(time.RFC3339)}})
}

// tellAsked mails those whom the request names that somebody asked: who it was not
// learns it before it is too late.
func (s *Service) tellAsked(tx *store.Tx, c pki.Certificate, v pki.Revocation) error {
	r, err := tx.Request(c.RequestID)
	if err != nil {
		return err
	}
	return tx.TellContacts(r, "revocation_asked", v.ID, map[string]string{"Number": v.ID, "Reason": v.Reason.String()})
}
