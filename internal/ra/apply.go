package ra

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"inkan/internal/crash"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// How long what an applicant was mailed works.
const (
	DraftLife = 24 * time.Hour     // the link that confirms a mail address
	LinkLife  = 7 * 24 * time.Hour // the link to the details of a request
)

// Mails that anybody can cause (threat AP4): to one address a day so many at once, and
// so many more together in one on the next morning. Then applications with the address
// wait for tomorrow.
const (
	mailsADay   = 3
	digestLines = 50
)

// applicant is anybody on the network.
var applicant = pki.Applicant()

// DraftInput is what was typed on the site. Flow and Round name the press of the button:
// the same press twice is one draft.
type DraftInput struct {
	Flow        string
	Round       int
	Application pki.Application
	Language    string
}

// Draft is an application as its pages show it.
type Draft struct {
	Application pki.Application
	MailAt      time.Time // when the mail with its link leaves, or left
	Until       time.Time // until then the link works
	Request     *pki.Request
	// Earlier is a request for a terminal of the same name that was made with the same
	// confirmed address: nobody else learns what an institution has.
	Earlier *pki.Request
}

// Draft keeps an application for a day and mails the link that makes a request of it:
// nothing is received from an address that did not answer.
func (s *Service) Draft(ctx context.Context, in DraftInput) (Draft, error) {
	faults := in.Application.FormFaults()
	if len(faults) > 0 {
		return Draft{}, faults[0].Err
	}
	draft, err := change(ctx, s, func(tx *store.Tx) (Draft, error) {
		old, err := tx.Draft(in.Flow)
		if err == nil && (old.Round >= in.Round || old.Request != "") {
			return draftView(tx, old)
		}
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return Draft{}, err
		}
		token := newToken()
		d := store.Draft{Flow: in.Flow, Round: in.Round, TokenHash: hashOf(token), Content: in.Application, Language: in.Language}
		code := in.Application.Holder.Code
		d.MailAt, err = tellOnce(tx, in.Application.Email, store.Message{
			ID: fmt.Sprintf("confirm/%s/%d", in.Flow, in.Round), Kind: "confirm", Language: in.Language,
			Args: map[string]string{"HolderCode": code, "Path": "/p/rcr/c/" + token.Reveal()},
		}, "confirm "+code+" /p/rcr/c/"+token.Reveal())
		if err != nil {
			return Draft{}, err
		}
		d.Until = d.MailAt.Add(DraftLife)
		err = tx.PutDraft(d)
		if err != nil {
			return Draft{}, err
		}
		crash.At("apply.1 before commit")
		return draftView(tx, d)
	})
	crash.At("apply.1 after commit")
	return draft, err
}

// tellOnce mails what anybody can cause, within what an address gets in a day, and says
// when the mail leaves. line is what the digest says instead.
func tellOnce(tx *store.Tx, address string, m store.Message, line string) (time.Time, error) {
	sent, tag, err := tx.CountMail(address)
	if err != nil {
		return time.Time{}, err
	}
	m.Address = address
	m.Args["At"] = tx.Now.Format(time.RFC3339)
	if sent <= mailsADay {
		return tx.Now, tx.AddMessage(m)
	}
	morning := pki.Day(tx.Now).AddDate(0, 0, 1).Add(7 * time.Hour)
	if sent > mailsADay+digestLines {
		return time.Time{}, pki.E(pki.Limited, "apply.mails").With("Until", pki.Day(tx.Now).AddDate(0, 0, 1))
	}
	return morning, tx.Digest(store.Message{ID: "digest/" + tag, Kind: "digest", Address: address, Language: m.Language, Due: morning,
		Args: map[string]string{"At": m.Args["At"]}}, line)
}

// newToken draws the 128 bits of a mailed link.
func newToken() pki.Secret {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails; see crypto/rand
	return pki.Secret(base64.RawURLEncoding.EncodeToString(raw))
}

func hashOf(token pki.Secret) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:])
}

// noDraft says that a link leads to nothing, without telling why.
var noDraft = pki.E(pki.NotFound, "apply.link")

// DraftOf gives the draft of the flow on which it was typed.
func (s *Service) DraftOf(ctx context.Context, flow string) (Draft, error) {
	return read(ctx, s, func(tx *store.Tx) (Draft, error) {
		d, err := tx.Draft(flow)
		if err != nil {
			return Draft{}, linkError(err, noDraft)
		}
		return draftView(tx, d)
	})
}

