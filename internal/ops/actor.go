package ops

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// Statement is what an operator's key signs to prove a command: who, what, on which
// content, when, once. Version is that of the text that is signed.
type Statement struct {
	Version  int       `json:"version"`
	Operator string    `json:"operator"`
	Command  string    `json:"command"`
	Content  string    `json:"content"`
	At       time.Time `json:"at"`
	Nonce    string    `json:"nonce"`
}

// statementLife is how old a statement may be.
const statementLife = 2 * time.Minute

// NewStatement drafts a statement.
func (s *Service) NewStatement(operator, command, content string) Statement {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails; see crypto/rand
	return Statement{Version: statementContent.Version, Operator: operator, Command: command, Content: content, At: s.Now().UTC(), Nonce: hex.EncodeToString(nonce)}
}

var statementContent = pki.Content[Statement]{Name: "statement", Version: 1, Fields: []pki.ContentField[Statement]{
	{Name: "operator", Since: 1, Value: func(st Statement) string { return st.Operator }},
	{Name: "command", Since: 1, Value: func(st Statement) string { return st.Command }},
	{Name: "content", Since: 1, Value: func(st Statement) string { return st.Content }},
	{Name: "at", Since: 1, Value: func(st Statement) string { return pki.ContentTime(st.At) }},
	{Name: "nonce", Since: 1, Value: func(st Statement) string { return st.Nonce }},
}}

// digest gives the SHA-256 of the text; an error where the version has none.
func (st Statement) digest() ([]byte, error) {
	text, ok := statementContent.Text(st, st.Version)
	if !ok {
		return nil, fmt.Errorf("no statement has version %d", st.Version)
	}
	d := sha256.Sum256([]byte(text))
	return d[:], nil
}

// Sign signs a statement with an operator's key.
func (st Statement) Sign(key crypto.Signer) ([]byte, error) {
	d, err := st.digest()
	if err != nil {
		return nil, err
	}
	return key.Sign(rand.Reader, d, crypto.SHA256)
}

// Prove turns a signed statement into an actor: the certificate is the operator's
// (by its hash, not its name), neither of them is disabled, and the statement is
// fresh and was never used. Errors are actor.unproved with a private cause, so that
// nobody learns which part was wrong, or actor.replayed.
func (s *Service) Prove(ctx context.Context, st Statement, certDER, signature []byte) (pki.Actor, error) {
	unproved := pki.E(pki.Forbidden, "actor.unproved").With("Operator", st.Operator)
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return pki.Actor{}, unproved.Because(err)
	}
	d, err := st.digest()
	if err != nil {
		return pki.Actor{}, unproved.Because(err)
	}
	if !signed(cert.PublicKey, d, signature) {
		return pki.Actor{}, unproved.Because(errors.New("signature does not match"))
	}
	age := s.Now().Sub(st.At)
	if age > statementLife || age < -statementLife {
		return pki.Actor{}, unproved.Because(fmt.Errorf("statement is %s old", age))
	}
	check := func(tx *store.Tx) (pki.Actor, error) { return holderOfKey(tx, st.Operator, certDER) }
	return s.proved(ctx, st.Command, check, func(tx *store.Tx, a pki.Actor) error {
		_, _, err := tx.Audit(a, "operator.proved", a.ID, map[string]any{"statement": st, "signature": signature})
		if err != nil {
			return err
		}
		err = tx.UseStatement(st.Nonce, a.ID)
		if errors.Is(err, pki.ErrConflict) {
			return pki.E(pki.Forbidden, "actor.replayed")
		}
		return err
	})
}

// ClockAccept is the command by which an administrator says that the clock is right.
const ClockAccept = "clock accept"

// proved gives the actor whom check finds, and puts the proof on the record. A record is a
// commit, and there is none while the clock is in doubt. So an administrator who proves
// ClockAccept is looked up before, and the clock is believed from then on.
func (s *Service) proved(ctx context.Context, command string, check func(tx *store.Tx) (pki.Actor, error), record func(tx *store.Tx, a pki.Actor) error) (pki.Actor, error) {
	var a pki.Actor
	look := func(tx *store.Tx) error {
		var err error
		a, err = check(tx)
		return err
	}
	if command == ClockAccept {
		err := s.DB.View(ctx, look)
		if err == nil {
			err = a.Need(pki.MayManage)
		}
		if err != nil {
			return pki.Actor{}, err
		}
		s.BelieveClock()
	}
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		err := look(tx)
		if err != nil {
			return err
		}
		return record(tx, a)
	})
	if err != nil {
		return pki.Actor{}, err
	}
	return a, nil
}

// holderOfKey gives the operator whose certificate it is, as somebody who has its key. Both
// must be in force: actor.unproved with a private cause.
func holderOfKey(tx *store.Tx, id string, certDER []byte) (pki.Actor, error) {
	unproved := pki.E(pki.Forbidden, "actor.unproved").With("Operator", id)
	o, err := tx.Operator(id)
	if errors.Is(err, pki.ErrNotFound) {
		return pki.Actor{}, unproved.Because(err)
	}
	if err != nil {
		return pki.Actor{}, err
	}
	c, err := tx.OwnCertificateByHash(hashHex(certDER))
	if errors.Is(err, pki.ErrNotFound) {
		return pki.Actor{}, unproved.Because(err)
	}
	if err != nil {
		return pki.Actor{}, err
	}
	if !o.DisabledAt.IsZero() || c.SHA256 != o.CertSHA256 || !c.State(tx.Now).Usable() {
		return pki.Actor{}, unproved.Because(errors.New("operator or certificate is not in force"))
	}
	return pki.Actor{ID: o.ID, Auth: pki.AuthKey, Roles: o.Roles}, nil
}

func signed(public crypto.PublicKey, digest, signature []byte) bool {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, signature) == nil
	}
	return false
}

// Assert accepts a bare name in a demo, and refuses it anywhere else. Each audit record of
// what follows says auth=asserted.
func (s *Service) Assert(ctx context.Context, id, command string) (pki.Actor, error) {
	if !s.Asserted {
		return pki.Actor{}, pki.E(pki.Forbidden, "actor.key_needed").With("Operator", id)
	}
	var a pki.Actor
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		o, err := tx.Operator(id)
		if errors.Is(err, pki.ErrNotFound) {
			return pki.E(pki.NotFound, "operator.unknown").With("Operator", id)
		}
		if err == nil && !o.DisabledAt.IsZero() {
			return pki.E(pki.Forbidden, "actor.unproved").With("Operator", id)
		}
		a = pki.Actor{ID: o.ID, Auth: pki.AuthAsserted, Roles: o.Roles}
		return err
	})
	if err != nil {
		return pki.Actor{}, err
	}
	if command == ClockAccept && a.May(pki.MayManage) {
		s.BelieveClock()
	}
	return a, nil
}

// Guest is who looks at a demo without a name: he sees what every role sees, letters
// included, so that the demo can be followed. Anywhere else actor.key_needed.
func (s *Service) Guest() (pki.Actor, error) {
	if !s.Asserted {
		return pki.Actor{}, pki.E(pki.Forbidden, "actor.key_needed").With("Operator", "guest")
	}
	return pki.Actor{ID: "guest", Auth: pki.AuthAsserted, Roles: []pki.Role{pki.RoleLetters, pki.RoleAuditor}}, nil
}
