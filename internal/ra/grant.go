package ra

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// APIRequest is one call of POST /api/v1/certificates.
type APIRequest struct {
	Application    pki.Application // with CSR (DER)
	IdempotencyKey string
}

// IssueByGrant issues for an API client under a standing approval of two persons
// (一括承認枠, threats AP12 and AP13). The same client with the same key gets the same
// certificate; with another body it is refused. What the profile or the register of
// keys refuses leaves nothing behind. One transaction stores the request together with
// what will be signed, a second one the certificate.
func (s *Service) IssueByGrant(ctx context.Context, by pki.Actor, client store.APIClient, in APIRequest) (pki.Certificate, error) {
	err := by.Need(pki.MayIssueByGrant)
	if err != nil {
		return pki.Certificate{}, err
	}
	if in.IdempotencyKey == "" || len(in.IdempotencyKey) > 100 {
		return pki.Certificate{}, pki.E(pki.Invalid, "idempotency.form")
	}
	public, err := issuance.ParseCSR(in.Application.CSR)
	if err != nil {
		return pki.Certificate{}, err
	}
	r := pki.Request{Kind: pki.NewIssue, Source: pki.FromAPI, State: pki.Issuing, Application: in.Application,
		Profile: "holder", KeyType: s.KeyType, ClientID: client.ID, Idempotency: in.IdempotencyKey}
	setDefaults(&r)
	linted, err := s.Issuer.Prepare(r, public)
	if err != nil {
		return pki.Certificate{}, err
	}
	var entered entry
	for {
		entered, err = change(ctx, s, func(tx *store.Tx) (entry, error) { return s.enterByGrant(tx, by, client, r, linted) })
		if !errors.Is(err, pki.ErrConflict) {
			break
		}
	}
	crash.At("api.4 after commit")
	if err != nil {
		return pki.Certificate{}, err
	}
	if entered.intent.Serial != "" {
		return s.Issuer.Finish(ctx, entered.request, entered.intent)
	}
	earlier, err := s.Issuer.Issue(ctx, entered.request.ID)
	if err != nil {
		return pki.Certificate{}, err
	}
	return read(ctx, s, func(tx *store.Tx) (pki.Certificate, error) { return tx.Certificate(earlier.Serial) })
}

// entry is a request that an API client made now, with what will be signed, or earlier.
type entry struct {
	request pki.Request
	intent  store.Intent // zero: the request is an earlier one
}

// enterByGrant asks in its transaction whether the client may act, of every order: a new
// one needs a grant, of which a client that is not in force has none.
func (s *Service) enterByGrant(tx *store.Tx, by pki.Actor, client store.APIClient, r pki.Request, linted *issuance.Linted) (entry, error) {
	earlier, err := tx.RequestByIdempotency(r.ClientID, r.Idempotency)
	if err == nil {
		err = clientInForce(tx, client)
		if err != nil {
			return entry{}, err
		}
		if !r.Application.Is(earlier.ContentHash) {
			return entry{}, pki.E(pki.Conflict, "idempotency.body")
		}
		return entry{request: earlier}, nil
	}
	if !errors.Is(err, pki.ErrNotFound) {
		return entry{}, err
	}
	grants, err := tx.GrantsOf(client)
	if err != nil {
		return entry{}, err
	}
	refusal := error(pki.E(pki.Forbidden, "grant.none"))
	if len(grants) == 0 {
		err = clientInForce(tx, client)
		if err != nil {
			return entry{}, err
		}
	}
	for _, g := range grants {
		refusal = g.Allows(r.Application.Holder, tx.Now)
		if refusal != nil {
			continue
		}
		r.GrantID, r.ApprovedAt = g.ID, tx.Now
		err = enter(tx, by, &r)
		if err != nil {
			return entry{}, err
		}
		err = tx.UseGrant(g)
		if err != nil {
			return entry{}, err
		}
		intent, err := s.Issuer.IntendIn(tx, r, linted)
		crash.At("api.4 before commit")
		return entry{r, intent}, err
	}
	return entry{}, refusal
}

