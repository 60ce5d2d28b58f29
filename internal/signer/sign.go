package signer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// How far a live instance's edge may be from the signer's clock.
const (
	maxBackdate = time.Hour
	maxCRLSkew  = time.Hour
	maxCRLJump  = 24 * 60 * 60 // CRL numbers follow the seconds; a leap would use them up
)

// SignIntents signs a batch: every item is checked by itself, the admitted ones are
// journaled with one sync, and only then signed, on all cores.
func (s *Server) SignIntents(ctx context.Context, requests []keystore.SignRequest) ([]keystore.SignResult, error) {
	results := make([]keystore.SignResult, len(requests))
	linted := make([]*issuance.Linted, len(requests))
	away := map[string]error{}
	for _, r := range requests {
		_, asked := away[r.Issuer]
		if !asked {
			away[r.Issuer] = s.ready(r.Issuer)
		}
	}
	err := parallel(len(requests), func(i int) {
		err := away[requests[i].Issuer]
		if err == nil {
			linted[i], err = s.check(requests[i])
		}
		if err != nil {
			results[i].Code = s.refuse(ctx, requests[i], err)
		}
	})
	if err != nil {
		return nil, err
	}
	flight := s.admit(ctx, requests, linted, results)
	if flight == nil {
		return results, nil
	}
	err = flight.wait()
	if err != nil {
		return nil, err
	}
	crash.At("signer.sign journaled")
	err = parallel(len(requests), func(i int) {
		if linted[i] == nil {
			return
		}
		signature, err := linted[i].Sign(s.keys[requests[i].Issuer]) // verifies it, too (threat CK4)
		if pki.ClassOf(err) == pki.Busy {
			s.note(requests[i].Issuer, err)
		}
		if err != nil {
			results[i].Code = s.refuse(ctx, requests[i], err)
			return
		}
		results[i].Signature = signature
	})
	crash.At("signer.sign signed")
	return results, err
}

// check looks at one item without looking at others.
func (s *Server) check(r keystore.SignRequest) (*issuance.Linted, error) {
	profile, known := s.cfg.Profiles[r.Profile]
	issuer := s.cfg.Issuers[r.Issuer]
	switch {
	case issuer == nil || s.keys[r.Issuer] == nil:
		return nil, pki.E(pki.Forbidden, "signer.issuer").With("Issuer", r.Issuer)
	case !known || profile.Issuer != r.Issuer:
		return nil, pki.E(pki.Forbidden, "signer.profile").With("Profile", r.Profile)
	case len(r.AuditLeaf) != sha256.Size || [sha256.Size]byte(r.AuditLeaf) == [sha256.Size]byte{} || r.AuditIndex < 0:
		return nil, pki.E(pki.Forbidden, "signer.intent")
	}
	now := s.cfg.Now()
	linted, err := issuer.Relint(profile, r.TBS, now)
	if err != nil && !strings.HasPrefix(pki.CodeOf(err), "profile.") {
		err = pki.E(pki.Forbidden, "profile.tbs").Because(err) // facts that nobody typed: a holder's code, a key
	}
	if err != nil {
		return nil, err
	}
	// The issuers were made by a configuration; the vault knows what we are.
	if s.vault.Mode() == keystore.ModeLive && linted.NotBefore().Before(now.Add(-maxBackdate)) {
		return nil, pki.E(pki.Forbidden, "profile.backdated").With("NotBefore", linted.NotBefore())
	}
	return linted, nil
}

