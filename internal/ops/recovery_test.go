package ops_test

import (
	"crypto"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

var engines = storetest.Engines

// instanceID is what the tests call their instance.
const instanceID = "0123456789abcdef"

// administered is an office with an instance row and administrators who have certificates.
func administered(t *testing.T, engine string, admins ...string) *catest.Office {
	t.Helper()
	o := catest.New(t, catest.Options{Engine: engine, Activate: true})
	catest.Must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error {
		_, _, err := tx.Audit(pki.System("init"), "instance.made", instanceID, map[string]any{"mode": "live"})
		if err != nil {
			return err
		}
		return tx.AddInstance(store.Instance{UUID: instanceID, Mode: "live"})
	}))
	for _, id := range admins {
		administrator(t, o, id)
	}
	return o
}

func administrator(t *testing.T, o *catest.Office, id string) pki.Actor {
	t.Helper()
	made, _, _ := candidate(t, o, id, pki.Account{})
	made.Roles = []pki.Role{pki.RoleAdmin, pki.RoleAuditor}
	catest.Must(t, o.Ops.AddOperator(t.Context(), pki.System("test"), made))
	return pki.Actor{ID: id, Auth: pki.AuthKey, Roles: made.Roles}
}

func isDisabled(t *testing.T, o *catest.Office, id string) bool {
	t.Helper()
	all, err := o.Ops.Operators(t.Context())
	catest.Must(t, err)
	for _, one := range all {
		if one.ID == id {
			return !one.DisabledAt.IsZero()
		}
	}
	t.Fatalf("no operator %s", id)
	return false
}

// TestThreatCO10LastAdmin: the last administrator who can act is not disabled, whoever
// asks and by whatever way. One whose certificate is revoked cannot act.
func TestThreatCO10LastAdmin(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			ctx := t.Context()
			o := administered(t, engine, "alpha")
			alpha := pki.Actor{ID: "alpha", Auth: pki.AuthKey, Roles: []pki.Role{pki.RoleAdmin}}
			operator(t, o, "clerk")
			refused := func(when string) {
				t.Helper()
				for _, by := range []pki.Actor{alpha, pki.System("test"), catest.Admin} {
					if by.Auth == pki.AuthSystem {
						by.Roles = []pki.Role{pki.RoleAdmin}
					}
					err := o.Ops.DisableOperator(ctx, by, "alpha")
					if pki.CodeOf(err) != "operator.last_admin" {
						t.Errorf("%s, by %s: %v", when, by.ID, err)
					}
				}
				o.Refused(`UPDATE operator SET disabled_at = $1 WHERE id = 'alpha'`, o.Now().UnixMicro())
				o.Refused(`UPDATE operator SET disabled_at = $1`, o.Now().UnixMicro())
				o.Refused(`DELETE FROM operator_role WHERE operator = 'alpha' AND role = 'admin'`)
				o.Refused(`DELETE FROM operator_role`)
				if isDisabled(t, o, "alpha") {
					t.Fatalf("%s: disabled", when)
				}
			}
			refused("alone")
			if n := o.Count(`audit WHERE kind = 'operator.disabled'`); n != 0 {
				t.Errorf("%d records of what was refused", n)
			}

			// An administrator whom nobody can prove is none.
			catest.Must(t, o.Ops.AddOperator(ctx, pki.System("test"), pki.Operator{ID: "paper", Name: "paper", CertSHA256: "00", Roles: []pki.Role{pki.RoleAdmin}}))
			refused("beside one without a certificate")
			lost, _, cert := candidate(t, o, "lost", pki.Account{})
			lost.Roles = []pki.Role{pki.RoleAdmin}
			catest.Must(t, o.Ops.AddOperator(ctx, pki.System("test"), lost))
			_, err := o.RA.Revoke(ctx, catest.Officer, pki.SerialHex(cert.SerialNumber), pki.KeyCompromise, "lost")
			catest.Must(t, err)
			o.Advance(time.Second)
			refused("beside one whose certificate is revoked")
			o.Refused(`DELETE FROM operator WHERE id = 'lost'`)

			// The others go, also those who cannot act; and with a second one the first goes.
			catest.Must(t, o.Ops.DisableOperator(ctx, alpha, "lost"))
			catest.Must(t, o.Ops.DisableOperator(ctx, alpha, "clerk"))
			beta := administrator(t, o, "beta")
			catest.Must(t, o.Ops.DisableOperator(ctx, beta, "alpha"))
			o.Refused(`DELETE FROM operator WHERE id = 'alpha'`)
			o.SQL(`DELETE FROM operator_role WHERE operator = 'alpha' AND role = 'admin'`) // it takes nothing that still counted
			n, err := o.Ops.InForce(ctx, pki.RoleAdmin)
			if err != nil || n != 1 {
				t.Errorf("%d administrators in force, %v", n, err)
			}
		})
	}
}

