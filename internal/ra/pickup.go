package ra

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"inkan/internal/crash"
	"inkan/internal/delivery"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// PickupInput is what a person types at the download site (証明書の取得), and from
// where.
type PickupInput struct {
	RequestID   string
	ReferenceID pki.Secret
	PIN         pki.Secret
	PINConfirm  pki.Secret
	Legacy      bool // 3DES for Windows 8.1
	CookieHash  [32]byte
	Source      netip.Addr
}

// PickupView is what the page of a prepared file shows.
type PickupView struct {
	RequestID    string
	Holder       pki.Holder
	TerminalName string
	Issuer       string
	NotBefore    time.Time
	NotAfter     time.Time
	Deadline     time.Time // until when the file may be prepared anew
	TicketUntil  time.Time
	FileName     string
	SHA256       string // hex
	Size         int
	FetchesLeft  int
	Legacy       bool
	KeyHere      bool // the file can be prepared anew until Deadline
	Renewal      bool
}

// A ticket lives ten minutes and serves three fetches: virus scanners and download
// managers fetch again.
const (
	TicketLife  = 10 * time.Minute
	TicketUses  = 3
	ticketIDLen = 16
)

var errWrongIDs = pki.E(pki.NotFound, "pickup.wrong_ids")

// PreparePickup checks both IDs, opens the holder's key with the letter's reference
// ID, and lays the PKCS#12 file ready under a one-time ticket bound to the browser's
// cookie. Before both IDs are right every cause is pickup.wrong_ids (threat DL4);
// after that each state has its own code. The PIN is not kept.
func (s *Service) PreparePickup(ctx context.Context, in PickupInput) (pki.Secret, error) {
	found, err := s.identify(ctx, in)
	if err != nil {
		return "", err
	}
	err = s.mayFetch(ctx, found) // before the PIN: right IDs too early are an alarm, whatever else was typed
	if err != nil {
		return "", err
	}
	_, ok := pki.ParsePIN(in.PIN.Reveal())
	if !ok {
		return "", pki.E(pki.Invalid, "pickup.pin_form")
	}
	if subtle.ConstantTimeCompare([]byte(in.PIN.Reveal()), []byte(in.PINConfirm.Reveal())) != 1 {
		return "", pki.E(pki.Invalid, "pickup.pin_differs")
	}
	file, err := s.makeFile(ctx, found, in)
	if err != nil {
		return "", err
	}
	return s.layReady(ctx, found, in, file)
}

// found is a request whose two IDs were right, with what belongs to it.
type found struct {
	request     pki.Request
	reference   store.Reference
	ref         pki.Secret
	certificate pki.Certificate
	key         store.SealedKey
	presented   *x509.Certificate // the authority; nil where the two IDs are
}

func (f found) verifier() keystore.Verifier {
	return keystore.Verifier{KID: f.reference.KID, Salt: f.reference.Salt, Gate: f.reference.Gate, Tag: f.reference.Tag}
}

// identify checks both IDs by one look at the database and one question to the
// signer, whatever the cause of a refusal: an unknown request has the empty verifier,
// which is always wrong (threat DL4). Everything else is read once both were right.
func (s *Service) identify(ctx context.Context, in PickupInput) (found, error) {
	var f found
	id, idOK := pki.ParseRequestID(in.RequestID)
	ref, refOK := pki.ParseReferenceID(in.ReferenceID.Reveal())
	if !idOK || !refOK {
		return f, errWrongIDs
	}
	busy := func(err error) error { return pki.E(pki.Busy, "pickup.busy").Because(err) }
	reference, err := read(ctx, s, func(tx *store.Tx) (store.Reference, error) { return tx.Reference(id) })
	if err != nil && !errors.Is(err, pki.ErrNotFound) {
		return f, busy(err)
	}
	f.reference, f.ref = reference, ref
	right, err := s.Custody.CheckReference(ctx, id, ref, f.verifier())
	if err != nil {
		return f, busy(err)
	}
	if !right || !reference.Voided.IsZero() {
		return f, errWrongIDs
	}
	f, err = read(ctx, s, func(tx *store.Tx) (found, error) { return f.load(tx, id) })
	if err != nil {
		return f, busy(err)
	}
	return f, nil
}

