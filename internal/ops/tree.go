package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/crash"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
)

// TreeSigner is the signer process as the audit tree needs it.
type TreeSigner interface {
	Info(ctx context.Context) (keystore.Info, error)
	SignCheckpoint(ctx context.Context, after int64, next pki.Checkpoint, proof tlog.TreeProof) ([]byte, error)
	AcceptLoss(ctx context.Context, l pki.Loss, by []pki.LossSignature) error
}

// Head gives what a signer remembers of the audit tree.
func Head(info keystore.Info) audit.Head {
	return audit.Head{Checkpoint: info.Tree, VerifierKey: info.AuditVerifierKey, Losses: info.Losses}
}

// Follow asks the signer what it remembers of the audit tree and compares, in both
// directions: the tree must extend what the signer remembers (audit.contradicts), and the
// signer must remember the newest saved checkpoint, which is told and recorded otherwise.
func (s *Service) Follow(ctx context.Context) (audit.Head, error) {
	info, err := s.Signer.Info(ctx)
	if err != nil {
		return audit.Head{}, err
	}
	head := Head(info)
	err = s.DB.Follow(ctx, head)
	if err != nil {
		return head, err
	}
	err = s.recordLosses(ctx, head.Losses)
	if err != nil {
		return head, err
	}
	return head, s.checkJournal(ctx, head)
}

// Verdict is the outcome of Verify.
type Verdict struct {
	Tree audit.Report
	Rows RegisterReport
}

// OK says whether nothing was found.
func (v Verdict) OK() bool { return v.Tree.OK() && v.Rows.OK() }

// Verify checks everything that is covered (docs/TRUST.md): the records against the tree,
// its checkpoints and what the signer remembers, and the rows against the records. It
// writes nothing and has nothing signed.
func (s *Service) Verify(ctx context.Context) (Verdict, error) {
	var v Verdict
	info, err := s.Signer.Info(ctx)
	if err != nil {
		return v, err
	}
	v.Tree, err = s.DB.VerifyAudit(ctx, Head(info), nil)
	if err != nil {
		return v, err
	}
	v.Rows, err = s.VerifyRegister(ctx)
	return v, err
}

// Checkpoint has the signer sign the present audit tree, if that extends what it
// remembers and has grown.
func (s *Service) Checkpoint(ctx context.Context) error {
	head, err := s.Follow(ctx)
	if err != nil {
		return err
	}
	err = s.bringHead(ctx, head)
	if err != nil {
		return err
	}
	var proof tlog.TreeProof
	next := pki.Checkpoint{Number: head.Number + 1}
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		saved, err := tx.NewestSigned(head.VerifierKey)
		if err != nil {
			return err
		}
		next.Number = max(next.Number, saved.Number+1)
		next.Size, next.Root, err = tx.AuditTree()
		if err == nil && head.Number > 0 {
			proof, err = tx.ProveConsistency(head.Size)
		}
		return err
	})
	if err != nil || next.Size == head.Size {
		return err
	}
	return s.obtain(ctx, head, next, proof)
}

// bringHead saves the newest checkpoint of the signer where it is not saved: somebody died
// between the signer and the database. So only the newest can be missing.
func (s *Service) bringHead(ctx context.Context, head audit.Head) error {
	if head.Number == 0 {
		return nil
	}
	var saved audit.SignedCheckpoint
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		saved, err = tx.Checkpoint(head.Number)
		return err
	})
	if errors.Is(err, pki.ErrNotFound) {
		return s.obtain(ctx, head, head.Checkpoint, nil)
	}
	if err == nil {
		s.saw(head, saved.Note)
	}
	return err
}

// obtain has a checkpoint signed and saves it. Where another node was faster, it is left
// to that one.
func (s *Service) obtain(ctx context.Context, head audit.Head, next pki.Checkpoint, proof tlog.TreeProof) error {
	crash.At("checkpoint.1 before the signer")
	note, err := s.Signer.SignCheckpoint(ctx, head.Number, next, proof)
	crash.At("checkpoint.1 after the signer")
	if pki.CodeOf(err) == "signer.tree_moved" {
		return nil
	}
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		err := tx.SaveCheckpoint(note)
		crash.At("checkpoint.2 before commit")
		return err
	})
	crash.At("checkpoint.2 after commit")
	if err == nil {
		head.Checkpoint = next
		s.saw(head, note)
	}
	return err
}

func (s *Service) saw(head audit.Head, note []byte) {
	if s.Saw != nil {
		s.Saw(head, note)
	}
}

// setBack is the body of an audit record signer.set_back.
type setBack struct {
	Signed     pki.Checkpoint `json:"signed"`     // the newest that is saved
	Remembered pki.Checkpoint `json:"remembered"` // the newest that the signer's journal knows
}

// checkJournal compares the newest saved checkpoint with the signer's memory. It
// journals before it signs; so a signer that knows less has lost the end of its journal,
// or has an older one: from a backup, or by somebody's hand. That is told and recorded
// and no refusal, because a backup may be all that is left. The next checkpoint brings
// its memory of the tree up to the present.
func (s *Service) checkJournal(ctx context.Context, head audit.Head) error {
	var newest pki.Checkpoint
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		newest, err = tx.NewestSigned(head.VerifierKey)
		return err
	})
	if err != nil || newest.Number <= head.Number {
		return err
	}
	s.Log.ErrorContext(ctx, "alarm: the signer's journal is older than what it signed", "signed", newest.Size, "remembered", head.Size)
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(pki.System("checkpoint"), "signer.set_back", "signer", setBack{newest, head.Checkpoint})
		return err
	})
}