// TestThreatCO10AtOnce: of administrators who disable each other at the same time, on two
// nodes, one stays.
func TestThreatCO10AtOnce(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := administered(t, engine)
			nodes := []*catest.Office{o, o.Node(t, o.DSN)}
			for round := range 10 {
				pair := []pki.Actor{administrator(t, o, fmt.Sprint("alpha-", round)), administrator(t, o, fmt.Sprint("beta-", round))}
				if round > 0 { // nobody is left from the round before
					all, err := o.Ops.Operators(t.Context())
					catest.Must(t, err)
					for _, one := range all {
						if one.DisabledAt.IsZero() && one.ID != pair[0].ID && one.ID != pair[1].ID {
							catest.Must(t, o.Ops.DisableOperator(t.Context(), pair[0], one.ID))
						}
					}
				}
				failures := make([]error, 2)
				var both sync.WaitGroup
				for n := range pair {
					both.Go(func() { failures[n] = nodes[n].Ops.DisableOperator(t.Context(), pair[n], pair[1-n].ID) })
				}
				both.Wait()
				if isDisabled(t, o, pair[0].ID) == isDisabled(t, o, pair[1].ID) {
					t.Fatalf("round %d: both are disabled, or none: %v", round, failures)
				}
				if (failures[0] == nil) == (failures[1] == nil) || pki.CodeOf(failures[0]) != "operator.last_admin" && pki.CodeOf(failures[1]) != "operator.last_admin" {
					t.Fatalf("round %d: %v", round, failures)
				}
			}
		})
	}
}

