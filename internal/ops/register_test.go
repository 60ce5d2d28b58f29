package ops_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// history lets an office live through everything that changes a row.
func history(t *testing.T, engine string) *catest.Office {
	t.Helper()
	o := catest.New(t, catest.Options{Engine: engine, Activate: true})
	ctx := t.Context()
	fetched, revoked, cancelled := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
	ticket, err := o.RA.PreparePickup(ctx, catest.Pickup(fetched.ID, o.Reference(fetched.ID)))
	catest.Must(t, err)
	_, _, err = o.RA.PickupFile(ctx, ticket, catest.Cookie)
	catest.Must(t, err)
	o.Dispatch(fetched.ID)
	_, err = o.RA.Extend(ctx, catest.Letters, fetched.ID, fetched.Downloads.AddDate(0, 0, 10))
	catest.Must(t, err)
	o.Advance(time.Minute)
	_, err = o.RA.Revoke(ctx, catest.Officer, revoked.Serial, pki.CertificateHold, "asked")
	catest.Must(t, err)
	_, err = o.RA.Revoke(ctx, catest.Officer, revoked.Serial, pki.KeyCompromise, "stolen")
	catest.Must(t, err)
	_, err = o.RA.Cancel(ctx, catest.Intake, cancelled.ID, "twice")
	catest.Must(t, err)
	revocations(t, o, fetched)

	site, err := o.RA.Submit(ctx, catest.Site, ra.Submission{Source: pki.FromSite, Application: catest.Application(4), Language: "en"})
	catest.Must(t, err)
	_, err = o.RA.Approve(ctx, catest.Approver, site.ID, site.ContentHash)
	catest.Must(t, err)
	typo := o.Submit(catest.Application(5))
	a := typo.Application
	a.TerminalName = "受付9号機"
	_, err = o.RA.Correct(ctx, catest.Actor("editor", pki.RoleIntake), typo.ID, typo.ContentHash, a)
	catest.Must(t, err)
	_, err = o.RA.Reject(ctx, catest.Approver, o.Submit(catest.Application(6)).ID, "unknown")
	catest.Must(t, err)

	client := o.Client("vendor")
	o.Grant(pki.Grant{ClientID: client.ID, Kinds: []pki.HolderKind{pki.Medical, pki.Dental}, Prefectures: []string{catest.Holder(1).Prefecture()}})
	_, err = o.RA.IssueByGrant(ctx, client, o.Call("one", catest.Holder(7)))
	catest.Must(t, err)
	catest.Must(t, o.Ops.RenewAPIClient(ctx, catest.Admin, client, renewedCertificate(o, "vendor")))
	o.Client("left")
	catest.Must(t, o.Ops.DisableAPIClient(ctx, catest.Admin, "left"))
	ended := o.Grant(pki.Grant{ClientID: client.ID, EndsAt: o.Now().AddDate(0, 0, 1)})
	catest.Must(t, o.RA.RevokeGrant(ctx, catest.Admin, ended.ID))
	for n, id := range []string{"someone", "gone"} {
		catest.Must(t, o.Ops.AddOperator(ctx, pki.System("test"), pki.Operator{ID: id, Name: id, CertSHA256: id, Roles: []pki.Role{pki.RoleIntake, pki.RoleApprover},
			Account: pki.Account{Name: id, UID: uint32(1001 + n)}}))
	}
	catest.Must(t, o.Ops.DisableOperator(ctx, catest.Admin, "gone"))
	dates(t, o)
	return o
}

// renewedCertificate is the hash of another certificate for a client.
func renewedCertificate(o *catest.Office, id string) string {
	o.T.Helper()
	cert, err := o.CA.IssueOwn(o.T.Context(), issuance.ProfileAPIClient, "API client "+id, o.Keyed(pki.P256).Public(), nil, nil)
	catest.Must(o.T, err)
	return o.Certificate(pki.SerialHex(cert.SerialNumber)).SHA256
}