func clientInForce(tx *store.Tx, client store.APIClient) error {
	is, err := tx.ClientInForce(client)
	if err == nil && !is {
		err = pki.E(pki.Forbidden, "client.unknown")
	}
	return err
}

// MakeGrant drafts a standing approval; it allows nothing until ApproveGrant by
// another person.
func (s *Service) MakeGrant(ctx context.Context, by pki.Actor, g pki.Grant) (pki.Grant, error) {
	err := by.Need(pki.MayGrant)
	if err != nil {
		return g, err
	}
	return change(ctx, s, func(tx *store.Tx) (pki.Grant, error) {
		if g.EndsAt.After(tx.Now.AddDate(0, 0, pki.MaxGrantDays)) || !g.EndsAt.After(tx.Now) || g.PerDay < 1 || g.Total < 1 || !bounded(g) {
			return g, pki.E(pki.Invalid, "grant.limits").With("Days", pki.MaxGrantDays)
		}
		id := make([]byte, 8)
		_, _ = rand.Read(id) // never fails; see crypto/rand
		g.ID, g.MadeBy = hex.EncodeToString(id), by.ID
		_, _, err := tx.Audit(by, "grant.made", g.ID, map[string]any{"client": g.ClientID, "kinds": g.Kinds,
			"prefectures": g.Prefectures, "perDay": g.PerDay, "total": g.Total, "ends": g.EndsAt, "content": g.Hash()})
		if err != nil {
			return g, err
		}
		return g, tx.AddGrant(g)
	})
}

// bounded says whether every kind and prefecture of a grant is one that exists: a blank
// one would be stored as "every".
func bounded(g pki.Grant) bool {
	for _, k := range g.Kinds {
		_, ok := k.Info()
		if !ok {
			return false
		}
	}
	for _, p := range g.Prefectures {
		if !slices.Contains(pki.Prefectures(), p) {
			return false
		}
	}
	return true
}

// Grants lists grants by their IDs.
func (s *Service) Grants(ctx context.Context, by pki.Actor) ([]pki.Grant, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return nil, err
	}
	return read(ctx, s, (*store.Tx).Grants)
}

// Grant reads one grant.
func (s *Service) Grant(ctx context.Context, by pki.Actor, id string) (pki.Grant, error) {
	err := by.Need(pki.MayReadRequests)
	if err != nil {
		return pki.Grant{}, err
	}
	return read(ctx, s, func(tx *store.Tx) (pki.Grant, error) { return grant(tx, id) })
}

func grant(tx *store.Tx, id string) (pki.Grant, error) {
	g, err := tx.Grant(id)
	if errors.Is(err, pki.ErrNotFound) {
		return g, pki.E(pki.NotFound, "grant.unknown")
	}
	return g, err
}

// ApproveGrant is the second person's yes to exactly the grant whose Hash is given.
func (s *Service) ApproveGrant(ctx context.Context, by pki.Actor, id, contentHash string) error {
	return s.onGrant(ctx, by, id, "grant.approved", func(tx *store.Tx, g pki.Grant) error {
		if g.MadeBy == by.ID {
			return pki.E(pki.Forbidden, "grant.same_person")
		}
		if !g.Is(contentHash) {
			return pki.E(pki.Conflict, "grant.changed").With("Grant", id)
		}
		return tx.ApproveGrant(id, by.ID)
	})
}

// RevokeGrant ends a grant at once.
func (s *Service) RevokeGrant(ctx context.Context, by pki.Actor, id string) error {
	return s.onGrant(ctx, by, id, "grant.revoked", func(tx *store.Tx, _ pki.Grant) error { return tx.RevokeGrant(id) })
}

func (s *Service) onGrant(ctx context.Context, by pki.Actor, id, kind string, do func(tx *store.Tx, g pki.Grant) error) error {
	err := by.Need(pki.MayGrant)
	if err != nil {
		return err
	}
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		g, err := grant(tx, id)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(by, kind, id, map[string]any{"content": g.Hash()})
		if err != nil {
			return err
		}
		return do(tx, g)
	})
}