// TestThreatCO10Recovery: the root key of the instance makes one administrator, once for
// each word of its, and nothing else does.
func TestThreatCO10Recovery(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			ctx := t.Context()
			o := administered(t, engine, "alpha")
			root := o.Keys[issuance.Root]
			draft := func(change func(*ops.Recovery)) ops.Recovery {
				r, err := o.Ops.NewRecovery(ctx, "omega")
				catest.Must(t, err)
				change(&r)
				return r
			}
			same := func(*ops.Recovery) {}
			for name, row := range map[string]struct {
				key    crypto.Signer
				signed func(*ops.Recovery)
				told   func(*ops.Recovery)
				id     string
			}{
				"another root":          {o.Keyed(pki.P256), same, same, "omega"},
				"the issuing CA":        {o.Keys[issuance.G1], same, same, "omega"},
				"the Operations CA":     {o.Keys[issuance.Operations], same, same, "omega"},
				"another instance":      {root, func(r *ops.Recovery) { r.Instance = "fedcba9876543210" }, same, "omega"},
				"another operator":      {root, same, same, "psi"},
				"for another, told so":  {root, same, func(r *ops.Recovery) { r.Operator = "psi" }, "psi"},
				"old":                   {root, func(r *ops.Recovery) { r.At = r.At.Add(-3 * time.Minute) }, same, "omega"},
				"of tomorrow":           {root, func(r *ops.Recovery) { r.At = r.At.Add(3 * time.Minute) }, same, "omega"},
				"made younger":          {root, func(r *ops.Recovery) { r.At = r.At.Add(-3 * time.Minute) }, func(r *ops.Recovery) { r.At = o.Now() }, "omega"},
				"another nonce":         {root, same, func(r *ops.Recovery) { r.Nonce = strings.Repeat("0", 32) }, "omega"},
				"a nonce with a line":   {root, func(r *ops.Recovery) { r.Nonce = "a\noperator omega" }, same, "omega"},
				"an ID that is a path":  {root, func(r *ops.Recovery) { r.Operator = "../omega" }, same, "../omega"},
				"an ID with a line end": {root, func(r *ops.Recovery) { r.Operator = "omega\n" }, same, "omega\n"},
			} {
				r := draft(row.signed)
				signature, err := r.Sign(row.key)
				catest.Must(t, err)
				row.told(&r)
				for _, check := range []func() error{
					func() error { return o.Ops.CheckRecovery(ctx, r, signature, pki.Operator{ID: row.id}) },
					func() error {
						return o.Ops.Recover(ctx, r, signature, pki.Operator{ID: row.id, Name: row.id, CertSHA256: "11"})
					},
				} {
					err = check()
					if pki.CodeOf(err) != "recovery.unproved" {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			if n := o.Count(`operator WHERE id <> 'alpha'`) + o.Count(`audit WHERE kind = 'operator.recovered'`); n != 0 {
				t.Fatalf("%d traces of what was refused", n)
			}

			made, key, cert := candidate(t, o, "omega", pki.Account{})
			made.Roles = []pki.Role{pki.RoleOfficer, pki.RoleApprover} // not what he gets
			r := draft(same)
			signature, err := r.Sign(root)
			catest.Must(t, err)
			catest.Must(t, o.Ops.Recover(ctx, r, signature, made))
			if !strings.Contains(o.Log.String(), "alarm: an administrator was made with the root key") {
				t.Error("no alarm")
			}
			catest.WantCode(t, o.Ops.Recover(ctx, r, signature, made), "operator.exists")
			if n := o.Count(`audit WHERE kind = 'operator.recovered' AND auth = 'offline' AND subject = 'omega'`); n != 1 {
				t.Errorf("%d records of the recovery", n)
			}
			o.WantKinds("omega", "operator.recovered", "operator.added")

			// He ends the one whose key is lost, and no role but this one.
			st := o.Ops.NewStatement("omega", "operator disable", "alpha")
			proof, err := st.Sign(key)
			catest.Must(t, err)
			by, err := o.Ops.Prove(ctx, st, cert.Raw, proof)
			if err != nil || !by.May(pki.MayManage) || by.May(pki.MayRevoke) || by.May(pki.MayApprove) {
				t.Fatalf("%+v, %v", by, err)
			}
			catest.Must(t, o.Ops.DisableOperator(ctx, by, "alpha"))
			if report := rows(t, o); !report.OK() {
				t.Errorf("register: %+v", report.Deviations)
			}
		})
	}
}

// TestRecoveryIsTold: serve tells once of an administrator who was made with the root key
// by a command, also while serve was away, and of no other.
func TestRecoveryIsTold(t *testing.T) {
	o := administered(t, store.SQLite, "alpha")
	recovered := func(id string) {
		made, _, _ := candidate(t, o, id, pki.Account{})
		r, err := o.Ops.NewRecovery(t.Context(), id)
		catest.Must(t, err)
		signature, err := r.Sign(o.Keys[issuance.Root])
		catest.Must(t, err)
		catest.Must(t, o.Ops.Recover(t.Context(), r, signature, made))
	}
	told := func(o *catest.Office, want int) {
		t.Helper()
		catest.Must(t, o.Ops.TellRecoveries(t.Context()))
		if got := strings.Count(o.Log.String(), "alarm: an administrator was made with the root key"); got != want {
			t.Errorf("told %d times, want %d", got, want)
		}
	}
	recovered("old") // each command tells once itself
	o.Advance(25 * time.Hour)
	recovered("psi")
	serve := o.Node(t, o.DSN)
	told(serve, 3)
	told(serve, 3)
	recovered("omega")
	told(serve, 5)
	told(serve, 5)
}
