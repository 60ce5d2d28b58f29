package ra

import (
	"context"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// Submission is what a person or a program hands in.
type Submission struct {
	Application pki.Application
	Source      pki.Source
	Language    string // of mails: "ja" (default) or "en"
	// NotBefore begins a demo's sample in the past; the signer of a live instance
	// refuses it.
	NotBefore time.Time
}

// Submit receives an application (発行申請). From an operator, entering counts as the
// first of the two persons; from the site nobody has looked at it yet.
func (s *Service) Submit(ctx context.Context, by pki.Actor, in Submission) (pki.Request, error) {
	r := pki.Request{Kind: pki.NewIssue, Source: in.Source, State: pki.Received, Application: in.Application,
		Profile: "holder", KeyType: s.KeyType, Language: in.Language, NotBefore: in.NotBefore}
	if in.Source == pki.FromOperator {
		err := by.Need(pki.MaySubmit)
		if err != nil {
			return r, err
		}
		r.EnteredBy = by.ID
	}
	return change(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		err := enter(tx, by, &r)
		return r, err
	})
}

// setDefaults fills in what nobody said.
func setDefaults(r *pki.Request) {
	if r.Application.PaymentMethod == 0 {
		r.Application.PaymentMethod = 1
	}
	if r.Language == "" {
		r.Language = "ja"
	}
}

// enter checks and stores a new request.
func enter(tx *store.Tx, by pki.Actor, r *pki.Request) error {
	setDefaults(r)
	err := r.Application.Validate(r.Source)
	if err != nil {
		return err
	}
	if r.Source != pki.FromAPI { // nobody looks at a client's requests one by one
		err = noteAlike(tx, r)
		if err != nil {
			return err
		}
	}
	return receive(tx, by, r)
}

// receive stores a new request, whose content was checked, and its audit record.
func receive(tx *store.Tx, by pki.Actor, r *pki.Request) error {
	r.ContentHash = r.Application.Hash()
	r.ReceivedAt = tx.Now
	var err error
	r.ID, err = tx.NextRequestID()
	if err != nil {
		return err
	}
	_, _, err = tx.Audit(by, "request."+string(r.State), r.ID, map[string]any{
		"holderKind": r.Application.Holder.Kind, "holderCode": r.Application.Holder.Code,
		"terminal": r.Application.TerminalName, "source": r.Source, "content": r.ContentHash, "grant": r.GrantID,
		"origin": r.Origin(), "alike": r.Alike,
	})
	if err != nil {
		return err
	}
	return tx.AddRequest(*r)
}

// List lists requests.
func (s *Service) List(ctx context.Context, by pki.Actor, f store.RequestFilter) ([]pki.Request, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return nil, err
	}
	return read(ctx, s, func(tx *store.Tx) ([]pki.Request, error) { return tx.Requests(f) })
}

// Detail is a request with what belongs to it.
type Detail struct {
	Request     pki.Request
	Certificate *pki.Certificate
	// Letter: who asked may read the reference ID, and Show gives it. So it is for the
	// role letters until the letter was dispatched.
	Letter      bool
	ReferenceID pki.Secret
}

// Show reads one request and, where there is a letter, its reference ID, for which it
// needs the signer. That it was read is audited (threat LE4).
func (s *Service) Show(ctx context.Context, by pki.Actor, id string) (Detail, error) {
	d, err := s.Look(ctx, by, id)
	if err != nil || !d.Letter {
		return d, err
	}
	d.ReferenceID, err = s.readReference(ctx, by, id)
	return d, err
}

// Look reads one request without its reference ID, and needs no signer.
func (s *Service) Look(ctx context.Context, by pki.Actor, id string) (Detail, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return Detail{}, err
	}
	return read(ctx, s, func(tx *store.Tx) (Detail, error) {
		var d Detail
		var err error
		d.Request, err = tx.Request(id)
		if err != nil {
			return d, unknownRequest(err, id)
		}
		if d.Request.Serial != "" {
			c, err := tx.Certificate(d.Request.Serial)
			if err != nil {
				return d, err
			}
			d.Certificate = &c
		}
		if by.May(pki.MayReadReference) && d.Request.Kind != pki.Renewal && d.Request.State == pki.Issued && d.Request.Dispatched.IsZero() {
			ref, err := tx.Reference(id)
			if pki.ClassOf(err) == pki.NotFound {
				return d, nil // an API client's request has no letter
			}
			d.Letter = len(ref.Sealed) > 0
			return d, err
		}
		return d, nil
	})
}

// readReference opens the reference ID of a letter, and records who read it.
func (s *Service) readReference(ctx context.Context, by pki.Actor, id string) (pki.Secret, error) {
	var sealed []byte
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		ref, err := tx.Reference(id) // once more: a dispatch may have come between
		if err != nil {
			return err
		}
		sealed = ref.Sealed
		if len(sealed) == 0 {
			return nil
		}
		_, _, err = tx.Audit(by, "reference.read", id, nil)
		return err
	})
	if err != nil || len(sealed) == 0 {
		return "", err
	}
	return s.Custody.OpenReference(ctx, id, sealed)
}

func unknownRequest(err error, id string) error {
	if pki.ClassOf(err) == pki.NotFound {
		return pki.E(pki.NotFound, "request.unknown").With("RequestID", id)
	}
	return err
}
