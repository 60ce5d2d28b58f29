package ra

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"inkan/internal/crash"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// notYours is the one answer to a request ID that the presented certificate has no
// authority over: it tells nobody whether there is such a request (threat RS8).
var notYours = pki.E(pki.NotFound, "renewal.unknown")

// issueWait is how long a person's POST waits for the issue: longer than it takes when
// all is well, so that the next page already says so.
const issueWait = time.Second

// RenewInput is a wish to renew (証明書更新申請).
type RenewInput struct {
	Leaf     *x509.Certificate // as the connection proved it
	Source   netip.Addr
	Language string // of mails
}

// Renew asks for the successor of the presented certificate. However often it is asked,
// in whatever number of tabs and nodes, a certificate has one open renewal (invariant
// 4). It needs no approval: the holder of the old key asks for what was approved once.
// Errors: renewal.early with Opens, renewal.revoking while a revocation of its chain
// is open or a hold stands (threat RS9), and renewal.revoked, .suspended, .expired,
// .not_begun, .foreign, .none for what the certificate is.
func (s *Service) Renew(ctx context.Context, in RenewInput) (pki.Request, error) {
	r, err := s.enterRenewal(ctx, in)
	crash.At("renew.1 after commit")
	if err != nil {
		return r, err
	}
	err = s.drawReference(ctx, r.ID)
	crash.At("renew.2 after commit")
	err = notBusy(err)
	if err != nil {
		return r, err // asking again goes on from here
	}
	done := make(chan error, 1)
	go func() { // goes on when the person leaves; the background worker does after a crash
		_, err := s.Issuer.Issue(context.WithoutCancel(ctx), r.ID)
		if err != nil {
			s.Log.Warn("renewal; issue goes on in the background", "request", r.ID, "err", err)
		}
		done <- err
	}()
	wait := time.NewTimer(issueWait)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	case <-ctx.Done():
	}
	return r, nil
}

func (s *Service) enterRenewal(ctx context.Context, in RenewInput) (pki.Request, error) {
	if in.Leaf == nil {
		return pki.Request{}, Presented{Verdict: Absent}.MayAct()
	}
	try := func(tx *store.Tx) (pki.Request, error) {
		p, err := present(tx, in.Leaf)
		if errors.Is(err, pki.ErrNotFound) {
			return pki.Request{}, pki.E(pki.Forbidden, "renewal.foreign")
		}
		if err != nil {
			return pki.Request{}, err
		}
		err = p.MayAct()
		if err != nil {
			return pki.Request{}, err
		}
		cases, err := tx.Revocations(store.RevocationFilter{State: pki.RevocationReceived, Serials: p.Authority.Chain, Limit: 1})
		if err != nil {
			return pki.Request{}, err
		}
		if len(cases) > 0 {
			return pki.Request{}, pki.E(pki.Conflict, "renewal.revoking")
		}
		open, err := tx.OpenRenewal(p.Authority.Certificate.Serial)
		if !errors.Is(err, pki.ErrNotFound) {
			return open, err
		}
		r, err := s.addRenewal(tx, p, in)
		crash.At("renew.1 before commit")
		return r, err
	}
	r, err := change(ctx, s, try)
	if errors.Is(err, pki.ErrConflict) { // another node was faster: its renewal is ours
		return change(ctx, s, try)
	}
	return r, err
}

func (s *Service) addRenewal(tx *store.Tx, p Presented, in RenewInput) (pki.Request, error) {
	c := p.Authority.Certificate
	opens := pki.RenewalOpens(c.NotAfter)
	if tx.Now.Before(opens) {
		return pki.Request{}, pki.E(pki.NotYet, "renewal.early").With("Opens", opens).With("To", c.NotAfter)
	}
	r := pki.Request{Kind: pki.Renewal, Source: pki.FromSite, State: pki.Approved, Application: p.Request.Application,
		Profile: "holder", KeyType: s.KeyType, Predecessor: c.Serial, Language: cmp.Or(in.Language, p.Request.Language), ApprovedAt: tx.Now}
	r.Application.CSR = nil
	err := receive(tx, holder, &r)
	if err != nil {
		return r, err
	}
	return r, tx.TellContacts(r, "renewed", r.ID, map[string]string{"Source": in.Source.String(), "RequestID": r.ID})
}

