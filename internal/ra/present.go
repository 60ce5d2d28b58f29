package ra

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// Verdict says what a certificate is to us that a browser presented.
type Verdict string

// The verdicts on what is not simply a holder's certificate. A holder's has its
// pki.CertificateState as verdict.
const (
	Absent       Verdict = "none"         // no certificate was presented
	Foreign      Verdict = "foreign"      // another CA's, or forged
	OtherPurpose Verdict = "purpose"      // ours, and not a holder's: an operator's, an API client's
	Unregistered Verdict = "unregistered" // our CA's signature, and not in the register
)

// Presented is a certificate that a browser presented and what it is now.
type Presented struct {
	Verdict   Verdict
	Authority pki.Authority // of a holder's certificate
	Request   pki.Request   // by which it was issued
	Newest    pki.Certificate
	Open      string // request ID of the certificate's renewal that stands
}

// Usable says whether relying systems accept the certificate.
func (p Presented) Usable() bool { return pki.CertificateState(p.Verdict).Usable() }

// Present looks at the certificate of a connection, nil where there is none. It is
// asked for every request of a page: what a handshake proved says nothing about now
// (threat RS1). The row of exactly these bytes is the identity, never a name in it; and
// our CA's signature without a row is an alarm, the sign of a stolen CA key (threat RS7).
func (s *Service) Present(ctx context.Context, leaf *x509.Certificate) (Presented, error) {
	if leaf == nil {
		return Presented{Verdict: Absent}, nil
	}
	p, err := read(ctx, s, func(tx *store.Tx) (Presented, error) { return present(tx, leaf) })
	if errors.Is(err, pki.ErrNotFound) {
		return s.stranger(ctx, leaf)
	}
	if err != nil || !p.Usable() || !p.Request.Installed.IsZero() || p.Request.ID == "" {
		return p, err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		first, err := tx.MarkInstalled(p.Request.ID)
		if err != nil || !first {
			return err
		}
		_, _, err = tx.Audit(holder, "certificate.seen", p.Request.ID, map[string]any{"serial": p.Authority.Certificate.Serial})
		return err
	})
	return p, err
}

// holder is whoever holds a letter or a certificate.
var holder = pki.LetterOrCertificate()

func (s *Service) stranger(ctx context.Context, leaf *x509.Certificate) (Presented, error) {
	for _, der := range s.Chain[:min(1, len(s.Chain))] { // the issuing CA
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			return Presented{}, fmt.Errorf("parse issuer: %w", err)
		}
		if leaf.CheckSignatureFrom(issuer) == nil {
			s.Log.ErrorContext(ctx, "alarm: certificate outside the register", "serial", pki.SerialHex(leaf.SerialNumber))
			return Presented{Verdict: Unregistered}, nil
		}
	}
	return Presented{Verdict: Foreign}, nil
}

// present reads what a certificate is within a transaction, so that who acts on it acts
// on what is true when the act is committed (threat RS14).
func present(tx *store.Tx, leaf *x509.Certificate) (Presented, error) {
	c, err := tx.Certificate(pki.SerialHex(leaf.SerialNumber))
	if err != nil {
		return Presented{}, err
	}
	if !bytes.Equal(c.DER, leaf.Raw) { // a number is easily copied
		return Presented{}, pki.ErrNotFound
	}
	if c.RequestID == "" {
		return Presented{Verdict: OtherPurpose}, nil
	}
	p := Presented{Authority: pki.Authority{Certificate: c, State: c.State(tx.Now)}, Newest: c}
	p.Verdict = Verdict(p.Authority.State)
	p.Request, err = tx.Request(c.RequestID)
	if err != nil {
		return p, err
	}
	p.Authority.Chain, err = chain(tx, c)
	if err != nil {
		return p, err
	}
	if c.Successor == "" {
		open, err := tx.OpenRenewal(c.Serial)
		if errors.Is(err, pki.ErrNotFound) {
			return p, nil
		}
		p.Open = open.ID // it is under way
		return p, err
	}
	for next := c.Successor; next != "" && p.Authority.Covers(next); next = p.Newest.Successor {
		p.Newest, err = tx.Certificate(next)
		if err != nil {
			return p, err
		}
	}
	p.Open = p.Newest.RequestID
	return p, nil
}

// MayAct says why a presented certificate has no power now.
func (p Presented) MayAct() error {
	switch p.Verdict {
	case Verdict(pki.Valid), Verdict(pki.Superseded):
		return nil
	case Absent:
		return pki.E(pki.Forbidden, "renewal.none")
	case Foreign, OtherPurpose, Unregistered:
		return pki.E(pki.Forbidden, "renewal.foreign")
	}
	return pki.E(pki.Gone, "renewal."+string(p.Verdict))
}

// MayLook is MayAct, and lets an expired certificate see and fetch what it was renewed
// to: possession is still proved (threat RS10).
func (p Presented) MayLook() error {
	if p.Verdict == Verdict(pki.Expired) {
		return nil
	}
	return p.MayAct()
}

// Standing says why a connection's certificate opens no page of renewals now.
func (s *Service) Standing(ctx context.Context, leaf *x509.Certificate) error {
	_, err := s.looking(ctx, leaf)
	return err
}

// longest bounds a chain of renewals: one every three years.
const longest = 64

// chain gives the serials that a certificate was renewed from, itself, and those renewed
// from it. An expired one has power over its own renewals alone, as long as they may be
// fetched: who finds an old terminal finds no key of today.
func chain(tx *store.Tx, c pki.Certificate) ([]string, error) {
	serials := []string{c.Serial}
	if c.State(tx.Now) == pki.Expired {
		return serials, nil
	}
	for at := c; at.Predecessor != "" && len(serials) < longest; {
		var err error
		at, err = tx.Certificate(at.Predecessor)
		if err != nil {
			return nil, err
		}
		serials = append(serials, at.Serial)
	}
	for ask := []string{c.Serial}; len(ask) > 0 && len(serials) < longest; {
		renewals, err := tx.Renewals(ask)
		if err != nil {
			return nil, err
		}
		ask = nil
		for _, r := range renewals {
			if r.Serial != "" {
				ask = append(ask, r.Serial)
			}
		}
		serials = append(serials, ask...)
	}
	return serials, nil
}
