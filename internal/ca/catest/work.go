package catest

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "modernc.org/sqlite"             // the driver sqlite

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
	"inkan/internal/testkit"
)

// Actor is a proved operator with roles.
func Actor(id string, roles ...pki.Role) pki.Actor {
	return pki.Actor{ID: id, Auth: pki.AuthKey, Roles: roles}
}

// The people of the office.
var (
	Intake   = Actor("intake", pki.RoleIntake)
	Approver = Actor("approver-1", pki.RoleApprover)
	Second   = Actor("approver-2", pki.RoleApprover)
	Letters  = Actor("letters", pki.RoleLetters)
	Officer  = Actor("officer", pki.RoleOfficer)
	Admin    = Actor("admin", pki.RoleAdmin)
	Site     = pki.Actor{ID: "site", Auth: pki.AuthNone}
)

// Holder gives the n-th medical institution of Hokkaido.
func Holder(n int) pki.Holder {
	body := fmt.Sprintf("011%06d", n)
	return pki.Holder{Kind: pki.Medical, Code: body + string(pki.CheckDigit(body))}
}

// Application is what the n-th institution typed.
func Application(n int) pki.Application {
	return pki.Application{Holder: Holder(n), TerminalName: "受付1号機", Email: "clinic@example.jp", PaymentMethod: 1}
}

// Keyed makes a key.
func (o *Office) Keyed(t pki.KeyType) crypto.Signer {
	o.T.Helper()
	key, err := issuance.GenerateKey(t)
	Must(o.T, err)
	return key
}

// CSR makes a key and its certification request.
func (o *Office) CSR(t pki.KeyType) []byte {
	o.T.Helper()
	return testkit.CSR(o.T, o.Keyed(t))
}

// Submit enters a request by intake.
func (o *Office) Submit(a pki.Application) pki.Request {
	o.T.Helper()
	r, err := o.RA.Submit(o.T.Context(), Intake, ra.Submission{Application: a, Source: pki.FromOperator})
	Must(o.T, err)
	return r
}

// Approved is a request that waits for the certification authority: its approval was
// committed by a node that went down before it issued.
func (o *Office) Approved(a pki.Application) pki.Request {
	o.T.Helper()
	r := o.Submit(a)
	Must(o.T, o.DB.Update(o.T.Context(), func(tx *store.Tx) error {
		return tx.MoveRequest(r, pki.Approved, store.RequestChange{ApprovedBy: Approver.ID, ApprovedAt: tx.Now})
	}))
	return o.Request(r.ID)
}

// Issued is a request with its certificate.
func (o *Office) Issued(a pki.Application) pki.Request {
	o.T.Helper()
	r := o.Submit(a)
	r, err := o.RA.Approve(o.T.Context(), Approver, r.ID, r.ContentHash)
	Must(o.T, err)
	if r.State != pki.Issued {
		o.T.Fatalf("request is %s after the approval\n%s", r.State, o.Log)
	}
	return r
}

// Reference reads the reference ID of an issued request as the letters role does.
func (o *Office) Reference(id string) pki.Secret {
	o.T.Helper()
	d, err := o.RA.Show(o.T.Context(), Letters, id)
	Must(o.T, err)
	if d.ReferenceID == "" {
		o.T.Fatal("no reference ID")
	}
	return d.ReferenceID
}

// Dispatch lets the letter leave.
func (o *Office) Dispatch(id string) {
	o.T.Helper()
	_, err := o.RA.Dispatch(o.T.Context(), Letters, id)
	Must(o.T, err)
}

// Cookie is the browser of Pickup.
var Cookie = sha256.Sum256([]byte("browser"))

// Pickup is what a holder types with the right PINs.
func Pickup(id string, ref pki.Secret) ra.PickupInput {
	return ra.PickupInput{RequestID: id, ReferenceID: ref, PIN: "1234", PINConfirm: "1234", CookieHash: Cookie, Source: netip.MustParseAddr("192.0.2.7")}
}

// Client registers an API client.
func (o *Office) Client(id string) store.APIClient {
	o.T.Helper()
	cert, err := o.CA.IssueOwn(o.T.Context(), issuance.ProfileAPIClient, "API client "+id, o.Keyed(pki.P256).Public(), nil, nil)
	Must(o.T, err)
	sum := sha256.Sum256(cert.Raw)
	c := store.APIClient{ID: id, Name: id, CertSHA256: hex.EncodeToString(sum[:]), Role: pki.RoleRA}
	Must(o.T, o.Ops.AddAPIClient(o.T.Context(), Admin, c))
	return c
}

// ByClient is an API client that was proved by its certificate.
func ByClient(c store.APIClient) pki.Actor {
	return pki.Actor{ID: "api/" + c.ID, Auth: pki.AuthTLS, Roles: []pki.Role{c.Role}}
}