// OpenDraft gives the draft of a mailed link. It changes nothing: mail scanners open
// links, too.
func (s *Service) OpenDraft(ctx context.Context, token pki.Secret) (Draft, error) {
	return read(ctx, s, func(tx *store.Tx) (Draft, error) {
		d, err := tx.DraftByToken(hashOf(token))
		if err != nil {
			return Draft{}, linkError(err, noDraft)
		}
		view, err := draftView(tx, d)
		if err != nil || view.Request != nil {
			return view, err
		}
		near, err := neighbours(tx, d.Content.Holder)
		if err != nil {
			return view, err
		}
		for _, r := range alike(near, d.Content.TerminalName) {
			if r.Source == pki.FromSite && r.Application.Email == d.Content.Email {
				view.Earlier = &r
			}
		}
		return view, nil
	})
}

func linkError(err error, unknown *pki.Error) error {
	if errors.Is(err, pki.ErrNotFound) {
		return unknown
	}
	return err
}

func draftView(tx *store.Tx, d store.Draft) (Draft, error) {
	view := Draft{Application: d.Content, MailAt: d.MailAt, Until: d.Until}
	if d.Request == "" {
		return view, nil
	}
	r, err := tx.Request(d.Request)
	view.Request, view.Application = &r, r.Application
	return view, err
}

// Apply makes the request of a draft, for who has the mailed link: once, however often
// the button is pressed. It mails the receipt, and tells the contacts that the
// institution has already (threat AP2): what they are mailed does not change by it. Where
// one of them got too many mails today, the applicant is told nothing of it, but the
// office is, on the record and by an alarm: nobody else warns that contact.
func (s *Service) Apply(ctx context.Context, token pki.Secret) (pki.Request, error) {
	untold := 0
	r, err := change(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		untold = 0
		d, err := tx.DraftByToken(hashOf(token))
		if err != nil {
			return pki.Request{}, linkError(err, noDraft)
		}
		if d.Request != "" {
			return tx.Request(d.Request)
		}
		near, err := neighbours(tx, d.Content.Holder)
		if err != nil {
			return pki.Request{}, err
		}
		r := pki.Request{Kind: pki.NewIssue, Source: pki.FromSite, State: pki.Received, Application: d.Content,
			Profile: "holder", KeyType: s.KeyType, Language: d.Language}
		err = enter(tx, applicant, &r)
		if err != nil {
			return r, err
		}
		err = tx.ConfirmDraft(d.Flow, r.ID, tx.Now.Add(LinkLife))
		if err != nil {
			return r, err
		}
		err = mailReceipt(tx, r, d)
		if err != nil {
			return r, err
		}
		untold, err = tellNeighbours(tx, r, near)
		crash.At("apply.2 before commit")
		return r, err
	})
	crash.At("apply.2 after commit")
	if err == nil && untold > 0 {
		s.Log.Warn("alarm: contacts of an institution were not told of an application", "request", r.ID, "contacts", untold)
	}
	return r, err
}

// mailReceipt mails the link to the details of a request. The record has the hashes of
// its token and of that which confirmed the draft, for both open the request: a link that
// it does not tell of is nobody's (threat CO12).
func mailReceipt(tx *store.Tx, r pki.Request, d store.Draft) error {
	token := newToken()
	until := tx.Now.Add(LinkLife)
	_, _, err := tx.Audit(applicant, "application.linked", r.ID, map[string]any{"link": hashOf(token), "draft": d.TokenHash, "flow": hashOf(pki.Secret(d.Flow)), "until": until})
	if err != nil {
		return err
	}
	err = tx.AddStatusLink(hashOf(token), r.ID, until)
	if err != nil {
		return err
	}
	return tx.AddMessage(store.Message{ID: "receipt/" + r.ID, Kind: "receipt", Request: r.ID, Address: r.Application.Email, Language: r.Language,
		Args: map[string]string{"At": tx.Now.Format(time.RFC3339), "RequestID": r.ID, "HolderCode": r.Application.Holder.Code,
			"Terminal": r.Application.TerminalName, "Path": "/p/status/l/" + token.Reveal()}})
}