// load reads what belongs to a request whose IDs were right.
func (f found) load(tx *store.Tx, id string) (found, error) {
	var err error
	f.request, err = tx.Request(id)
	if err != nil || f.request.Serial == "" {
		return f, err
	}
	f.certificate, err = tx.Certificate(f.request.Serial)
	if err != nil {
		return f, err
	}
	f.key, err = tx.KeyOfRequest(id)
	if errors.Is(err, pki.ErrNotFound) {
		return f, nil
	}
	return f, err
}

// mayFetch says why a holder with the right IDs gets no file now, each cause in its
// own words.
func (s *Service) mayFetch(ctx context.Context, f found) error {
	r, now := f.request, s.Now()
	gone := func(code string) error { return pki.E(pki.Gone, code) }
	switch r.State {
	case pki.Issued:
	case pki.Cancelled:
		return gone("pickup.cancelled")
	case pki.Rejected:
		return gone("pickup.rejected")
	default:
		return pki.E(pki.NotYet, "pickup.not_issued")
	}
	if !s.ActivateOnIssue && r.Dispatched.IsZero() && r.Kind != pki.Renewal { // a renewal's IDs stand on its page
		return s.readEarly(ctx, r)
	}
	switch f.certificate.State(now) {
	case pki.Revoked:
		if f.certificate.Reason == pki.CessationOfOperation && now.After(r.Downloads) && r.FetchedAt.IsZero() {
			return pki.E(pki.Gone, "pickup.deadline").With("Deadline", r.Downloads)
		}
		return gone("pickup.revoked")
	case pki.Suspended:
		return gone("pickup.suspended")
	case pki.Expired:
		return gone("pickup.expired")
	}
	switch {
	case !r.NeedsKey():
		return pki.E(pki.Invalid, "pickup.csr")
	case now.After(r.Downloads):
		return pki.E(pki.Gone, "pickup.deadline").With("Deadline", r.Downloads)
	case f.key.Stage != "held":
		return gone("pickup.key_destroyed")
	}
	return nil
}

// readEarly is threat LE3: right IDs before the letter left mean that somebody has
// read it. No file, an alarm, a record.
func (s *Service) readEarly(ctx context.Context, r pki.Request) error {
	s.Log.ErrorContext(ctx, "alarm: letter IDs used before dispatch", "request", r.ID)
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(holder, "letter.read_early", r.ID, nil)
		return err
	})
	if err != nil {
		return err
	}
	return pki.E(pki.NotYet, "pickup.not_dispatched")
}

// makeFile opens the held key and makes the PKCS#12 file. A key leaves only with its
// own certificate (threat DL10); delivery refuses another.
func (s *Service) makeFile(ctx context.Context, f found, in PickupInput) ([]byte, error) {
	crash.At("download.1 before the signer")
	ref, verifier := f.openWith()
	pkcs8, err := s.Custody.OpenHeld(ctx, keystore.OpenRequest{
		KeyID: f.key.ID, RequestID: f.request.ID, SPKISHA256: f.certificate.SPKISHA256, Blob: f.key.Blob,
		Reference: ref, Verifier: verifier,
	})
	crash.At("download.1 after the signer")
	if err != nil {
		return nil, fmt.Errorf("open held key of %s: %w", f.request.ID, err)
	}
	defer clear(pkcs8)
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("parse held key of %s: %w", f.request.ID, err)
	}
	cert, err := x509.ParseCertificate(f.certificate.DER)
	if err != nil {
		return nil, fmt.Errorf("parse certificate %s: %w", f.request.Serial, err)
	}
	chain := make([]*x509.Certificate, len(s.Chain))
	for i, der := range s.Chain {
		chain[i], err = x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse chain: %w", err)
		}
	}
	select { // a file costs a core 60 ms: two hundred at once would all be late
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to make the file: %w", ctx.Err())
	}
	return delivery.PKCS12(key, cert, chain, in.PIN, delivery.Options{
		Legacy:       in.Legacy,
		FriendlyName: f.request.Application.Holder.Code + " " + f.request.Application.TerminalName + " " + f.certificate.NotAfter.In(pki.JST).Format("2006-01-02"),
	})
}