// revocations lets a letter's hold be lifted by two, and another wish of its holder be
// rejected by two.
func revocations(t *testing.T, o *catest.Office, r pki.Request) {
	t.Helper()
	for _, reason := range []pki.Reason{pki.KeyCompromise, pki.CessationOfOperation} {
		v, err := o.RA.AskRevocation(t.Context(), ra.RevocationInput{RevocationWay: ra.RevocationWay{RequestID: r.ID}, Flow: "flow " + reason.String(),
			Email: "typed@example.jp", Reason: reason, Language: "ja"})
		catest.Must(t, err)
		undo := o.RA.RejectRevocation
		if v.Held() {
			undo = o.RA.LiftRevocation
		}
		for _, officer := range []string{"officer-1", "officer-2"} {
			_, err = undo(t.Context(), catest.Actor(officer, pki.RoleOfficer), v.ID, "asked by telephone")
			catest.Must(t, err)
		}
	}
}

// dates revokes from a day on, and says since when, by the word of two; another day stays
// ahead.
func dates(t *testing.T, o *catest.Office) {
	t.Helper()
	_, err := o.RA.RevokeDated(t.Context(), catest.Officer, o.Issued(catest.Application(8)).Serial, pki.AffiliationChanged,
		pki.RevocationDates{Effective: o.Now().AddDate(0, 0, 90)}, "a takeover")
	catest.Must(t, err)
	stolen := o.Issued(catest.Application(9))
	o.Advance(time.Hour)
	d, err := o.RA.RevokeDated(t.Context(), catest.Officer, stolen.Serial, pki.KeyCompromise,
		pki.RevocationDates{InvalidSince: o.Now().Add(-time.Minute)}, "stolen")
	catest.Must(t, err)
	o.Advance(time.Minute)
	_, err = o.RA.ApproveRevocation(t.Context(), catest.Actor("officer-2", pki.RoleOfficer), d.Revocation.ID, "seen")
	catest.Must(t, err)
}

func register(t *testing.T, o *catest.Office) ops.RegisterReport {
	t.Helper()
	r, err := o.Ops.VerifyRegister(t.Context())
	catest.Must(t, err)
	return r
}

// unguarded are columns that no record tells, and why that is bearable.
var unguarded = map[string]string{
	"request.changed_at":      "nothing is decided by it",
	"revocation.published_at": "nothing is decided by it",
	"issue_grant.used_today":  "the total is compared; a day's count is gone tomorrow",
	"issue_grant.today":       "as used_today",
}

// stands names what is told of columns that are not told one by one.
var stands = map[string][]string{
	"content": {"holder_kind", "holder_code", "terminal_name", "email", "maintenance_email", "department", "phone", "payment_method", "csr", "flow", "language"},
	"origin":  {"kind", "source", "grant_id", "client_id", "idempotency", "body_hash", "profile", "key_type", "predecessor", "language", "not_before"},
}

// TestThreatCO12: whatever column somebody with the database writes, its guards dropped,
// the comparison with the audit records names table, key and field.
func TestThreatCO12(t *testing.T) {
	o := history(t, store.SQLite)
	if r := register(t, o); !r.OK() || r.Rows < 15 {
		t.Fatalf("untouched: %+v", r)
	}
	o.Disarm()
	db := o.Raw()
	_, err := db.Exec(`PRAGMA foreign_keys = 0; PRAGMA ignore_check_constraints = 1`)
	catest.Must(t, err)
	tampered := 0
	for table, key := range map[string]string{"request": "id", "certificate": "serial", "revocation": "id", "issue_grant": "id", "operator": "id", "operator_role": "operator", "api_client": "id"} {
		for column, kind := range columnsOf(t, db, table) {
			for _, id := range keysOf(t, db, table, key) {
				if column == key || unguarded[table+"."+column] != "" {
					continue
				}
				undo := tamper(t, db, table, key, id, column, kind)
				got := register(t, o).Deviations
				tampered++
				if !slices.ContainsFunc(got, func(d ops.Deviation) bool { return names(d, table, id, column) }) {
					t.Errorf("%s %s: %s changed, found %+v", table, id, column, got)
				}
				undo()
			}
		}
	}
	if r := register(t, o); !r.OK() || tampered < 200 {
		t.Fatalf("%d changes and undone: %+v", tampered, r)
	}
}

// names says whether a deviation names what was changed. A new value of a unique column
// may hit another row as well; the one that was changed must be there.
func names(d ops.Deviation, table, id, column string) bool {
	if table == "operator_role" {
		table = "operator"
	}
	return d.Table == table && d.Key == id && (d.Field == column || slices.Contains(stands[d.Field], column))
}

