package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// OCSPLife is how long an OCSP answer may be believed: nextUpdate − thisUpdate, and
// also how long a node that has heard nothing goes on answering (invariant 7).
const OCSPLife = 60 * time.Minute

// answerAge is how long a signed answer serves again while nothing has changed.
const answerAge = 20 * time.Second

// maxAnswers and maxKept bound the answers kept: their number, and the size of the IDs
// whose answer is kept. A usual one has about 80 octets; strangers must not fill the
// memory with long ones.
const (
	maxAnswers = 50_000
	maxKept    = 256
)

// Answers answers OCSP questions from the view, with a short-lived key of this
// node's own.
type Answers struct {
	view      *View
	issuer    *issuance.Issuer
	responder atomic.Pointer[issuance.Responder]
	now       func() time.Time

	mu   sync.RWMutex
	kept map[string]Answer
}

// Answer is one OCSP response.
type Answer struct {
	Body       []byte
	ThisUpdate time.Time // zero: an error response, not to be cached
	NextUpdate time.Time
	facts      string // what the answer was made of
	signed     time.Time
}

// NewAnswers makes the office's answers for one issuer; UseResponder gives it a key.
func NewAnswers(view *View, issuer *issuance.Issuer, now func() time.Time) *Answers {
	return &Answers{view: view, issuer: issuer, now: now, kept: map[string]Answer{}}
}

// UseResponder takes a new responder key and certificate into use.
func (a *Answers) UseResponder(cert *x509.Certificate, key crypto.Signer) error {
	r, err := issuance.NewResponder(a.issuer, cert, key)
	if err != nil {
		return err
	}
	a.responder.Store(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.kept)
	return nil
}

// Ready says whether there is a key to sign answers with.
func (a *Answers) Ready() bool { return a.responder.Load() != nil }

// Answer answers one request. No answer has a thisUpdate at or after a revocation's
// commit and says good: thisUpdate is the horizon of this node's knowledge. A node
// that has heard nothing for an hour says tryLater.
//
// An answer with a nonce is signed for one asker alone. fresh says whether the asker
// may still have one; where not, the nonce is left out, and the answer is the one that
// serves everybody (threat ST2).
func (a *Answers) Answer(_ context.Context, der []byte, fresh func() bool) (Answer, error) {
	request, err := issuance.ParseOCSPRequest(der)
	if err != nil {
		return Answer{Body: issuance.OCSPMalformed}, nil
	}
	horizon := a.view.Horizon()
	now := a.now()
	r := a.responder.Load()
	if r == nil || now.Sub(horizon) > OCSPLife || now.After(r.Certificate().NotAfter) {
		return Answer{Body: issuance.OCSPTryLater}, nil
	}
	this := horizon
	if now.Before(this) { // another node's clock is ahead of ours
		this = now
	}
	this = this.UTC().Truncate(time.Second)
	next := this.Add(OCSPLife)
	list := make([]issuance.OCSPAnswer, len(request.IDs))
	facts, key := "", ""
	for n, id := range request.IDs {
		if !a.issuer.Asks(id) {
			return Answer{Body: issuance.OCSPUnauthorized}, nil
		}
		key += string(id.Raw)
		list[n] = a.about(id, now)
		facts += fmt.Sprintf("%d %d %d %d;", list[n].Status, list[n].RevokedAt.Unix(), list[n].Reason, list[n].NextUpdate.Unix())
		if until := list[n].NextUpdate; !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	for n := range list {
		list[n].ThisUpdate, list[n].NextUpdate = this, next
	}
	if request.Nonce != nil && !fresh() {
		request.Nonce = nil
	}
	keep := request.Nonce == nil && len(key) <= maxKept
	if keep {
		a.mu.RLock()
		kept, ok := a.kept[key]
		a.mu.RUnlock()
		if ok && kept.facts == facts && now.Sub(kept.signed) < answerAge && !now.Before(kept.signed) {
			return kept, nil
		}
	}
	body, err := r.Answer(list, request.Nonce, now)
	if err != nil {
		return Answer{}, pki.E(pki.Internal, "ocsp.sign").Because(err)
	}
	answer := Answer{Body: body, ThisUpdate: this, NextUpdate: next, facts: facts, signed: now}
	if keep {
		a.keep(key, answer)
	}
	return answer, nil
}

func (a *Answers) keep(key string, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.kept) >= maxAnswers {
		clear(a.kept) // simple and rare; what is asked often is back at once
	}
	a.kept[key] = answer
}

// about gives the status of one certificate. NextUpdate is set where a revocation
// dated forward bounds how long "good" may be believed (threat RV6). One that counts
// from its commit counts here from when it is known, though our clock is behind.
func (a *Answers) about(id issuance.CertID, now time.Time) issuance.OCSPAnswer {
	out := issuance.OCSPAnswer{ID: id, Status: issuance.OCSPUnknown}
	row, ok, _ := a.view.Status(a.issuer.ID(), pki.SerialHex(id.Serial))
	switch {
	case !ok:
	case row.Revoked.IsZero():
		out.Status = issuance.OCSPGood
	case row.Effective.After(row.Revoked) && now.Before(row.Effective):
		out.Status, out.NextUpdate = issuance.OCSPGood, row.Effective.Truncate(time.Second)
	default:
		out.Status, out.RevokedAt, out.Reason = issuance.OCSPRevoked, row.Effective, row.Reason
	}
	return out
}