// drawReference gives a renewal its reference ID, which its page shows at once; only
// the first time.
func (s *Service) drawReference(ctx context.Context, request string) error {
	_, err := read(ctx, s, func(tx *store.Tx) (store.Reference, error) { return tx.Reference(request) })
	if !errors.Is(err, pki.ErrNotFound) {
		return err
	}
	ref := pki.NewReferenceID()
	v, err := s.Custody.NewVerifier(ctx, request, ref)
	if err != nil {
		return err
	}
	sealed, err := s.Custody.SealReference(ctx, request, ref)
	if err != nil {
		return err
	}
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Reference(request)
		if !errors.Is(err, pki.ErrNotFound) {
			return err // drawn meanwhile
		}
		drawn := store.Reference{Request: request, KID: v.KID, Salt: v.Salt, Gate: v.Gate, Tag: v.Tag, Sealed: sealed, Epoch: pki.Month(tx.Now)}
		_, _, err = tx.Audit(holder, "reference.drawn", request, map[string]any{"reference": drawn.Content(), "sealed": drawn.SealedHash()})
		if err != nil {
			return err
		}
		err = tx.AddReference(drawn)
		crash.At("renew.2 before commit")
		return err
	})
}

// Renewed is one renewal as the pages of its holder show it.
type Renewed struct {
	Request     pki.Request
	Certificate pki.Certificate // zero until issued
	Old         pki.Certificate
	ReferenceID pki.Secret // of one renewal alone; "" when its key is no longer here
	// Fetchable: the file can be made now, by 鍵の取得.
	Fetchable bool
}

// Renewal gives one renewal of the presented certificate's chain, with its reference ID:
// one that a crash left without is given it now.
func (s *Service) Renewal(ctx context.Context, leaf *x509.Certificate, id string) (Renewed, error) {
	p, err := s.looking(ctx, leaf)
	if err != nil {
		return Renewed{}, err
	}
	var sealed []byte
	drawn := true
	look := func(tx *store.Tx) (Renewed, error) {
		r, err := p.renewal(tx, id)
		if err != nil {
			return Renewed{}, err
		}
		ref, err := tx.Reference(id)
		drawn = err == nil
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return Renewed{}, err
		}
		sealed = ref.Sealed
		return renewed(tx, r)
	}
	out, err := read(ctx, s, look)
	if err == nil && !drawn && (out.Fetchable || out.Request.State.UnderWay()) {
		err = s.drawReference(ctx, id)
		if err != nil {
			return out, notBusy(err)
		}
		out, err = read(ctx, s, look)
	}
	if err != nil || len(sealed) == 0 {
		return out, err
	}
	out.ReferenceID, err = s.Custody.OpenReference(ctx, id, sealed)
	return out, notBusy(err)
}

// notBusy lets a renewal go on while the signer has too much to do: its page shows the
// reference ID as soon as it can.
func notBusy(err error) error {
	if pki.ClassOf(err) == pki.Busy {
		return nil
	}
	return err
}

// renewal reads a renewal that the presented certificate has authority over. Whatever
// else an ID is, it costs the same.
func (p Presented) renewal(tx *store.Tx, id string) (pki.Request, error) {
	r, err := tx.Request(id)
	if errors.Is(err, pki.ErrNotFound) || err == nil && (r.Kind != pki.Renewal || !p.Authority.Covers(r.Predecessor)) {
		return pki.Request{}, notYours
	}
	return r, err
}

func (s *Service) looking(ctx context.Context, leaf *x509.Certificate) (Presented, error) {
	p, err := s.Present(ctx, leaf)
	if err != nil {
		return p, err
	}
	return p, p.MayLook()
}