// Grant makes a grant of two persons; limits that are zero are wide.
func (o *Office) Grant(g pki.Grant) pki.Grant {
	o.T.Helper()
	if g.PerDay == 0 {
		g.PerDay = 1000
	}
	if g.Total == 0 {
		g.Total = 1000
	}
	if g.EndsAt.IsZero() {
		g.EndsAt = o.Now().AddDate(0, 0, 30)
	}
	g, err := o.RA.MakeGrant(o.T.Context(), Admin, g)
	Must(o.T, err)
	Must(o.T, o.RA.ApproveGrant(o.T.Context(), Approver, g.ID, g.Hash()))
	return g
}

// Call is what an API client sends.
func (o *Office) Call(key string, h pki.Holder) ra.APIRequest {
	o.T.Helper()
	csr := o.CSR(pki.P256)
	return ra.APIRequest{IdempotencyKey: key,
		Application: pki.Application{Holder: h, TerminalName: "端末", CSR: csr}}
}

// CaseHash gives the Hash of a case of revocation as it stands: what an officer saw who
// decides it now. "" of one that is not there.
func (o *Office) CaseHash(id string) string {
	o.T.Helper()
	var hash string
	o.View(func(tx *store.Tx) error {
		v, err := tx.Revocation(id)
		if errors.Is(err, pki.ErrNotFound) {
			return nil
		}
		hash = v.Hash()
		return err
	})
	return hash
}

// Request reads a request.
func (o *Office) Request(id string) pki.Request {
	o.T.Helper()
	var r pki.Request
	o.View(func(tx *store.Tx) error {
		var err error
		r, err = tx.Request(id)
		return err
	})
	return r
}

// Certificate reads a certificate.
func (o *Office) Certificate(serial string) pki.Certificate {
	o.T.Helper()
	var c pki.Certificate
	o.View(func(tx *store.Tx) error {
		var err error
		c, err = tx.Certificate(serial)
		return err
	})
	return c
}

// Leaf is a certificate, parsed.
func (o *Office) Leaf(serial string) *x509.Certificate {
	o.T.Helper()
	return testkit.Certificate(o.T, o.Certificate(serial).DER)
}

// View reads; an error ends the test.
func (o *Office) View(fn func(tx *store.Tx) error) {
	o.T.Helper()
	Must(o.T, o.DB.View(o.T.Context(), fn))
}

// Kinds lists the kinds of the audit records about a subject, in order.
func (o *Office) Kinds(subject string) []string {
	o.T.Helper()
	var kinds []string
	o.View(func(tx *store.Tx) error {
		records, err := tx.AuditAbout(subject, 1000)
		for _, r := range records {
			kinds = append(kinds, r.Kind)
		}
		return err
	})
	return kinds
}

// WantKinds checks that the audit records about a subject contain these kinds in this
// order.
func (o *Office) WantKinds(subject string, want ...string) {
	o.T.Helper()
	got := o.Kinds(subject)
	rest := got
	for _, kind := range want {
		at := slices.Index(rest, kind)
		if at < 0 {
			o.T.Errorf("audit of %s is %v, want %v in it", subject, got, want)
			return
		}
		rest = rest[at+1:]
	}
}

// Raw opens the database past everything: what the role of the application may do in
// SQL.
func (o *Office) Raw() *sql.DB {
	o.T.Helper()
	driver, dsn := "pgx", o.DSN
	if path, ok := strings.CutPrefix(o.DSN, "sqlite://"); ok {
		driver, dsn = "sqlite", "file:"+path+"?"+url.Values{"_pragma": {"busy_timeout(5000)", "foreign_keys(1)"}}.Encode()
	}
	db, err := sql.Open(driver, dsn)
	Must(o.T, err)
	db.SetMaxOpenConns(1)
	o.T.Cleanup(func() { _ = db.Close() })
	return db
}

// SQL runs one statement through Raw; an error ends the test.
func (o *Office) SQL(query string, args ...any) {
	o.T.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(o.T.Context(), query, args...)
	Must(o.T, err)
}

// Count counts rows.
func (o *Office) Count(from string, args ...any) int {
	o.T.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	var n int
	Must(o.T, db.QueryRowContext(o.T.Context(), "SELECT COUNT(*) FROM "+from, args...).Scan(&n))
	return n
}

// Verifier gives the stored verifier of a request's reference ID.
func (o *Office) Verifier(id string) keystore.Verifier {
	o.T.Helper()
	var v keystore.Verifier
	o.View(func(tx *store.Tx) error {
		r, err := tx.Reference(id)
		v = keystore.Verifier{KID: r.KID, Salt: r.Salt, Gate: r.Gate, Tag: r.Tag}
		return err
	})
	return v
}

// KeyOf gives the living key of a request.
func (o *Office) KeyOf(id string) store.SealedKey {
	o.T.Helper()
	var k store.SealedKey
	o.View(func(tx *store.Tx) error {
		var err error
		k, err = tx.KeyOfRequest(id)
		return err
	})
	return k
}

// Refused runs a statement that the database itself must refuse, whoever sends it.
func (o *Office) Refused(query string, args ...any) {
	o.T.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(o.T.Context(), query, args...)
	if err == nil {
		o.T.Errorf("the database lets it pass: %s", query)
	}
}
