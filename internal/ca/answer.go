package ca

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
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
	kept map[string]kept // by the IDs asked about, and by questions as they came
}

// Answer is one OCSP response.
type Answer struct {
	Body       []byte
	ETag       string    // see ETag; empty where the answer is not to be cached
	ThisUpdate time.Time // zero: an error response, not to be cached
	NextUpdate time.Time
	Says       string // good, revoked, unknown, several, or the error of the response
	Kept       bool   // signed for an earlier question
}

// kept is an answer that serves again while it is young and what it says is still so.
type kept struct {
	Answer
	ids      []issuance.CertID
	verdicts []verdict
	signed   time.Time
}

// verdict is what an answer says of one certificate.
type verdict struct {
	status    issuance.OCSPStatus
	revokedAt int64 // seconds
	reason    pki.Reason
	invalid   int64 // seconds; since then, zero: nobody said so
	until     int64 // seconds; a revocation dated forward bounds how long "good" may be believed (threat RV6)
}

// NewAnswers makes the office's answers for one issuer; UseResponder gives it a key.
func NewAnswers(view *View, issuer *issuance.Issuer, now func() time.Time) *Answers {
	return &Answers{view: view, issuer: issuer, now: now, kept: map[string]kept{}}
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
	horizon, now, r := a.view.Horizon(), a.now(), a.responder.Load()
	if r == nil || now.Sub(horizon) > OCSPLife || now.After(r.Certificate().NotAfter) {
		_, err := issuance.ParseOCSPRequest(der)
		if err != nil {
			return Answer{Body: issuance.OCSPMalformed, Says: "malformed"}, nil
		}
		return Answer{Body: issuance.OCSPTryLater, Says: "try_later"}, nil
	}
	answer, ok := a.again(der, now) // before it is even read
	if ok {
		return answer, nil
	}
	request, err := issuance.ParseOCSPRequest(der)
	if err != nil {
		return Answer{Body: issuance.OCSPMalformed, Says: "malformed"}, nil
	}
	for _, id := range request.IDs {
		if !a.issuer.Asks(id) {
			return Answer{Body: issuance.OCSPUnauthorized, Says: "unauthorized"}, nil
		}
	}
	asked := request.Nonce == nil
	if !asked && !fresh() {
		request.Nonce = nil
	}
	ids := rawIDs(request.IDs)
	if request.Nonce == nil {
		answer, ok = a.again(ids, now)
		if ok {
			return answer, nil
		}
	}
	k, err := a.sign(r, request, horizon, now)
	if err != nil {
		return Answer{}, pki.E(pki.Internal, "ocsp.sign").Because(err)
	}
	if request.Nonce == nil && len(ids) <= maxKept {
		a.keep(string(ids), k)
	}
	if asked && len(der) <= maxKept {
		a.keep(string(der), k)
	}
	return k.Answer, nil
}

// rawIDs is what an answer without a nonce is kept under, however it was asked for.
func rawIDs(ids []issuance.CertID) []byte {
	var out []byte
	for _, id := range ids {
		out = append(out, id.Raw...)
	}
	return out
}

func (a *Answers) sign(r *issuance.Responder, request issuance.OCSPRequest, horizon, now time.Time) (kept, error) {
	k := kept{ids: request.IDs, verdicts: a.verdicts(request.IDs, now), signed: now}
	k.ThisUpdate = horizon
	if now.Before(horizon) { // another node's clock is ahead of ours
		k.ThisUpdate = now
	}
	k.ThisUpdate = k.ThisUpdate.UTC().Truncate(time.Second)
	k.NextUpdate = k.ThisUpdate.Add(OCSPLife)
	k.Says = says(k.verdicts)
	for _, v := range k.verdicts {
		until := time.Unix(v.until, 0).UTC()
		if v.until != 0 && until.Before(k.NextUpdate) {
			k.NextUpdate = until
		}
	}
	list := make([]issuance.OCSPAnswer, len(k.ids))
	for n, v := range k.verdicts {
		list[n] = issuance.OCSPAnswer{ID: k.ids[n], Status: v.status, RevokedAt: time.Unix(v.revokedAt, 0), Reason: v.reason,
			ThisUpdate: k.ThisUpdate, NextUpdate: k.NextUpdate}
		if v.invalid != 0 {
			list[n].InvalidSince = time.Unix(v.invalid, 0)
		}
	}
	var err error
	k.Body, err = r.Answer(list, request.Nonce, now)
	k.ETag = ETag(k.Body) // now, and not each time that the answer serves again
	return k, err
}

// ETag names a body for caches as HTTP writes it (RFC 9110 §8.8.3).
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// says names what an answer says, for those who count.
func says(all []verdict) string {
	if len(all) != 1 {
		return "several"
	}
	switch all[0].status {
	case issuance.OCSPGood:
		return "good"
	case issuance.OCSPRevoked:
		return "revoked"
	}
	return "unknown"
}

// again gives the answer that was signed for the same question a short while ago,
// unless what is known has changed since.
func (a *Answers) again(question []byte, now time.Time) (Answer, bool) {
	a.mu.RLock()
	k, ok := a.kept[string(question)]
	a.mu.RUnlock()
	if !ok || now.Sub(k.signed) >= answerAge || now.Before(k.signed) {
		return Answer{}, false
	}
	for n, id := range k.ids {
		if a.about(id, now) != k.verdicts[n] {
			return Answer{}, false
		}
	}
	k.Kept = true
	return k.Answer, true
}

func (a *Answers) keep(question string, k kept) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.kept) >= maxAnswers {
		clear(a.kept) // simple and rare; what is asked often is back at once
	}
	a.kept[question] = k
}

func (a *Answers) verdicts(ids []issuance.CertID, now time.Time) []verdict {
	out := make([]verdict, len(ids))
	for n, id := range ids {
		out[n] = a.about(id, now)
	}
	return out
}

// about gives the status of one certificate. A revocation that counts from its commit
// counts here from when it is known, though our clock is behind.
func (a *Answers) about(id issuance.CertID, now time.Time) verdict {
	row, ok := a.view.Status(a.issuer.ID(), id.Serial)
	switch {
	case !ok:
		return verdict{status: issuance.OCSPUnknown}
	case row.Revoked.IsZero():
		return verdict{status: issuance.OCSPGood}
	case row.Effective.After(row.Revoked) && now.Before(row.Effective):
		return verdict{status: issuance.OCSPGood, until: row.Effective.Unix()}
	}
	said := verdict{status: issuance.OCSPRevoked, revokedAt: row.Effective.Unix(), reason: row.Reason}
	if !row.Invalid.IsZero() {
		said.invalid = row.Invalid.Unix()
	}
	return said
}