func renewed(tx *store.Tx, r pki.Request) (Renewed, error) {
	out := Renewed{Request: r}
	var err error
	out.Old, err = tx.Certificate(r.Predecessor)
	if err != nil || r.Serial == "" {
		return out, err
	}
	out.Certificate, err = tx.Certificate(r.Serial)
	if err != nil {
		return out, err
	}
	key, err := tx.KeyOfRequest(r.ID)
	if errors.Is(err, pki.ErrNotFound) {
		return out, nil
	}
	state := out.Certificate.State(tx.Now)
	out.Fetchable = r.State == pki.Issued && key.Stage == "held" && (state.Usable() || state == pki.NotBegun) && !tx.Now.After(r.Downloads)
	return out, err
}

// RenewalsPage is how many renewals a page of the list shows (manual §3.2.1.1).
const RenewalsPage = 20

// RenewalList lists the renewals of the presented certificate's chain, the newest first
// (更新済証明書の取得); page counts from 1, and more says whether another one follows.
func (s *Service) RenewalList(ctx context.Context, leaf *x509.Certificate, page int) (list []Renewed, more bool, err error) {
	p, err := s.looking(ctx, leaf)
	if err != nil {
		return nil, false, err
	}
	list, err = read(ctx, s, func(tx *store.Tx) ([]Renewed, error) {
		requests, err := tx.Renewals(p.Authority.Chain)
		if err != nil {
			return nil, err
		}
		from := min(max(page, 1)-1, len(requests)/RenewalsPage+1) * RenewalsPage // of any number a person may type
		from = min(from, len(requests))
		to := min(from+RenewalsPage, len(requests))
		more = to < len(requests)
		var out []Renewed
		for _, r := range requests[from:to] {
			one, err := renewed(tx, r)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
		return out, nil
	})
	return list, more, err
}

// Others lists the other certificates in force of the presented one's institution: that
// they exist, so that nobody makes one in secret (threat CO5), and no more.
func (s *Service) Others(ctx context.Context, a pki.Authority) ([]pki.Certificate, error) {
	return read(ctx, s, func(tx *store.Tx) ([]pki.Certificate, error) {
		all, err := tx.Certificates(store.CertificateFilter{HolderCode: a.Certificate.Holder.Code, Limit: 1000})
		var out []pki.Certificate
		for _, c := range all {
			if c.Holder == a.Certificate.Holder && !a.Covers(c.Serial) && c.State(tx.Now) == pki.Valid {
				out = append(out, pki.Certificate{Terminal: c.Terminal, NotAfter: c.NotAfter, IssuedAt: c.IssuedAt})
			}
		}
		return out, err
	})
}

// PrepareRenewal lays the file of a renewal ready (鍵の取得), under a ticket as
// PreparePickup does. The certificate of the connection is the authority; a reference ID
// is not asked for. The password has four digits or more.
func (s *Service) PrepareRenewal(ctx context.Context, leaf *x509.Certificate, in PickupInput) (pki.Secret, error) {
	p, err := s.looking(ctx, leaf)
	if err != nil {
		return "", err
	}
	f, err := read(ctx, s, func(tx *store.Tx) (found, error) {
		_, err := p.renewal(tx, in.RequestID)
		if err != nil {
			return found{}, err
		}
		return found{presented: leaf}.load(tx, in.RequestID)
	})
	if err != nil {
		return "", err
	}
	err = s.mayFetch(ctx, f)
	if err != nil {
		return "", err
	}
	_, ok := pki.ParseLongPIN(in.PIN.Reveal())
	if !ok {
		return "", pki.E(pki.Invalid, "renewal.pin_form")
	}
	if subtle.ConstantTimeCompare([]byte(in.PIN.Reveal()), []byte(in.PINConfirm.Reveal())) != 1 {
		return "", pki.E(pki.Invalid, "pickup.pin_differs")
	}
	file, err := s.makeFile(ctx, f, in)
	if err != nil {
		return "", err
	}
	return s.layReady(ctx, f, in, file)
}

// openWith is the reference ID with which the key of a request opens: a renewal's is not
// bound to its own, since its page hands the file out to the certificate.
func (f found) openWith() (pki.Secret, keystore.Verifier) {
	if f.request.Kind == pki.Renewal {
		return "", keystore.Verifier{}
	}
	return f.ref, f.verifier()
}
