package store

import (
	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var certificateTables = []table{
	{name: "certificate", key: "serial", told: []string{"certificate.issued"}, guards: []guard{
		{name: "certificate_facts_stay", before: "UPDATE", says: "a certificate and its revocation do not change",
			when: `changed(serial, issuer, profile, request, holder_kind, holder_code, terminal, der, sha256, spki_sha256, not_before, not_after, predecessor, issued_at)
				OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (changed(revoked_at, reason, effective_at, crl_entry, invalid_since))
				AND NOT (OLD.effective_at > OLD.revoked_at AND (NEW.revoked_at = 0 OR (NEW.revoked_at > OLD.revoked_at
				AND NEW.revoked_at < OLD.effective_at AND NEW.effective_at = NEW.revoked_at)))) OR (NEW.revoked_at <> 0
				AND NEW.crl_entry IS NULL)`},
		{name: "certificate_keep", before: "DELETE", says: "certificates are never deleted"},
		{name: "certificate_lift", before: "UPDATE", of: "revoked_at", says: "a hold is lifted by two",
			when: `OLD.revoked_at <> 0 AND NEW.revoked_at = 0`,
			where: `NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted'
				AND r.decided_at > OLD.revoked_at AND (OLD.reason = 6 OR r.decided_at < OLD.effective_at))`},
		{name: "certificate_dates", before: "UPDATE", of: "revoked_at, reason, effective_at, invalid_since", says: "a revocation counts from its commit, or later unless for a compromise",
			when: `NEW.effective_at < NEW.revoked_at OR (NEW.effective_at > NEW.revoked_at AND (NEW.revoked_at = 0
				OR NEW.reason IN (1, 2, 6))) OR (NEW.invalid_since <> 0 AND (NEW.invalid_since >= NEW.revoked_at
				OR NEW.invalid_since < NEW.not_before))`},
		{name: "certificate_invalid", before: "UPDATE", narrow: true, says: "since when a certificate was invalid is the word of two",
			when: `NEW.invalid_since <> 0 AND changed(invalid_since)`,
			where: `NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'revoked'
				AND r.invalid_since = NEW.invalid_since AND r.decided_by <> r.asked_by)`},
	}},
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

// LiftCertificate gives a certificate back that is on hold, or whose revocation does not
// count yet.
func (tx *Tx) LiftCertificate(serial string) error {
	return tx.sql.One("lift certificate", `UPDATE certificate SET revoked_at = 0, reason = 0, effective_at = 0, invalid_since = 0, crl_entry = NULL
		WHERE serial = $1 AND revoked_at <> 0 AND (reason = 6 OR effective_at > $2)`, serial, engine.Micros(tx.Now))
}

// CertificateRow is a certificate with its stored CRL entry; nil where there is none.
type CertificateRow struct {
	pki.Certificate
	Entry []byte
}

// CertificateRows lists certificates in the order of their serials.
func (tx *Tx) CertificateRows(after string, limit int) ([]CertificateRow, error) {
	rows, err := tx.sql.Query(`SELECT `+certificateColumns+`, crl_entry FROM certificate WHERE serial > $1 ORDER BY serial LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list certificates", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (CertificateRow, error) {
		var r CertificateRow
		var err error
		r.Certificate, err = scanCertificate(also{row, []any{&r.Entry}})
		return r, err
	})
}

// also scans more columns than the row that it wraps is asked for.
type also struct {
	engine.Scanner
	more []any
}

func (a also) Scan(dest ...any) error { return a.Scanner.Scan(append(dest, a.more...)...) }

// ownSerials reads the whole table; see otherIntents.
const ownSerials = `SELECT serial FROM certificate WHERE request = ''`

// OwnSerials lists our own certificates.
func (tx *Tx) OwnSerials() ([]string, error) {
	rows, err := tx.sql.Query(ownSerials)
	if err != nil {
		return nil, engine.Error("list own certificates", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (string, error) {
		var serial string
		err := row.Scan(&serial)
		return serial, err
	})
}
