package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

var actor = pki.System("ca")

// errTaken says that somebody else has made the step we were about to make.
var errTaken = errors.New("another worker was faster")

// Issue carries an approved request to its certificate and returns it as it then
// is. It may be called any number of times, by any number of nodes, also after a
// crash: a request has one certificate (invariant 1). The numbers are the lines of
// docs/ISSUANCE.md.
//
// Errors of class Busy are temporary: the request stays where it is and the
// background worker takes it up again. When the profile or the signer refuses, the
// request moves to failed and tells why.
func (s *Service) Issue(ctx context.Context, id string) (pki.Request, error) {
	r, key, err := s.begin(ctx, id)
	if err != nil {
		return r, err
	}
	if r.State == pki.Issued {
		return r, nil
	}
	var intent store.Intent
	if r.State == pki.Issuing {
		intent, err = s.intentOf(ctx, id)
		if err == nil && s.tooOld(intent) {
			err = s.dropStale(ctx, intent)
			if err == nil {
				err = errTaken
			}
		}
	} else {
		intent, err = s.intend(ctx, &r, key)
	}
	switch {
	case errors.Is(err, errTaken):
		return s.Issue(ctx, id)
	case permanent(err):
		return s.fail(ctx, r, err)
	case err != nil:
		return r, err
	}
	_, err = s.Finish(ctx, r, intent)
	if err != nil {
		return r, err
	}
	return s.request(ctx, id)
}

// permanent errors come back however often one tries.
func permanent(err error) bool {
	c := pki.ClassOf(err)
	return err != nil && (c == pki.Invalid || c == pki.Forbidden)
}

func (s *Service) request(ctx context.Context, id string) (pki.Request, error) {
	var r pki.Request
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		r, err = tx.Request(id)
		return err
	})
	return r, err
}

// begin is lines 1 and 2: approved → generating, and a key from the pool.
func (s *Service) begin(ctx context.Context, id string) (pki.Request, store.SealedKey, error) {
	for {
		var r pki.Request
		var key store.SealedKey
		err := s.DB.Update(ctx, func(tx *store.Tx) error {
			var err error
			r, err = tx.Request(id)
			if err != nil {
				return err
			}
			if r.State == pki.Issued || r.State == pki.Issuing {
				return nil
			}
			if r.State != pki.Generating {
				_, err = r.State.Next(pki.EventGenerate)
				if err != nil {
					return err
				}
			}
			var facts map[string]any
			if r.NeedsKey() {
				key, err = tx.TakeKey(r.KeyType, r.ID)
				if err != nil {
					return err
				}
				facts = map[string]any{"key": key.ID, "keyOrigin": key.Origin(), "epoch": key.Epoch, "blob": key.BlobHash()}
			}
			if r.State != pki.Generating {
				err = s.move(tx, &r, pki.EventGenerate, store.RequestChange{}, facts)
			}
			crash.At("issue.1 before commit")
			return err
		})
		crash.At("issue.1 after commit")
		if r.ID == "" || !errors.Is(err, pki.ErrNotFound) {
			return r, key, err
		}
		// The pool is empty: make one now rather than let the holder wait for others.
		err = s.addPoolKeys(ctx, r.KeyType, 1)
		if err != nil {
			return r, key, err
		}
	}
}

// move makes one conditional step of a request with its audit record.
func (s *Service) move(tx *store.Tx, r *pki.Request, event pki.RequestEvent, change store.RequestChange, facts map[string]any) error {
	next, err := r.State.Next(event)
	if err != nil {
		return err
	}
	body := map[string]any{"from": r.State, "to": next}
	for k, v := range facts {
		body[k] = v
	}
	_, _, err = tx.Audit(actor, "request."+string(next), r.ID, body)
	if err != nil {
		return err
	}
	err = tx.MoveRequest(*r, next, change)
	if err != nil {
		return err
	}
	r.State = next
	return nil
}

