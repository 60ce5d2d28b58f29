package ops

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// Recovery is what the root key signs where no administrator can act any more: that this
// instance gets one more administrator (threat CO10).
type Recovery struct {
	Instance string
	Operator string // ID of the new administrator
	At       time.Time
	Nonce    string
}

// offline is who acts with the key that init carried away.
var offline = pki.Actor{ID: "offline/root", Auth: pki.AuthOffline}

// NewRecovery drafts a statement for this instance.
func (s *Service) NewRecovery(ctx context.Context, operator string) (Recovery, error) {
	instance, err := s.instance(ctx)
	if err != nil {
		return Recovery{}, err
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails; see crypto/rand
	return Recovery{Instance: instance, Operator: operator, At: s.Now().UTC(), Nonce: hex.EncodeToString(nonce)}, nil
}

func (s *Service) instance(ctx context.Context) (string, error) {
	var i store.Instance
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		i, err = tx.Instance()
		return err
	})
	return i.UUID, err
}

// text is what is signed. It begins with a name and a version, and so it is no
// certificate, CRL or anything else that the root key signs. No value has a line end:
// see check.
func (r Recovery) text() string {
	return fmt.Sprintf("inkan recovery 1\ninstance %s\noperator %s\nat %s\nnonce %s\n", r.Instance, r.Operator, r.At.UTC().Format(time.RFC3339Nano), r.Nonce)
}

// Sign signs the statement with the root key.
func (r Recovery) Sign(root crypto.Signer) ([]byte, error) {
	digest := sha256.Sum256([]byte(r.text()))
	return root.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// CheckRecovery says whether the root key of this instance signed a statement, just now,
// for this operator. What is wrong is recovery.unproved with a private cause.
func (s *Service) CheckRecovery(ctx context.Context, r Recovery, signature []byte, o pki.Operator) error {
	unproved := pki.E(pki.Forbidden, "recovery.unproved")
	instance, err := s.instance(ctx)
	if err != nil {
		return err
	}
	nonce, err := hex.DecodeString(r.Nonce)
	if err != nil || len(nonce) != 16 {
		return unproved.Because(errors.New("nonce is not of its form"))
	}
	if CheckID(r.Operator) != nil || r.Operator != o.ID || r.Instance != instance {
		return unproved.Because(errors.New("the statement is about another operator or instance"))
	}
	age := s.Now().Sub(r.At)
	if age > statementLife || age < -statementLife {
		return unproved.Because(fmt.Errorf("statement is %s old", age))
	}
	digest := sha256.Sum256([]byte(r.text()))
	if s.Root == nil || !signed(s.Root.PublicKey, digest[:], signature) {
		return unproved.Because(errors.New("signature does not match"))
	}
	return nil
}

// Recover makes an administrator at the word of the root key, once for each statement.
// The others stay as they are: the new one disables whose key is lost.
func (s *Service) Recover(ctx context.Context, r Recovery, signature []byte, o pki.Operator) error {
	o.Roles = []pki.Role{pki.RoleAdmin}
	err := s.CheckRecovery(ctx, r, signature, o)
	if err != nil {
		return err
	}
	err = CheckOperator(o)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(offline, "operator.recovered", o.ID, map[string]any{"statement": r.text(), "signature": signature})
		if err != nil {
			return err
		}
		err = s.addIn(tx, offline, o)
		if err != nil {
			return err
		}
		err = tx.UseStatement(r.Nonce, o.ID)
		if errors.Is(err, pki.ErrConflict) {
			return pki.E(pki.Forbidden, "actor.replayed")
		}
		return err
	})
	if err == nil {
		s.tellRecovered(ctx, o.ID)
	}
	return exists(err, o.ID)
}

func (s *Service) tellRecovered(ctx context.Context, id string) {
	s.Log.ErrorContext(ctx, "alarm: an administrator was made with the root key", "operator", id)
}

// recoveryTold is how old a recovery may be that a start of serve still tells of.
const recoveryTold = 24 * time.Hour

// TellRecoveries logs an alarm for each administrator who was made with the root key since
// it was last called: the log of a command is seen by its user alone.
func (s *Service) TellRecoveries(ctx context.Context) error {
	all, err := s.Operators(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if s.told[o.ID] {
			continue
		}
		recovered := false
		if s.Now().Sub(o.CreatedAt) < recoveryTold {
			err = s.DB.View(ctx, func(tx *store.Tx) error {
				records, err := tx.AuditOf([]string{o.ID})
				for _, r := range records {
					recovered = recovered || r.Kind == "operator.recovered"
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		if recovered {
			s.tellRecovered(ctx, o.ID)
		}
		s.told[o.ID] = true
	}
	return nil
}