// kindLoss is the kind of the record that says that a loss was accepted; its subject is
// the number of the checkpoint with which the tree goes on.
const kindLoss = "audit.loss_accepted"

// recordLosses records what the signer accepted, where that is not recorded: the command
// that accepted it died, or the record was in a database that was lost as well.
func (s *Service) recordLosses(ctx context.Context, losses []pki.Loss) error {
	for _, l := range losses {
		err := s.recordLoss(ctx, pki.System("checkpoint"), LossStatement{Loss: l})
		if err != nil {
			return err
		}
	}
	return nil
}

// recordLoss records a loss, once.
func (s *Service) recordLoss(ctx context.Context, by pki.Actor, l LossStatement) error {
	subject := fmt.Sprintf("checkpoint/%d", l.Loss.Next.Number)
	recorded := func(tx *store.Tx) (bool, error) {
		records, err := tx.AuditAbout(subject, 1)
		return len(records) > 0 && records[0].Kind == kindLoss, err
	}
	var there bool
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		there, err = recorded(tx)
		return err
	})
	if err != nil || there {
		return err
	}
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		there, err := recorded(tx)
		if err != nil || there {
			return err
		}
		_, _, err = tx.Audit(by, kindLoss, subject, l)
		return err
	})
}

// LossStatement is a loss with the signatures of those who accept it: a file that goes
// from the first administrator to the second.
type LossStatement struct {
	Loss       pki.Loss            `json:"loss"`
	Operators  []string            `json:"operators"`
	Signatures []pki.LossSignature `json:"signatures"`
}

// DraftLoss states what the signer remembers and the tree does not hold. audit.no_loss:
// nothing is lost.
func (s *Service) DraftLoss(ctx context.Context, reason string) (LossStatement, error) {
	if reason == "" || len(reason) > pki.MaxLossReason {
		return LossStatement{}, pki.E(pki.Invalid, "audit.loss_reason").With("Limit", pki.MaxLossReason)
	}
	info, err := s.Signer.Info(ctx)
	if err != nil {
		return LossStatement{}, err
	}
	err = s.DB.Follow(ctx, Head(info))
	if err == nil {
		return LossStatement{}, pki.E(pki.Conflict, "audit.no_loss")
	}
	if pki.CodeOf(err) != "audit.contradicts" {
		return LossStatement{}, err
	}
	l := pki.Loss{Instance: info.InstanceID, Lost: info.Tree, Reason: reason}
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		kept, err := tx.LastHolding(info.AuditVerifierKey)
		if err != nil {
			return err
		}
		newest, err := tx.NewestSigned(info.AuditVerifierKey)
		if err != nil {
			return err
		}
		l.Kept, l.Next.Number = kept.Number, max(l.Lost.Number, newest.Number)+1
		l.Next.Size, l.Next.Root, err = tx.AuditTree()
		return err
	})
	l.At = s.Now().UTC().Truncate(1e9)
	return LossStatement{Loss: l}, err
}

// SignLoss adds the signature of an administrator. The proof writes no record, for nothing
// is written on such a tree: the record follows when the signer has accepted.
func (s *Service) SignLoss(ctx context.Context, l LossStatement, operator string, certDER []byte, sign func(text []byte) ([]byte, error)) (LossStatement, error) {
	err := s.administrator(ctx, operator, certDER)
	if err != nil {
		return l, err
	}
	for _, other := range l.Operators {
		if other == operator {
			return l, pki.E(pki.Forbidden, "audit.loss_second")
		}
	}
	signature, err := sign(l.Loss.Statement())
	if err != nil {
		return l, err
	}
	l.Operators = append(l.Operators, operator)
	l.Signatures = append(l.Signatures, pki.LossSignature{Certificate: certDER, Signature: signature})
	return l, nil
}

// administrator says whether a certificate is that of an administrator who is in force.
func (s *Service) administrator(ctx context.Context, id string, certDER []byte) error {
	return s.DB.View(ctx, func(tx *store.Tx) error {
		a, err := holderOfKey(tx, id, certDER)
		if err != nil {
			return err
		}
		return a.Need(pki.MayManage)
	})
}

// AcceptLoss has the signer follow the tree that is there, on the signatures of two
// administrators, and records it. It may be repeated.
func (s *Service) AcceptLoss(ctx context.Context, l LossStatement) error {
	if len(l.Signatures) != 2 || len(l.Operators) != 2 || l.Operators[0] == l.Operators[1] {
		return pki.E(pki.Forbidden, "audit.loss_second")
	}
	for i, operator := range l.Operators {
		err := s.administrator(ctx, operator, l.Signatures[i].Certificate)
		if err != nil {
			return err
		}
	}
	err := s.Signer.AcceptLoss(ctx, l.Loss, l.Signatures)
	if err != nil {
		return err
	}
	info, err := s.Signer.Info(ctx)
	if err != nil {
		return err
	}
	err = s.DB.Follow(ctx, Head(info))
	if err != nil {
		return err
	}
	by := pki.Actor{ID: l.Operators[1], Auth: pki.AuthKey}
	err = s.recordLoss(ctx, by, l)
	if err != nil {
		return err
	}
	return s.Checkpoint(ctx)
}

// ReadLossStatement reads the file of a statement. audit.loss_file: it is none.
func ReadLossStatement(raw []byte) (LossStatement, error) {
	var l LossStatement
	err := json.Unmarshal(raw, &l)
	if err == nil && (len(l.Operators) != len(l.Signatures) || l.Loss.Next.Number < 1) {
		err = errors.New("it is not whole")
	}
	if err != nil {
		return LossStatement{}, pki.E(pki.Invalid, "audit.loss_file").Because(err)
	}
	return l, nil
}
