package ops_test

import (
	"errors"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

var (
	accountA = pki.Account{Name: "accountA", UID: 1001}
	accountB = pki.Account{Name: "accountB", UID: 1002}
	shared   = pki.Account{Name: "inkan", UID: 999}
	root     = pki.Account{Name: "root"}
)

// loggedIn is the office in a process that somebody logged in to.
func loggedIn(o *catest.Office, account pki.Account) *ops.Service {
	c := o.Ops.Config
	c.Shared = []uint32{shared.UID}
	c.Login = func() (pki.Account, error) {
		if account.Name == "" {
			return pki.Account{}, errors.New("nobody logged in")
		}
		return account, nil
	}
	return ops.New(c)
}

// TestThreatCO1Account: who logged in under an operator's account is this operator and
// no other; an account that is nobody's own proves nobody.
func TestThreatCO1Account(t *testing.T) {
	o := catest.New(t, catest.Options{})
	serials := map[string]string{}
	for id, account := range map[string]pki.Account{"alpha": accountA, "beta": accountB, "keyed": {}, "by-root": root, "by-inkan": shared} {
		made, _, cert := candidate(t, o, id, account)
		serials[id] = pki.SerialHex(cert.SerialNumber)
		// Not by AddOperator, which would not let the last two in.
		catest.Must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return tx.AddOperator(made) }))
	}
	for _, row := range []struct {
		name, as string
		login    pki.Account
		proved   bool
	}{
		{"own account", "alpha", accountA, true},
		{"own account of another", "beta", accountB, true},
		{"another's account", "beta", accountA, false},
		{"nobody logged in", "alpha", pki.Account{}, false},
		{"nobody logged in, operator without account", "keyed", pki.Account{}, false},
		{"operator without account", "keyed", accountA, false},
		{"operator without account, root", "keyed", root, false},
		{"nobody's name", "gamma", accountA, false},
		{"number given to another account", "alpha", pki.Account{Name: "accountC", UID: accountA.UID}, false},
		{"name given to another number", "alpha", pki.Account{Name: accountA.Name, UID: 1003}, false},
		{"root", "by-root", root, false},
		{"owner of the instance", "by-inkan", shared, false},
	} {
		a, err := loggedIn(o, row.login).ProveAccount(t.Context(), row.as, "request approve", "hash")
		switch {
		case row.proved && (err != nil || a.ID != row.as || a.Auth != pki.AuthAccount || !a.May(pki.MayApprove) || a.May(pki.MayManage)):
			t.Errorf("%s: %+v, %v", row.name, a, err)
		case !row.proved && (pki.CodeOf(err) != "actor.key_needed" || a.ID != ""):
			t.Errorf("%s: %+v, %v", row.name, a, err)
		}
	}
	if n := o.Count(`audit WHERE kind = 'operator.proved' AND auth = 'account' AND actor = 'alpha'`); n != 1 {
		t.Errorf("%d records of the proof", n)
	}
	_, err := o.Ops.ProveAccount(t.Context(), "alpha", "request approve", "hash") // as in serve, which nobody logs in to
	catest.WantCode(t, err, "actor.key_needed")

	catest.Must(t, o.Ops.DisableOperator(t.Context(), catest.Admin, "alpha"))
	_, err = loggedIn(o, accountA).ProveAccount(t.Context(), "alpha", "request approve", "hash")
	catest.WantCode(t, err, "actor.key_needed")
	_, err = o.RA.Revoke(t.Context(), catest.Officer, serials["beta"], pki.KeyCompromise, "lost")
	catest.Must(t, err)
	_, err = loggedIn(o, accountB).ProveAccount(t.Context(), "beta", "request approve", "hash")
	catest.WantCode(t, err, "actor.key_needed")
}

// TestThreatCO1AccountTwice: one account is not two persons, whether by our commands or
// by SQL; on both engines.
func TestThreatCO1AccountTwice(t *testing.T) {
	for _, engine := range []string{store.SQLite, store.PostgreSQL} {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			alpha, _, _ := candidate(t, o, "alpha", accountA)
			catest.Must(t, o.Ops.AddOperator(t.Context(), catest.Admin, alpha))
			operator(t, o, "keyed")
			operator(t, o, "keyed-2") // none is not one account
			service := loggedIn(o, accountA)
			add := func(id string, account pki.Account) error {
				return service.AddOperator(t.Context(), catest.Admin, pki.Operator{ID: id, Name: id, CertSHA256: id, Roles: []pki.Role{pki.RoleIntake}, Account: account})
			}
			catest.WantCode(t, add("beta", accountA), "operator.account_taken")
			catest.WantCode(t, add("beta", pki.Account{Name: "another-name", UID: accountA.UID}), "operator.account_taken")
			catest.WantCode(t, add("beta", root), "operator.account_shared")
			catest.WantCode(t, add("beta", shared), "operator.account_shared")
			o.Refused(`INSERT INTO operator (id, name, cert_sha256, os_user, os_uid, created_at) VALUES ('g', 'g', 'g', 'accountA', 1001, 1)`)
			o.Refused(`UPDATE operator SET os_user = 'accountB' WHERE id = 'alpha'`)
			o.Refused(`UPDATE operator SET os_uid = 1002 WHERE id = 'alpha'`)
			o.Refused(`UPDATE operator SET os_user = 'accountB', os_uid = 1002 WHERE id = 'keyed'`)

			by, err := service.ProveAccount(t.Context(), "alpha", "request approve", "hash")
			catest.Must(t, err)
			r, err := o.RA.Submit(t.Context(), catest.Site, ra.Submission{Source: pki.FromSite, Application: catest.Application(1), Language: "en"})
			catest.Must(t, err)
			_, err = o.RA.Approve(t.Context(), by, r.ID, r.ContentHash) // the first of two: a check
			catest.Must(t, err)
			_, err = o.RA.Approve(t.Context(), by, r.ID, r.ContentHash)
			catest.WantCode(t, err, "request.same_person")

			// Who comes after one who left may have the account; the other way is closed.
			catest.Must(t, o.Ops.DisableOperator(t.Context(), catest.Admin, "alpha"))
			catest.Must(t, add("beta", accountA))
			o.Refused(`UPDATE operator SET disabled_at = 0 WHERE id = 'alpha'`)
		})
	}
}
