package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// ProveAccount turns a name into an actor when the kernel says that the person logged
// in under this operator's account: number and name are both those that were
// registered, so that neither a renamed account nor one that got the number of a person
// who left counts. A key that is revoked or expired ends this way, too. Whatever is
// wrong, the answer is actor.key_needed with a private cause.
func (s *Service) ProveAccount(ctx context.Context, id, command, content string) (pki.Actor, error) {
	unproved := pki.E(pki.Forbidden, "actor.key_needed").With("Operator", id)
	if s.Login == nil {
		return pki.Actor{}, unproved.Because(errors.New("nobody logs in to this process"))
	}
	account, err := s.Login()
	if err != nil {
		return pki.Actor{}, unproved.Because(err)
	}
	if s.noPerson(account) {
		return pki.Actor{}, unproved.Because(fmt.Errorf("account %s is no single person's", account.Name))
	}
	check := func(tx *store.Tx) (pki.Actor, error) {
		o, err := tx.Operator(id)
		if errors.Is(err, pki.ErrNotFound) {
			return pki.Actor{}, unproved.Because(err)
		}
		if err != nil {
			return pki.Actor{}, err
		}
		if o.Account != account {
			return pki.Actor{}, unproved.Because(fmt.Errorf("account %s is not the operator's", account.Name))
		}
		c, err := tx.OwnCertificateByHash(o.CertSHA256)
		if err != nil {
			return pki.Actor{}, fmt.Errorf("read operator's certificate: %w", err)
		}
		if !o.DisabledAt.IsZero() || !c.State(tx.Now).Usable() {
			return pki.Actor{}, unproved.Because(errors.New("operator or certificate is not in force"))
		}
		return pki.Actor{ID: o.ID, Auth: pki.AuthAccount, Roles: o.Roles}, nil
	}
	return s.proved(ctx, command, check, func(tx *store.Tx, a pki.Actor) error {
		_, _, err := tx.Audit(a, "operator.proved", a.ID, map[string]any{"osUser": account.Name, "osUID": account.UID,
			"command": command, "content": content})
		return err
	})
}

// CheckAccount says whether an account may prove a new operator: it is one person's,
// and of no other operator who is not disabled.
func (s *Service) CheckAccount(account pki.Account, all []pki.Operator) error {
	if account.Name == "" {
		return nil
	}
	if s.noPerson(account) {
		return pki.E(pki.Forbidden, "operator.account_shared").With("Account", account.Name)
	}
	for _, o := range all {
		if o.Account.Name != "" && o.Account.UID == account.UID && o.DisabledAt.IsZero() {
			return pki.E(pki.Conflict, "operator.account_taken").With("Account", account.Name).With("Operator", o.ID)
		}
	}
	return nil
}

// noPerson says whether several people, or programs, act under an account.
func (s *Service) noPerson(account pki.Account) bool {
	return account.Name == "" || account.UID == 0 || slices.Contains(s.Shared, account.UID)
}
