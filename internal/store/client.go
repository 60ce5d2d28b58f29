package store

import (
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var clientTables = []table{
	{name: "api_client", key: "id", told: []string{"client.added"}, guards: []guard{
		{name: "api_client_stays", before: "UPDATE", says: "an API client does not change, and one that is disabled gets no other key",
			when: `changed(id, role, created_at) OR (OLD.disabled_at <> 0 AND (changed(disabled_at, cert_sha256)))`},
		{name: "api_client_renewed", before: "UPDATE", narrow: true, says: "the certificate of an API client is revoked before another takes its place",
			when: `changed(cert_sha256)`,
			where: `NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = OLD.cert_sha256 AND k.request = '' AND k.revoked_at <> 0
				AND k.reason <> 6 AND (k.effective_at <= k.revoked_at OR k.effective_at <= (SELECT last_at FROM audit_tree)))
				OR NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = NEW.cert_sha256 AND k.request = ''
				AND k.profile = 'api-client' AND k.revoked_at = 0)`},
		{name: "api_client_keep", before: "DELETE", says: "API clients are never deleted"},
	}},
}

// APIClient is a program that acts for a vendor or a relying system.
type APIClient struct {
	ID         string
	Name       string
	CertSHA256 string
	Role       pki.Role
	Created    time.Time
	Disabled   time.Time
}

// AddAPIClient stores an API client.
func (tx *Tx) AddAPIClient(c APIClient) error {
	_, err := tx.sql.Exec(`INSERT INTO api_client (id, name, cert_sha256, role, created_at) VALUES ($1, $2, $3, $4, $5)`,
		c.ID, c.Name, c.CertSHA256, string(c.Role), engine.Micros(tx.Now))
	return engine.Error("add API client", err)
}

const clientColumns = `id, name, cert_sha256, role, created_at, disabled_at`

func scanClient(row engine.Scanner) (APIClient, error) {
	var c APIClient
	var created, disabled int64
	err := row.Scan(&c.ID, &c.Name, &c.CertSHA256, &c.Role, &created, &disabled)
	c.Created, c.Disabled = engine.FromMicros(created), engine.FromMicros(disabled)
	return c, err
}

// APIClients lists all API clients.
func (tx *Tx) APIClients() ([]APIClient, error) {
	rows, err := tx.sql.Query(`SELECT ` + clientColumns + ` FROM api_client ORDER BY id`)
	if err != nil {
		return nil, engine.Error("list API clients", err)
	}
	return engine.Collect(rows, scanClient)
}

// APIClient reads an API client by its ID; pki.ErrNotFound where there is none.
func (tx *Tx) APIClient(id string) (APIClient, error) {
	c, err := scanClient(tx.sql.QueryRow(`SELECT `+clientColumns+` FROM api_client WHERE id = $1`, id))
	return c, engine.Error("read API client", err)
}

// APIClientByHash finds an API client by the SHA-256 of its certificate.
func (tx *Tx) APIClientByHash(sha256 string) (APIClient, error) {
	c, err := scanClient(tx.sql.QueryRow(`SELECT `+clientColumns+` FROM api_client WHERE cert_sha256 = $1`, sha256))
	return c, engine.Error("read API client", err)
}

// ClientInForce says whether a client may act with the certificate that it was found by:
// it is the client's still, it is in force, and the client is not disabled.
func (tx *Tx) ClientInForce(c APIClient) (bool, error) {
	var n int
	err := tx.sql.QueryRow(`SELECT COUNT(*) FROM api_client c JOIN certificate k ON k.sha256 = c.cert_sha256
		WHERE c.id = $1 AND c.cert_sha256 = $2 AND c.disabled_at = 0 AND k.request = '' AND (k.revoked_at = 0 OR k.effective_at > $3) AND k.not_after >= $4`,
		c.ID, c.CertSHA256, engine.Micros(tx.Now), engine.Micros(tx.Now)).Scan(&n)
	return n == 1, engine.Error("read API client", err)
}

// DisableAPIClient ends what a client may do, for good.
func (tx *Tx) DisableAPIClient(id string) error {
	return tx.sql.One("disable API client", `UPDATE api_client SET disabled_at = $1 WHERE id = $2 AND disabled_at = 0`, engine.Micros(tx.Now), id)
}

// RenewAPIClient gives a client, as it was seen, another certificate. The old one is
// revoked before, in the same transaction.
func (tx *Tx) RenewAPIClient(seen APIClient, sha256 string) error {
	return tx.sql.One("renew API client", `UPDATE api_client SET cert_sha256 = $1 WHERE id = $2 AND cert_sha256 = $3 AND disabled_at = 0`,
		sha256, seen.ID, seen.CertSHA256)
}