func columnsOf(t *testing.T, db *sql.DB, table string) map[string]string {
	t.Helper()
	rows, err := db.Query(`SELECT name, type FROM pragma_table_info('` + table + `')`)
	catest.Must(t, err)
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, kind string
		catest.Must(t, rows.Scan(&name, &kind))
		out[name] = kind
	}
	return out
}

func keysOf(t *testing.T, db *sql.DB, table, key string) []string {
	t.Helper()
	rows, err := db.Query(fmt.Sprintf(`SELECT DISTINCT %s FROM %s`, key, table))
	catest.Must(t, err)
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		catest.Must(t, rows.Scan(&id))
		out = append(out, id)
	}
	return out
}

// tamper changes one column and gives the way back.
func tamper(t *testing.T, db *sql.DB, table, key, id, column, kind string) func() {
	t.Helper()
	change := map[string]string{"TEXT": "COALESCE(%[1]s, '') || 'x'", "BIGINT": "%[1]s + 1000000", "BYTEA": "COALESCE(%[1]s, x'') || x'00'"}[kind]
	if column == "reason" {
		change = "5 - %[1]s"
	}
	if change == "" {
		t.Fatalf("%s.%s is a %s", table, column, kind)
	}
	var old any
	catest.Must(t, db.QueryRow(fmt.Sprintf(`SELECT %s FROM %s WHERE %s = ? LIMIT 1`, column, table, key), id).Scan(&old))
	if text, ok := old.([]byte); ok && kind == "TEXT" {
		old = string(text)
	}
	where, args := key+" = ?", []any{id}
	if table == "operator_role" {
		where, args = where+" AND role = ?", []any{id, old}
	}
	_, err := db.Exec(fmt.Sprintf(`UPDATE %s SET %s = %s WHERE %s`, table, column, fmt.Sprintf(change, column), where), args...)
	catest.Must(t, err)
	return func() {
		if table == "operator_role" {
			where, args = strings.Replace(where, "role = ?", "role = ? || 'x'", 1), []any{id, old}
		}
		_, err := db.Exec(fmt.Sprintf(`UPDATE %s SET %s = ? WHERE %s`, table, column, where), append([]any{old}, args...)...)
		catest.Must(t, err)
	}
}

// Rows without records, and records without rows, on both engines.
func TestThreatCO12Rows(t *testing.T) {
	for _, engine := range []string{store.SQLite, store.PostgreSQL} {
		t.Run(engine, func(t *testing.T) {
			o := history(t, engine)
			if r := register(t, o); !r.OK() {
				t.Fatalf("untouched: %+v", r)
			}
			o.Disarm()
			for name, row := range map[string]struct {
				sql  string
				want ops.Deviation
			}{
				"a client of nobody's":    {`INSERT INTO api_client (id, name, cert_sha256, role, created_at) VALUES ('ghost', 'ghost', 'g', 'ra', 1)`, ops.Deviation{Table: "api_client", Key: "ghost"}},
				"an operator of nobody's": {`INSERT INTO operator (id, name, cert_sha256, created_at) VALUES ('ghost', 'ghost', 'g', 1)`, ops.Deviation{Table: "operator", Key: "ghost"}},
				"a grant of nobody's": {`INSERT INTO issue_grant (id, client, kinds, prefectures, per_day, total, ends_at, made_by, approved_by) VALUES ('ghost', 'vendor', '', '', 9, 9, 9, 'a', 'b')`,
					ops.Deviation{Table: "issue_grant", Key: "ghost"}},
				"an operator taken away": {`DELETE FROM operator_role WHERE operator = 'someone'; DELETE FROM operator WHERE id = 'someone'`, ops.Deviation{Table: "operator", Key: "someone"}},
				"an editor taken away":   {`DELETE FROM request_editor`, ops.Deviation{Table: "request_editor", Key: "202611230000005", Field: "operator"}},
				"a role given":           {`INSERT INTO operator_role (operator, role) VALUES ('gone', 'admin')`, ops.Deviation{Table: "operator", Key: "gone", Field: "role"}},
			} {
				for _, s := range strings.Split(row.sql, "; ") {
					o.SQL(s)
				}
				if got := register(t, o).Deviations; !slices.Contains(got, row.want) {
					t.Errorf("%s: found %+v", name, got)
				}
			}
		})
	}
}