// intend is lines 2 to 4: the key bound to the request and its letter, the
// certificate built and linted, and what we will sign stored with its audit record.
func (s *Service) intend(ctx context.Context, r *pki.Request, key store.SealedKey) (store.Intent, error) {
	if !r.Application.Is(r.ContentHash) {
		return store.Intent{}, pki.E(pki.Forbidden, "request.not_approved").With("RequestID", r.ID)
	}
	var public crypto.PublicKey
	var err error
	if r.NeedsKey() {
		public, err = x509.ParsePKIXPublicKey(key.SPKI)
	} else {
		public, err = issuance.ParseCSR(r.Application.CSR)
	}
	if err != nil {
		return store.Intent{}, fmt.Errorf("read public key: %w", err)
	}
	crash.At("issue.2 before the signer")
	held, reference, err := s.bind(ctx, *r, key)
	crash.At("issue.2 after the signer")
	if err != nil {
		return store.Intent{}, err
	}
	linted, err := s.Prepare(*r, public) // line 3
	if err != nil {
		return store.Intent{}, err
	}
	crash.At("issue.3 linted")
	var intent store.Intent
	var now pki.Request
	err = s.DB.Update(ctx, func(tx *store.Tx) error { // line 4
		now, err = tx.Request(r.ID)
		if err != nil {
			return err
		}
		if now.State != pki.Generating || now.ContentHash != r.ContentHash {
			return errTaken
		}
		facts := map[string]any{}
		if r.NeedsKey() {
			facts["epoch"], facts["blob"] = held.Epoch, store.SealedKey{Blob: held.Blob}.BlobHash()
		}
		if reference != nil {
			facts["reference"], facts["sealed"] = reference.Content(), reference.SealedHash()
		}
		err = s.move(tx, &now, pki.EventIntend, store.RequestChange{}, facts)
		if err != nil {
			return err
		}
		if r.NeedsKey() {
			err = tx.HoldKey(key.ID, r.ID, held.Blob, held.Epoch)
			if err != nil {
				return err
			}
		}
		if reference != nil {
			err = tx.AddReference(*reference)
			if err != nil {
				return err
			}
		}
		intent, err = s.IntendIn(tx, now, linted)
		crash.At("issue.4 before commit")
		return err
	})
	crash.At("issue.4 after commit")
	if errors.Is(err, pki.ErrConflict) {
		return intent, errTaken
	}
	if err == nil {
		*r = now
	}
	return intent, err
}

// Prepare is line 3 for a request, which need not be stored yet: its certificate with
// a fresh serial, built and linted. Refusals are of class Invalid or Forbidden.
func (s *Service) Prepare(r pki.Request, public crypto.PublicKey) (*issuance.Linted, error) {
	notBefore := r.NotBefore
	if notBefore.IsZero() {
		notBefore = s.Now()
	}
	return s.prepare(issuance.Params{Profile: s.Profiles[r.Profile], NotBefore: notBefore, PublicKey: public, Holder: r.Application.Holder})
}

// IntendIn is line 4 within the caller's transaction, which stores the request as
// issuing: the public key of a CSR claimed for it, what we will sign, and the audit
// record. A key that was another's is csr.key_reused.
func (s *Service) IntendIn(tx *store.Tx, r pki.Request, l *issuance.Linted) (store.Intent, error) {
	if !r.NeedsKey() {
		err := claim(tx, l, "request/"+r.ID)
		if err != nil {
			return store.Intent{}, err
		}
	}
	return s.addIntent(tx, l, s.Profiles[r.Profile], r.ID)
}

// bind seals the pool's key anew for this request. A letter's reference ID is drawn
// here; a renewal needs none, and an API client receives no letter.
func (s *Service) bind(ctx context.Context, r pki.Request, key store.SealedKey) (keystore.Held, *store.Reference, error) {
	var ref pki.Secret
	var verifier keystore.Verifier
	var reference *store.Reference
	if r.Kind != pki.Renewal && r.Source != pki.FromAPI {
		ref = pki.NewReferenceID()
		var err error
		verifier, err = s.Signer.NewVerifier(ctx, r.ID, ref)
		if err != nil {
			return keystore.Held{}, nil, err
		}
		sealed, err := s.Signer.SealReference(ctx, r.ID, ref)
		if err != nil {
			return keystore.Held{}, nil, err
		}
		reference = &store.Reference{Request: r.ID, KID: verifier.KID, Salt: verifier.Salt, Gate: verifier.Gate,
			Tag: verifier.Tag, Sealed: sealed, Epoch: s.epoch()}
	}
	if !r.NeedsKey() {
		return keystore.Held{}, reference, nil
	}
	// The signer compares the key inside with the public key that is certified: a row of
	// the pool is no proof of it (threat CO12).
	held, err := s.Signer.Hold(ctx, keystore.HoldRequest{KeyID: key.ID, RequestID: r.ID, PoolBlob: key.Blob, SPKISHA256: hashHex(key.SPKI),
		Reference: ref, Verifier: verifier})
	return held, reference, err // seal.key_differs is for good: another attempt takes another key
}

// prepare is line 3 for whatever we certify.
func (s *Service) prepare(p issuance.Params) (*issuance.Linted, error) {
	issuer := s.Issuers[p.Profile.Issuer]
	if issuer == nil {
		return nil, pki.E(pki.Invalid, "profile.unknown").With("Profile", p.Profile.ID)
	}
	if s.ownKey(p.PublicKey) {
		return nil, keyReused
	}
	p.Serial = issuance.NewSerial()
	p.NotBefore = p.NotBefore.UTC().Truncate(time.Second)
	return issuer.Prepare(p)
}