// layReady seals the file under a key that lives only in the ticket (threat DL8) and
// records the download. The state is checked again in the transaction that acts.
func (s *Service) layReady(ctx context.Context, f found, in PickupInput, file []byte) (pki.Secret, error) {
	raw := make([]byte, ticketIDLen+chacha20poly1305.KeySize)
	_, _ = rand.Read(raw) // never fails; see crypto/rand
	id, key := hex.EncodeToString(raw[:ticketIDLen]), raw[ticketIDLen:]
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return "", err
	}
	keyHash, fileHash := sha256.Sum256(key), sha256.Sum256(file)
	t := store.Ticket{ID: id, Request: f.request.ID, KeyHash: keyHash[:], CookieHash: in.CookieHash[:], Legacy: in.Legacy,
		Blob:       aead.Seal(nil, ticketNonce, file, []byte(id)),
		FileSHA256: hex.EncodeToString(fileHash[:]), FileSize: len(file)}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		r, err := tx.Request(f.request.ID)
		if err != nil {
			return err
		}
		c, err := tx.Certificate(f.certificate.Serial)
		if err != nil {
			return err
		}
		err = f.standing(tx)
		if err != nil {
			return err
		}
		if r.State != pki.Issued || !c.State(tx.Now).Usable() && c.State(tx.Now) != pki.NotBegun {
			return pki.E(pki.Gone, "pickup.revoked")
		}
		t.Until = tx.Now.Add(TicketLife)
		_, _, err = tx.Audit(holder, "pickup.prepared", r.ID, map[string]any{
			"source": in.Source.String(), "legacy": in.Legacy, "sha256": t.FileSHA256,
		})
		if err != nil {
			return err
		}
		err = s.tellFirst(tx, r, in)
		if err != nil {
			return err
		}
		err = tx.AddTicket(t)
		crash.At("download.2 before commit")
		return err
	})
	crash.At("download.2 after commit")
	if err != nil {
		return "", err
	}
	return pki.Secret(base64.RawURLEncoding.EncodeToString(raw)), nil
}

// standing judges the certificate that is the authority within the transaction that acts
// on it (threat RS14).
func (f found) standing(tx *store.Tx) error {
	if f.presented == nil {
		return nil
	}
	p, err := present(tx, f.presented)
	if err != nil {
		return err
	}
	return p.MayLook()
}

// tellFirst mails the holder at the first download: it is never silent (threat LE1).
func (s *Service) tellFirst(tx *store.Tx, r pki.Request, in PickupInput) error {
	first, err := tx.MarkFetched(r.ID)
	if err != nil || !first {
		return err
	}
	return tx.AddMessage(store.Message{ID: "downloaded/" + r.ID, Kind: "downloaded", Request: r.ID,
		Address: r.Application.Email, Language: r.Language,
		Args: map[string]string{"HolderCode": r.Application.Holder.Code, "Terminal": r.Application.TerminalName,
			"At": tx.Now.Format(time.RFC3339), "Source": in.Source.String()}})
}

// ticketNonce may be constant: each ticket's key seals one file.
var ticketNonce = make([]byte, chacha20poly1305.NonceSize)

// open reads a ticket for the browser that asked for it.
func (s *Service) open(tx *store.Tx, ticket pki.Secret, cookieHash [32]byte) (store.Ticket, cipher.AEAD, error) {
	unknown := pki.E(pki.NotFound, "ticket.unknown")
	raw, err := base64.RawURLEncoding.DecodeString(ticket.Reveal())
	if err != nil || len(raw) != ticketIDLen+chacha20poly1305.KeySize {
		return store.Ticket{}, nil, unknown
	}
	t, err := tx.Ticket(hex.EncodeToString(raw[:ticketIDLen]))
	if errors.Is(err, pki.ErrNotFound) {
		return t, nil, pki.E(pki.Gone, "ticket.over")
	}
	if err != nil {
		return t, nil, err
	}
	keyHash := sha256.Sum256(raw[ticketIDLen:])
	if subtle.ConstantTimeCompare(keyHash[:], t.KeyHash) != 1 {
		return t, nil, unknown
	}
	if subtle.ConstantTimeCompare(cookieHash[:], t.CookieHash) != 1 {
		s.Log.Warn("ticket used in another browser", "request", t.Request)
		return t, nil, pki.E(pki.Forbidden, "ticket.foreign")
	}
	if tx.Now.After(t.Until) {
		return t, nil, pki.E(pki.Gone, "ticket.over")
	}
	aead, err := chacha20poly1305.New(raw[ticketIDLen:])
	return t, aead, err
}