// admit asks the memory and the limits, in the order of the batch. What it refuses
// loses its linted token.
func (s *Server) admit(ctx context.Context, requests []keystore.SignRequest, linted []*issuance.Linted, results []keystore.SignResult) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	var records []record
	for i, r := range requests {
		if linted[i] == nil {
			continue
		}
		rec := record{
			At: now.Unix(), Kind: kindSign, Issuer: r.Issuer, Profile: r.Profile, Serial: pki.SerialHex(linted[i].Serial()),
			TBS: hashHex(r.TBS), Index: r.AuditIndex, Leaf: hex.EncodeToString(r.AuditLeaf),
		}
		err := s.memory.recent.admit(rec)
		if err == nil && !s.allows(r.Profile) {
			err = pki.E(pki.Limited, "signer.rate").With("Profile", r.Profile)
		}
		if err != nil {
			linted[i] = nil
			results[i].Code = s.refuse(ctx, r, err)
			continue
		}
		s.memory.apply(rec)
		records = append(records, rec)
	}
	if len(records) == 0 {
		return nil
	}
	crash.At("signer.sign admitted")
	return s.journal.add(records...)
}

// refuse raises the alarm and gives the code for the edge. A token that is away is a
// fault and no attack.
func (s *Server) refuse(ctx context.Context, r keystore.SignRequest, err error) string {
	if pki.ClassOf(err) != pki.Busy {
		s.refused.Add(1)
	}
	s.log.ErrorContext(ctx, "signer refused a certificate", "issuer", r.Issuer, "profile", r.Profile,
		"index", r.AuditIndex, "tbs", hashHex(r.TBS), "code", pki.CodeOf(err), "error", err)
	code := pki.CodeOf(err)
	if code == "internal" {
		code = "signer.internal"
	}
	return code
}

// SignCRL signs a revocation list whose number is above all that were signed.
func (s *Server) SignCRL(ctx context.Context, issuerID string, tbs []byte) ([]byte, error) {
	err := s.ready(issuerID)
	if err != nil {
		return nil, err
	}
	flight, err := s.admitCRL(issuerID, tbs)
	if err != nil {
		s.refused.Add(1)
		return nil, err
	}
	err = flight.wait()
	if err != nil {
		return nil, err
	}
	crash.At("signer.crl journaled")
	signature, err := s.cfg.Issuers[issuerID].SignCRL(s.keys[issuerID], tbs)
	crash.At("signer.crl signed")
	return signature, err
}

func (s *Server) admitCRL(issuerID string, tbs []byte) (*flight, error) {
	issuer := s.cfg.Issuers[issuerID]
	if issuer == nil || s.keys[issuerID] == nil {
		return nil, pki.E(pki.Forbidden, "signer.issuer").With("Issuer", issuerID)
	}
	info, err := issuer.CheckCRLTBS(tbs)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	rec := record{At: now.Unix(), Kind: kindCRL, Issuer: issuerID, Number: info.Number, TBS: hashHex(tbs)}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.memory.admitCRL(rec)
	if err != nil {
		return nil, err
	}
	if s.vault.Mode() == keystore.ModeLive {
		high := s.memory.crls[issuerID].Number
		if info.Number > max(high, now.Unix())+maxCRLJump {
			return nil, pki.E(pki.Forbidden, "signer.crl_number").With("Issuer", issuerID).With("Number", info.Number).With("HighWater", high)
		}
		if info.ThisUpdate.Sub(now).Abs() > maxCRLSkew {
			return nil, pki.E(pki.Forbidden, "signer.crl_time").With("ThisUpdate", info.ThisUpdate)
		}
	}
	if !s.allows(limiterCRL) {
		return nil, pki.E(pki.Limited, "signer.rate").With("Profile", limiterCRL)
	}
	s.memory.apply(rec)
	crash.At("signer.crl admitted")
	return s.journal.add(rec), nil
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// parallel runs n pieces of work on all cores. A piece that panics makes an error of
// the whole; its value is not logged, it may hold a secret.
func parallel(n int, work func(i int)) error {
	var mu sync.Mutex
	var failed error
	one := func(i int) {
		defer func() {
			p := recover()
			if p != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = pki.E(pki.Internal, "signer.internal").Because(fmt.Errorf("panic of type %T\n%s", p, debug.Stack()))
			}
		}()
		work(i)
	}
	if n == 1 {
		one(0)
		return failed
	}
	next := make(chan int)
	var group sync.WaitGroup
	for range min(n, runtime.NumCPU()) {
		group.Go(func() {
			for i := range next {
				one(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	return failed
}