// keyReused says that a public key is another's: one that was certified for somebody else,
// or that of a CA.
var keyReused = pki.E(pki.Invalid, "csr.key_reused")

// ownKey says whether a public key is that of one of our CAs. The register has no row of
// theirs: their certificates are files that every process reads at its start.
func (s *Service) ownKey(public crypto.PublicKey) bool {
	key, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return false
	}
	for _, issuer := range s.Issuers {
		if key.Equal(issuer.Certificate().PublicKey) {
			return true
		}
	}
	return false
}

// claim enters the public key of a certificate into the register of all keys, which spans
// all our CAs (threats AP11, CK8): it is certified for this owner and never for another.
func claim(tx *store.Tx, l *issuance.Linted, owner string) error {
	err := tx.ClaimPublicKey(hashHex(l.SPKI()), owner)
	if errors.Is(err, pki.ErrConflict) {
		return keyReused
	}
	return err
}

// addIntent is line 4: what we will sign, and its audit record, in one transaction.
func (s *Service) addIntent(tx *store.Tx, l *issuance.Linted, p issuance.Profile, request string) (store.Intent, error) {
	serial := pki.SerialHex(l.Serial())
	facts := map[string]any{"request": request, "issuer": p.Issuer, "profile": p.ID, "tbsSHA256": hashHex(l.TBS())}
	if request == "" { // that of a request is told by its own records
		facts["spkiSHA256"] = hashHex(l.SPKI())
	}
	index, leaf, err := tx.Audit(actor, "certificate.intent", serial, facts)
	if err != nil {
		return store.Intent{}, err
	}
	intent := store.Intent{Serial: serial, Issuer: p.Issuer, Profile: p.ID, Request: request, TBS: l.TBS(),
		AuditIndex: index, AuditLeaf: leaf[:]}
	return intent, tx.AddIntent(intent)
}

func (s *Service) intentOf(ctx context.Context, request string) (store.Intent, error) {
	var intent store.Intent
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		intent, err = tx.IntentOfRequest(request)
		if err != nil {
			return err
		}
		return proveIntent(tx, intent)
	})
	return intent, err
}

// Finish is lines 5 to 7: the CA key signs the very bytes that were linted, the
// result is verified, and the certificate is stored. The request is as it was when it
// was stored as issuing; zero for one of our own certificates. Class Busy: the intent
// stays open, and Recover or the next Issue takes it up again.
func (s *Service) Finish(ctx context.Context, r pki.Request, intent store.Intent) (pki.Certificate, error) {
	crash.At("issue.5 before the signer")
	results, err := s.Signer.SignIntents(ctx, []keystore.SignRequest{{ // line 5
		Issuer: intent.Issuer, Profile: intent.Profile, TBS: intent.TBS, AuditIndex: intent.AuditIndex, AuditLeaf: intent.AuditLeaf,
	}})
	crash.At("issue.5 after the signer")
	if pki.ClassOf(err) == pki.Busy {
		return pki.Certificate{}, err // in the signer's own words
	}
	if err != nil {
		return pki.Certificate{}, pki.E(pki.Busy, "signer.away").Because(err)
	}
	code := results[0].Code
	switch {
	case waits(code):
		return pki.Certificate{}, pki.E(pki.Busy, "signer.waits").With("Code", code) // the intent stays open and is signed later
	case code != "":
		return pki.Certificate{}, s.abandon(ctx, intent, code)
	}
	cert, err := s.Issuers[intent.Issuer].Assemble(intent.TBS, results[0].Signature) // line 6
	if err != nil {
		return pki.Certificate{}, fmt.Errorf("assemble certificate %s: %w", intent.Serial, err)
	}
	c := pki.Certificate{
		Serial: intent.Serial, Issuer: intent.Issuer, Profile: intent.Profile, RequestID: r.ID,
		Holder: r.Application.Holder, Terminal: r.Application.TerminalName, Predecessor: r.Predecessor,
		DER: cert.Raw, SHA256: hashHex(cert.Raw), SPKISHA256: hashHex(cert.RawSubjectPublicKeyInfo),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	}
	crash.At("issue.6 assembled")
	err = s.DB.Update(ctx, func(tx *store.Tx) error { return s.keep(tx, r, &c) }) // line 7
	crash.At("issue.7 after commit")
	if !errors.Is(err, pki.ErrConflict) {
		return c, err
	}
	// Another worker stored its signature of the same bytes, or gave the intent up.
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		c, err = tx.Certificate(intent.Serial)
		return err
	})
	if errors.Is(err, pki.ErrNotFound) {
		return c, stale
	}
	return c, err
}