// inForce reads what a ticket is for. A certificate that was revoked meanwhile is
// neither shown nor handed out.
func inForce(tx *store.Tx, t store.Ticket) (pki.Request, pki.Certificate, error) {
	r, err := tx.Request(t.Request)
	if err != nil {
		return r, pki.Certificate{}, err
	}
	c, err := tx.Certificate(r.Serial)
	if err == nil && c.Stopped(tx.Now) {
		err = pki.E(pki.Gone, "pickup.revoked")
	}
	return r, c, err
}

// PickupPage gives what the page of a ticket shows. It may be asked for any number of
// times while the ticket lives.
func (s *Service) PickupPage(ctx context.Context, ticket pki.Secret, cookieHash [32]byte) (PickupView, error) {
	return read(ctx, s, func(tx *store.Tx) (PickupView, error) {
		t, _, err := s.open(tx, ticket, cookieHash)
		if err != nil {
			return PickupView{}, err
		}
		r, c, err := inForce(tx, t)
		if err != nil {
			return PickupView{}, err
		}
		_, err = tx.KeyOfRequest(r.ID)
		here := err == nil
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return PickupView{}, err
		}
		return PickupView{RequestID: r.ID, Holder: r.Application.Holder, TerminalName: r.Application.TerminalName,
			Issuer: s.IssuerName, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Deadline: r.Downloads, TicketUntil: t.Until,
			FileName: r.ID + ".p12", SHA256: t.FileSHA256, Size: t.FileSize, FetchesLeft: TicketUses - t.Uses, Legacy: t.Legacy, KeyHere: here, Renewal: r.Kind == pki.Renewal}, nil
	})
}

// PickupFile gives the file and counts the fetch. A certificate that was revoked
// meanwhile is not handed out.
func (s *Service) PickupFile(ctx context.Context, ticket pki.Secret, cookieHash [32]byte) (string, []byte, error) {
	var name string
	file, err := change(ctx, s, func(tx *store.Tx) ([]byte, error) {
		t, aead, err := s.open(tx, ticket, cookieHash)
		if err != nil {
			return nil, err
		}
		r, _, err := inForce(tx, t)
		if err != nil {
			return nil, err
		}
		err = tx.UseTicket(t.ID, TicketUses)
		if errors.Is(err, pki.ErrConflict) {
			return nil, pki.E(pki.Gone, "ticket.over")
		}
		if err != nil {
			return nil, err
		}
		_, _, err = tx.Audit(holder, "pickup.fetched", r.ID, map[string]any{"ticket": t.ID[:8]})
		if err != nil {
			return nil, err
		}
		name = r.ID + ".p12"
		crash.At("download.3 before commit")
		return aead.Open(nil, ticketNonce, t.Blob, []byte(t.ID))
	})
	crash.At("download.3 after commit")
	return name, file, err
}

// EndPickup destroys the key at the wish of its holder, who has saved the file and
// keeps a copy of it (threat DL9): from now on nobody can make the file anew, not even
// with the letter. The browser that holds the ticket asks; a file that was never
// fetched from it is refused with pickup.not_saved. It may be asked again.
func (s *Service) EndPickup(ctx context.Context, ticket pki.Secret, cookieHash [32]byte) error {
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		t, _, err := s.open(tx, ticket, cookieHash)
		if err != nil {
			return err
		}
		r, _, err := inForce(tx, t)
		if err != nil {
			return err
		}
		if t.Uses == 0 {
			return pki.E(pki.Conflict, "pickup.not_saved")
		}
		return s.Issuer.DestroyKeyIn(tx, holder, r.ID, map[string]any{"wish": "holder"})
	})
}