// tellNeighbours informs every other address under which an institution is known. The
// mails name nothing that the applicant typed freely. It counts, and puts on the record,
// those whom the bound of a day kept from being told.
func tellNeighbours(tx *store.Tx, r pki.Request, near []pki.Request) (int, error) {
	untold := 0
	told := map[string]bool{r.Application.Email: true, "": true}
	for _, other := range near {
		address := other.Application.Email
		if told[address] {
			continue
		}
		told[address] = true
		code := r.Application.Holder.Code
		_, err := tellOnce(tx, address, store.Message{ID: fmt.Sprintf("applied/%s/%d", r.ID, len(told)), Kind: "applied", Request: r.ID, Language: other.Language,
			Args: map[string]string{"HolderCode": code, "RequestID": r.ID}}, "applied "+code+" "+r.ID)
		if pki.CodeOf(err) == "apply.mails" {
			untold++
		} else if err != nil {
			return 0, err
		}
	}
	if untold == 0 {
		return 0, nil
	}
	_, _, err := tx.Audit(pki.System("ra"), "application.untold", r.ID, map[string]any{"contacts": untold})
	return untold, err
}

// Progress is the coarse state of a request that anybody learns who knows its number and
// code (threat AP3).
type Progress string

// What is told.
const (
	ProgressReceived   Progress = "received"   // 受付
	ProgressProcessing Progress = "processing" // 処理中
	ProgressIssued     Progress = "issued"     // 発行済み, its letter is being made
	ProgressSent       Progress = "sent"       // 発送済み
	ProgressEnded      Progress = "ended"      // withdrawn or refused
	ProgressUnknown    Progress = "unknown"    // no such number with such a code
)

// ProgressOf tells how far a request is, and no more.
func (s *Service) ProgressOf(ctx context.Context, requestID, code string) (Progress, error) {
	id, ok := pki.ParseRequestID(requestID)
	if !ok {
		return ProgressUnknown, nil
	}
	return read(ctx, s, func(tx *store.Tx) (Progress, error) {
		r, err := tx.Request(id)
		if errors.Is(err, pki.ErrNotFound) {
			return ProgressUnknown, nil
		}
		code := pki.NarrowDigits(code)
		if err != nil || r.Kind == pki.Renewal || code != r.Application.Holder.Code && "00"+code != r.Application.Holder.Code {
			return ProgressUnknown, err
		}
		switch {
		case r.State == pki.Rejected, r.State == pki.Cancelled:
			return ProgressEnded, nil
		case r.State == pki.Received, r.State == pki.Reviewing, r.State == pki.Returned:
			return ProgressReceived, nil
		case !r.Dispatched.IsZero():
			return ProgressSent, nil
		case r.State == pki.Issued:
			return ProgressIssued, nil
		}
		return ProgressProcessing, nil
	})
}

// noLink refuses whoever has no link of a request, without telling why.
var noLink = pki.E(pki.Forbidden, "status.link")

// OpenStatus gives the request of a mailed link.
func (s *Service) OpenStatus(ctx context.Context, token pki.Secret) (pki.Request, error) {
	return read(ctx, s, func(tx *store.Tx) (pki.Request, error) {
		id, err := tx.StatusLink(hashOf(token))
		if err != nil {
			return pki.Request{}, linkError(err, noLink)
		}
		return tx.Request(id)
	})
}

// Withdrawable says whether the applicant may still withdraw a request: after the
// approval a certificate is under way, and an operator is asked.
func Withdrawable(r pki.Request) bool {
	return r.State == pki.Received || r.State == pki.Reviewing || r.State == pki.Returned
}

// Withdraw ends a request (取下げ) for who has its mailed link; pressed twice it is
// withdrawn once. Who has none is refused, on the record.
func (s *Service) Withdraw(ctx context.Context, token pki.Secret, source netip.Addr) error {
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		id, err := tx.StatusLink(hashOf(token))
		if err != nil {
			return linkError(err, noLink)
		}
		r, err := tx.Request(id)
		switch {
		case err != nil:
			return err
		case r.State == pki.Cancelled:
			return nil
		case !Withdrawable(r):
			return pki.E(pki.Conflict, "status.too_late")
		}
		err = step(tx, applicant, &r, pki.EventCancel, store.RequestChange{}, map[string]any{"why": "withdrawn by the applicant", "from address": source.String()})
		crash.At("apply.3 before commit")
		return err
	})
	crash.At("apply.3 after commit")
	if !errors.Is(err, noLink) {
		return err
	}
	recorded := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(applicant, "withdrawal.refused", "", map[string]any{"source": source.String()})
		return err
	})
	return errors.Join(err, recorded)
}
