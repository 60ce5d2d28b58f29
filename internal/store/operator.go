package store

import (
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Instance says which instance this database belongs to. It is written once.
type Instance struct {
	UUID string
	Mode string // demo or live; never changes (threat PL1)

	Created time.Time // filled by Instance
}

// AddInstance writes the instance row; pki.ErrConflict when there is one.
func (tx *Tx) AddInstance(i Instance) error {
	_, err := tx.sql.Exec(`INSERT INTO instance (id, uuid, mode, created_at) VALUES (1, $1, $2, $3)`, i.UUID, i.Mode, engine.Micros(tx.Now))
	return engine.Error("add instance", err)
}

// Instance reads the instance row; pki.ErrNotFound before init.
func (tx *Tx) Instance() (Instance, error) {
	var i Instance
	var created int64
	err := tx.sql.QueryRow(`SELECT uuid, mode, created_at FROM instance WHERE id = 1`).Scan(&i.UUID, &i.Mode, &created)
	i.Created = engine.FromMicros(created)
	return i, engine.Error("read instance", err)
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

// AddGrant stores a grant that one person made. It allows nothing until another
// approved it.
func (tx *Tx) AddGrant(g pki.Grant) error {
	kinds := make([]string, len(g.Kinds))
	for i, k := range g.Kinds {
		kinds[i] = string(k)
	}
	_, err := tx.sql.Exec(`INSERT INTO issue_grant (id, client, kinds, prefectures, per_day, total, ends_at, made_by) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`,
		g.ID, g.ClientID, strings.Join(kinds, ","), strings.Join(g.Prefectures, ","), g.PerDay, g.Total, engine.Micros(g.EndsAt), g.MadeBy)
	return engine.Error("add grant", err)
}

// ApproveGrant records the second person's approval.
func (tx *Tx) ApproveGrant(id, operator string) error {
	return tx.sql.One("approve grant", `UPDATE issue_grant SET approved_by = $1 WHERE id = $2 AND approved_by = '' AND made_by <> $3 AND revoked_at = 0`,
		operator, id, operator)
}

// RevokeGrant ends a grant.
func (tx *Tx) RevokeGrant(id string) error {
	return tx.sql.One("revoke grant", `UPDATE issue_grant SET revoked_at = $1 WHERE id = $2 AND revoked_at = 0`, engine.Micros(tx.Now), id)
}

// Grant reads one grant; pki.ErrNotFound where there is none.
func (tx *Tx) Grant(id string) (pki.Grant, error) {
	all, err := tx.grants(`WHERE g.id = $1`, id)
	if err != nil {
		return pki.Grant{}, err
	}
	if len(all) == 0 {
		return pki.Grant{}, pki.ErrNotFound
	}
	return all[0], nil
}

// GrantsOf lists the grants of a client, the one that ends last first. A client that is
// disabled, or whose certificate is another one now or no longer valid, has none.
func (tx *Tx) GrantsOf(c APIClient) ([]pki.Grant, error) {
	return tx.grants(`JOIN api_client c ON c.id = g.client JOIN certificate k ON k.sha256 = c.cert_sha256
		WHERE g.client = $1 AND c.cert_sha256 = $2 AND c.disabled_at = 0 AND k.request = '' AND (k.revoked_at = 0 OR k.effective_at > $3) AND k.not_after >= $4`,
		c.ID, c.CertSHA256, engine.Micros(tx.Now), engine.Micros(tx.Now))
}

func (tx *Tx) grants(where string, args ...any) ([]pki.Grant, error) {
	rows, err := tx.sql.Query(`SELECT g.id, g.client, g.kinds, g.prefectures, g.per_day, g.total, g.used, g.used_today, g.today, g.ends_at, g.made_by,
		g.approved_by, g.revoked_at FROM issue_grant g `+where+` ORDER BY g.ends_at DESC, g.id`, args...)
	if err != nil {
		return nil, engine.Error("list grants", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (pki.Grant, error) {
		var g pki.Grant
		var kinds, prefectures string
		var ends, revoked int64
		err := row.Scan(&g.ID, &g.ClientID, &kinds, &prefectures, &g.PerDay, &g.Total, &g.Used, &g.UsedToday, &g.Today, &ends, &g.MadeBy, &g.ApprovedBy, &revoked)
		for _, k := range split(kinds) {
			g.Kinds = append(g.Kinds, pki.HolderKind(k))
		}
		g.Prefectures = split(prefectures)
		g.EndsAt, g.RevokedAt = engine.FromMicros(ends), engine.FromMicros(revoked)
		return g, err
	})
}

// UseGrant counts one certificate against a grant as it was read; pki.ErrConflict
// when another use came between.
func (tx *Tx) UseGrant(g pki.Grant) error {
	today := pki.Day(tx.Now).Format("2006-01-02")
	usedToday := g.UsedToday + 1
	if g.Today != today {
		usedToday = 1
	}
	return tx.sql.One("use grant", `UPDATE issue_grant SET used = used + 1, used_today = $1, today = $2
		WHERE id = $3 AND used = $4 AND revoked_at = 0`, usedToday, today, g.ID, g.Used)
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