// waits says whether a signer that cannot sign now will do so later. A token that is
// away, or holds another key than the certificate's (threat CK6), speaks of the key and
// not of the intent.
func waits(code string) bool {
	switch code {
	case "signer.rate", "signer.internal", "signer.journal", "signer.journal_full", "signer.key_differs":
		return true
	}
	return strings.HasPrefix(code, "token.")
}

// keep is line 7.
func (s *Service) keep(tx *store.Tx, r pki.Request, c *pki.Certificate) error {
	c.IssuedAt = tx.Now
	err := tx.CloseIntent(c.Serial, "done")
	if err != nil {
		return err
	}
	if r.ID != "" {
		downloads, facts := pki.DownloadDeadline(tx.Now), map[string]any(nil)
		if r.Predecessor != "" {
			downloads, err = s.supersede(tx, r.Predecessor, c.Serial)
			if err != nil {
				return err
			}
			facts = map[string]any{"until": downloads}
		}
		err = s.move(tx, &r, pki.EventIssue, store.RequestChange{Serial: c.Serial, IssuedAt: tx.Now, Downloads: downloads}, facts)
		if err != nil {
			return err
		}
	}
	_, _, err = tx.Audit(actor, "certificate.issued", c.Serial, map[string]any{
		"request": c.RequestID, "issuer": c.Issuer, "profile": c.Profile, "sha256": c.SHA256, "notAfter": c.NotAfter,
	})
	if err != nil {
		return err
	}
	err = tx.AddCertificate(*c)
	if err == nil && c.Predecessor != "" {
		err = s.holdLate(tx, *c)
	}
	crash.At("issue.7 before commit")
	return err
}

// abandon gives up an intent that the signer refuses; nothing was signed.
func (s *Service) abandon(ctx context.Context, intent store.Intent, code string) error {
	refusal := pki.E(pki.Forbidden, "signer.refused").With("Code", code)
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(actor, "certificate.abandoned", intent.Serial, map[string]any{"request": intent.Request, "code": code})
		if err != nil {
			return err
		}
		err = tx.CloseIntent(intent.Serial, "abandoned")
		if err != nil || intent.Request == "" {
			return err
		}
		return s.failIn(tx, intent.Request, refusal)
	})
	if err != nil {
		return err
	}
	s.Log.Error("signer refused an intent", "serial", intent.Serial, "request", intent.Request, "code", code)
	return refusal
}

// fail moves a request to failed and tells operators why; not when another worker has
// brought it further meanwhile.
func (s *Service) fail(ctx context.Context, r pki.Request, cause error) (pki.Request, error) {
	s.Log.Error("request failed", "request", r.ID, "err", cause)
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		now, err := tx.Request(r.ID)
		if err != nil || now.State != r.State {
			return err
		}
		return s.failIn(tx, r.ID, cause)
	})
	if err != nil {
		return r, err
	}
	return r, cause
}

func (s *Service) failIn(tx *store.Tx, id string, cause error) error {
	r, err := tx.Request(id)
	if err != nil {
		return err
	}
	err = s.DestroyKeyIn(tx, actor, id, map[string]any{"failure": pki.CodeOf(cause)}) // a new attempt takes a new key and draws new IDs
	if err != nil {
		return err
	}
	why := pki.CodeOf(cause)
	return s.move(tx, &r, pki.EventFail, store.RequestChange{Failure: &why}, map[string]any{"failure": why})
}

// IssueOwn issues one of our own certificates (OCSP responder, site TLS, operator,
// API client): the same lines without a request. Each has a key of its own: one that was
// certified before is csr.key_reused.
func (s *Service) IssueOwn(ctx context.Context, profile, commonName string, public crypto.PublicKey, dnsNames []string, ips []net.IP) (*x509.Certificate, error) {
	p, ok := s.Profiles[profile]
	if !ok || p.ID == "holder" {
		return nil, pki.E(pki.Invalid, "profile.unknown").With("Profile", profile)
	}
	linted, err := s.prepare(issuance.Params{Profile: p, NotBefore: s.Now(), PublicKey: public, CommonName: commonName, DNSNames: dnsNames, IPAddresses: ips})
	if err != nil {
		return nil, err
	}
	var intent store.Intent
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		err := claim(tx, linted, "certificate/"+pki.SerialHex(linted.Serial()))
		if err != nil {
			return err
		}
		intent, err = s.addIntent(tx, linted, p, "")
		crash.At("own.4 before commit")
		return err
	})
	crash.At("own.4 after commit")
	if err != nil {
		return nil, err
	}
	c, err := s.Finish(ctx, pki.Request{}, intent)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(c.DER)
}
