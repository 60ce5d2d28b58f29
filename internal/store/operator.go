package store

import (
	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var operatorTables = []table{
	{name: "operator_role", guards: []guard{
		{name: "operator_role_conflict", before: "INSERT", says: "roles that one person never holds together",
			where: `EXISTS (SELECT 1 FROM operator_role r JOIN role_conflict c ON c.role = r.role AND c.other = NEW.role
				WHERE r.operator = NEW.operator)`},
		{name: "operator_role_stays", before: "UPDATE", says: "a role is given or taken, not changed"},
		{name: "operator_role_last_admin", before: "DELETE", says: "the last administrator stays",
			when: `OLD.role = 'admin'`,
			where: `EXISTS (SELECT 1 FROM operator o WHERE o.id = OLD.operator AND o.disabled_at = 0)
				AND NOT EXISTS (SELECT 1 FROM operator o JOIN operator_role r ON r.operator = o.id AND r.role = 'admin'
				JOIN certificate k ON k.sha256 = o.cert_sha256 AND k.request = '' WHERE o.id <> OLD.operator AND o.disabled_at = 0
				AND (k.revoked_at = 0 OR k.effective_at > (SELECT last_at FROM audit_tree))
				AND k.not_after >= (SELECT last_at FROM audit_tree))`},
	}},
	{name: "role_conflict", guards: []guard{
		{name: "role_conflict_stays", before: "UPDATE", says: "roles that exclude each other stay so"},
		{name: "role_conflict_keep", before: "DELETE", says: "roles that exclude each other stay so"},
	}},
	{name: "operator", key: "id", told: []string{"operator.added"}, guards: []guard{
		{name: "operator_stays", before: "UPDATE", says: "an operator and its key do not change",
			when: `changed(id, cert_sha256) OR (OLD.disabled_at <> 0 AND changed(disabled_at))`},
		{name: "operator_account_stays", before: "UPDATE", says: "the account of an operator does not change",
			when: `changed(os_user, os_uid)`},
		{name: "operator_last_admin", before: "UPDATE", of: "disabled_at", says: "the last administrator stays",
			when: `OLD.disabled_at = 0 AND NEW.disabled_at <> 0`,
			where: `EXISTS (SELECT 1 FROM operator_role r WHERE r.operator = OLD.id AND r.role = 'admin')
				AND NOT EXISTS (SELECT 1 FROM operator o JOIN operator_role r ON r.operator = o.id AND r.role = 'admin'
				JOIN certificate k ON k.sha256 = o.cert_sha256 AND k.request = '' WHERE o.id <> OLD.id AND o.disabled_at = 0
				AND (k.revoked_at = 0 OR k.effective_at > NEW.disabled_at) AND k.not_after >= NEW.disabled_at)`},
		{name: "operator_keep", before: "DELETE", says: "operators are never deleted"},
	}},
	{name: "statement", guards: []guard{
		{name: "statement_stays", before: "UPDATE", says: "statements are append-only"},
		{name: "statement_keep", before: "DELETE", says: "statements are append-only"},
	}},
}

// AddOperator stores an operator with its roles. Roles that conflict are refused by
// the database too.
func (tx *Tx) AddOperator(o pki.Operator) error {
	_, err := tx.sql.Exec(`INSERT INTO operator (id, name, cert_sha256, os_user, os_uid, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		o.ID, o.Name, o.CertSHA256, o.Account.Name, int64(o.Account.UID), engine.Micros(tx.Now))
	if err != nil {
		return engine.Error("add operator", err)
	}
	for _, role := range o.Roles {
		_, err = tx.sql.Exec(`INSERT INTO operator_role (operator, role) VALUES ($1, $2)`, o.ID, string(role))
		if err != nil {
			return engine.Error("add role", err)
		}
	}
	return nil
}

// Operator reads one operator by ID; pki.ErrNotFound where there is none.
func (tx *Tx) Operator(id string) (pki.Operator, error) {
	all, err := tx.operators(`WHERE o.id = $1`, id)
	if err != nil {
		return pki.Operator{}, err
	}
	if len(all) == 0 {
		return pki.Operator{}, pki.ErrNotFound
	}
	return all[0], nil
}

// Operators lists all operators by ID.
func (tx *Tx) Operators() ([]pki.Operator, error) { return tx.operators("") }

func (tx *Tx) operators(where string, args ...any) ([]pki.Operator, error) {
	rows, err := tx.sql.Query(`SELECT o.id, o.name, o.cert_sha256, o.os_user, o.os_uid, o.created_at, o.disabled_at, COALESCE(r.role, '')
		FROM operator o LEFT JOIN operator_role r ON r.operator = o.id `+where+` ORDER BY o.id, r.role`, args...)
	if err != nil {
		return nil, engine.Error("list operators", err)
	}
	defer rows.Close()
	var out []pki.Operator
	for rows.Next() {
		var o pki.Operator
		var role string
		var created, disabled int64
		err = rows.Scan(&o.ID, &o.Name, &o.CertSHA256, &o.Account.Name, &o.Account.UID, &created, &disabled, &role)
		if err != nil {
			return nil, engine.Error("scan operator", err)
		}
		o.CreatedAt, o.DisabledAt = engine.FromMicros(created), engine.FromMicros(disabled)
		if len(out) == 0 || out[len(out)-1].ID != o.ID {
			out = append(out, o)
		}
		if role != "" {
			last := &out[len(out)-1]
			last.Roles = append(last.Roles, pki.Role(role))
		}
	}
	return out, engine.Error("list operators", rows.Err())
}

// DisableOperator ends an operator's powers at once.
func (tx *Tx) DisableOperator(id string) error {
	return tx.sql.One("disable operator", `UPDATE operator SET disabled_at = $1 WHERE id = $2 AND disabled_at = 0`, engine.Micros(tx.Now), id)
}

// OperatorsInForce lists the IDs of the operators who have a role and can act: they are
// not disabled, and their certificates are in force.
func (tx *Tx) OperatorsInForce(role pki.Role) ([]string, error) {
	rows, err := tx.sql.Query(`SELECT o.id FROM operator o JOIN operator_role r ON r.operator = o.id JOIN certificate k ON k.sha256 = o.cert_sha256 AND k.request = ''
		WHERE r.role = $1 AND o.disabled_at = 0 AND (k.revoked_at = 0 OR k.effective_at > $2) AND k.not_after >= $3 ORDER BY o.id`,
		string(role), engine.Micros(tx.Now), engine.Micros(tx.Now))
	if err != nil {
		return nil, engine.Error("list operators in force", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (string, error) {
		var id string
		err := row.Scan(&id)
		return id, err
	})
}

// UseStatement records a signed statement of an operator; pki.ErrConflict when it
// was used before (threat CO1: no replay).
func (tx *Tx) UseStatement(nonce, operator string) error {
	return tx.sql.One("use statement", `INSERT INTO statement (nonce, operator, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		nonce, operator, engine.Micros(tx.Now))
}

// Conflicts lists the pairs of roles that the database keeps apart.
func (tx *Tx) Conflicts() ([][2]string, error) {
	found, err := pairs(tx, `SELECT role, other FROM role_conflict ORDER BY role, other`)
	return found, engine.Error("list role conflicts", err)
}
