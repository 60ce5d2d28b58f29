package store

import (
	"time"

	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Intent is what we will sign, stored and linted before the key is used.
type Intent struct {
	Serial     string
	Issuer     string
	Profile    string
	Request    string // "" for our own certificates
	TBS        []byte
	AuditIndex int64
	AuditLeaf  []byte
	State      string // open, done, abandoned
	MadeAt     time.Time
}

// AddIntent stores an intent. A serial or a request that already has one is
// pki.ErrConflict, as is the serial of a certificate.
func (tx *Tx) AddIntent(i Intent) error {
	return tx.sql.One("add intent", `INSERT INTO intent (serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at)
		SELECT $1, $2, $3, $4, $5, $6, $7, 'open', $8 WHERE NOT EXISTS (SELECT 1 FROM certificate WHERE serial = $9)`,
		i.Serial, i.Issuer, i.Profile, i.Request, i.TBS, i.AuditIndex, i.AuditLeaf, engine.Micros(tx.Now), i.Serial)
}

// CloseIntent moves an open intent to done or abandoned.
func (tx *Tx) CloseIntent(serial, state string) error {
	return tx.sql.One("close intent", `UPDATE intent SET state = $1 WHERE serial = $2 AND state = 'open'`, state, serial)
}

// OpenIntents lists intents without a result that are older than before.
func (tx *Tx) OpenIntents(before time.Time, limit int) ([]Intent, error) {
	rows, err := tx.sql.Query(`SELECT serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at FROM intent
		WHERE state = 'open' AND made_at < $1 ORDER BY made_at LIMIT $2`, engine.Micros(before), limit)
	if err != nil {
		return nil, engine.Error("list open intents", err)
	}
	return engine.Collect(rows, scanIntent)
}

func scanIntent(row engine.Scanner) (Intent, error) {
	var i Intent
	var made int64
	err := row.Scan(&i.Serial, &i.Issuer, &i.Profile, &i.Request, &i.TBS, &i.AuditIndex, &i.AuditLeaf, &i.State, &made)
	i.MadeAt = engine.FromMicros(made)
	return i, err
}

// IntentOfRequest gives the intent of a request that was not abandoned;
// pki.ErrNotFound where there is none.
func (tx *Tx) IntentOfRequest(request string) (Intent, error) {
	i, err := scanIntent(tx.sql.QueryRow(`SELECT serial, issuer, profile, request, tbs, audit_index, audit_leaf, state, made_at FROM intent
		WHERE request = $1 AND request <> '' AND state <> 'abandoned'`, request))
	return i, engine.Error("read intent of request", err)
}

// AddCertificate stores a certificate. Serial and request are unique:
// a second one is pki.ErrConflict.
func (tx *Tx) AddCertificate(c pki.Certificate) error {
	return tx.sql.Add("add certificate", `INSERT INTO certificate (serial, issuer, profile, request, holder_kind, holder_code, terminal, der, sha256,
		spki_sha256, not_before, not_after, predecessor, issued_at, revoked_at, reason, effective_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)`,
		c.Serial, c.Issuer, c.Profile, c.RequestID, string(c.Holder.Kind), c.Holder.Code, c.Terminal, c.DER, c.SHA256,
		c.SPKISHA256, engine.Micros(c.NotBefore), engine.Micros(c.NotAfter), c.Predecessor, engine.Micros(c.IssuedAt), engine.Micros(c.RevokedAt), int(c.Reason), engine.Micros(c.EffectiveAt))
}

const certificateColumns = `serial, issuer, profile, request, holder_kind, holder_code, terminal, der, sha256, spki_sha256,
	not_before, not_after, predecessor, successor, issued_at, revoked_at, reason, effective_at, invalid_since`

func scanCertificate(row engine.Scanner) (pki.Certificate, error) {
	var c pki.Certificate
	var notBefore, notAfter, issued, revoked, effective, since int64
	err := row.Scan(&c.Serial, &c.Issuer, &c.Profile, &c.RequestID, &c.Holder.Kind, &c.Holder.Code, &c.Terminal, &c.DER, &c.SHA256,
		&c.SPKISHA256, &notBefore, &notAfter, &c.Predecessor, &c.Successor, &issued, &revoked, &c.Reason, &effective, &since)
	c.NotBefore, c.NotAfter, c.IssuedAt = engine.FromMicros(notBefore), engine.FromMicros(notAfter), engine.FromMicros(issued)
	c.RevokedAt, c.EffectiveAt, c.InvalidSince = engine.FromMicros(revoked), engine.FromMicros(effective), engine.FromMicros(since)
	return c, err
}

// Certificate reads one certificate by serial; pki.ErrNotFound where there is none.
func (tx *Tx) Certificate(serial string) (pki.Certificate, error) {
	c, err := scanCertificate(tx.sql.QueryRow(`SELECT `+certificateColumns+` FROM certificate WHERE serial = $1`, serial))
	return c, engine.Error("read certificate", err)
}

// OwnCertificateByHash reads one of our own certificates, an operator's or an API
// client's, by the SHA-256 of its DER: the one name by which TLS layers may look it up
// (threats RS7, RS8). A holder's is read by its serial, and its hash compared.
func (tx *Tx) OwnCertificateByHash(sha256 string) (pki.Certificate, error) {
	c, err := scanCertificate(tx.sql.QueryRow(`SELECT `+certificateColumns+` FROM certificate WHERE sha256 = $1 AND request = ''`, sha256))
	return c, engine.Error("read certificate by hash", err)
}

// CertificateFilter narrows Certificates. Zero fields do not narrow.
type CertificateFilter struct {
	Issuer     string
	HolderCode string
	After      string // serial, exclusive: the page key
	Limit      int    // default 100, at most 10000
}

// Certificates lists certificates in the order of their serials.
func (tx *Tx) Certificates(f CertificateFilter) ([]pki.Certificate, error) {
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(certificateColumns).From("certificate").OrderBy("serial")
	if f.Issuer != "" {
		b.Where(b.Equal("issuer || ''", f.Issuer)) // by no index: there are few issuers
	}
	if f.HolderCode != "" {
		b.Where(b.Equal("holder_code", f.HolderCode))
	}
	if f.After != "" {
		b.Where(b.GreaterThan("serial", f.After))
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	b.Limit(min(f.Limit, 10000))
	query, args := b.Build()
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, engine.Error("list certificates", err)
	}
	return engine.Collect(rows, scanCertificate)
}

// SetSuccessor names the newest renewal of a certificate; "" when that one was revoked.
// pki.ErrConflict where it names another one already.
func (tx *Tx) SetSuccessor(serial, seen, successor string) error {
	return tx.sql.One("set successor", `UPDATE certificate SET successor = $1 WHERE serial = $2 AND successor = $3`, successor, serial, seen)
}

// RevokeCertificate sets the revocation of a certificate that is not revoked, makes a
// hold final, or brings forward what does not count yet. Its time is the transaction's
// Now, whatever c says; c says the reason, from when it counts and since when the
// certificate was invalid. The encoded CRL entry is kept beside it, so that a CRL is made
// without encoding a million entries anew.
func (tx *Tx) RevokeCertificate(c pki.Certificate, entry []byte) error {
	now := engine.Micros(tx.Now)
	return tx.sql.One("revoke certificate", `UPDATE certificate SET revoked_at = $1, reason = $2, effective_at = $3, invalid_since = $4, crl_entry = $5
		WHERE serial = $6 AND (revoked_at = 0 OR (reason = 6 AND $7 <> 6) OR effective_at > $8)`,
		now, int(c.Reason), engine.Micros(c.EffectiveAt), engine.Micros(c.InvalidSince), entry, c.Serial, int(c.Reason), now)
}
