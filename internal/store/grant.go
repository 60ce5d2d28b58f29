package store

import (
	"strings"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var grantTables = []table{
	{name: "issue_grant", key: "id", told: []string{"grant.made"}, guards: []guard{
		{name: "issue_grant_stays", before: "UPDATE", says: "a grant does not change",
			when: `changed(id, client, kinds, prefectures, per_day, total, ends_at, made_by) OR NEW.used < OLD.used
				OR (OLD.approved_by <> '' AND changed(approved_by)) OR (OLD.revoked_at <> 0 AND changed(revoked_at))`},
		{name: "issue_grant_born", before: "INSERT", says: "a grant is approved by another person later",
			when: `NEW.approved_by <> '' OR NEW.used <> 0 OR NEW.revoked_at <> 0`},
		{name: "issue_grant_keep", before: "DELETE", says: "grants are never deleted"},
	}},
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

// Grants lists all grants.
func (tx *Tx) Grants() ([]pki.Grant, error) { return tx.grants("") }
