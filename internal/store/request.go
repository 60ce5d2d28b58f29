package store

import (
	"strings"
	"time"

	"github.com/huandu/go-sqlbuilder"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var requestTables = []table{
	{name: "request", key: "id", told: []string{"request.received", "request.issuing", "request.approved"}, guards: []guard{
		{name: "request_second_person", before: "UPDATE", of: "approved_by", says: "an editor does not approve",
			when:  `NEW.approved_by <> ''`,
			where: `EXISTS (SELECT 1 FROM request_editor e WHERE e.request = NEW.id AND e.operator = NEW.approved_by)`},
		{name: "request_approval_stays", before: "UPDATE", narrow: true, says: "what was approved does not change",
			when: `(OLD.approved_by <> '' OR OLD.grant_id <> '')
				AND (changed(approved_by, content_hash, checked_by, terminal_name, email, maintenance_email, department, phone, payment_method))`},
		{name: "request_origin_stays", before: "UPDATE", narrow: true, says: "where a request came from does not change",
			when: `changed(id, kind, source, holder_kind, holder_code, csr, entered_by, grant_id, client_id, idempotency, profile, key_type, predecessor, not_before, received_at)`},
		{name: "request_keep", before: "DELETE", says: "requests are never deleted"},
		{name: "request_grant_approved", before: "INSERT", says: "the grant was not approved by two",
			when: `NEW.grant_id <> ''`,
			where: `NOT EXISTS (SELECT 1 FROM issue_grant g WHERE g.id = NEW.grant_id AND g.client = NEW.client_id AND g.approved_by <> ''
				AND g.revoked_at = 0)`},
		{name: "request_renewal_of", before: "INSERT", says: "a renewal is of the same holder's certificate",
			when: `NEW.kind = 'renewal' OR NEW.predecessor <> ''`,
			where: `NEW.kind <> 'renewal' OR NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = NEW.predecessor AND c.request <> ''
				AND c.holder_kind = NEW.holder_kind AND c.holder_code = NEW.holder_code AND c.terminal = NEW.terminal_name)`},
	}},
	{name: "request_editor", guards: []guard{
		{name: "request_editor_stays", before: "UPDATE", says: "editors are append-only"},
		{name: "request_editor_keep", before: "DELETE", says: "editors are append-only"},
	}},
}

// numbers are those that the requests of one transaction draw: the row of the day is read
// once and written once for all of them. It is nobody else's meanwhile, since every writer
// holds the audit tree.
type numbers struct {
	day   string
	last  int
	drawn bool // since the row was written
}

// Flush is engine.Deferred: it writes what was drawn.
func (n *numbers) Flush(tx *engine.Tx) error {
	if !n.drawn {
		return nil
	}
	return tx.One("store request numbers", `UPDATE day_sequence SET last = $1 WHERE day = $2`, n.last, n.day)
}

// NextRequestID draws the next request ID of the day in Japan.
func (tx *Tx) NextRequestID() (string, error) {
	day := pki.Day(tx.Now).Format("20060102")
	shared, _ := tx.sql.Deferred().(*numbers)
	if shared != nil && shared.day == day {
		err := tx.sql.Ready()
		if err != nil {
			return "", err
		}
		tx.sql.Wrote()
		shared.last++
		shared.drawn = true
		return pki.NewRequestID(tx.Now, shared.last)
	}
	n, err := tx.nextOf(day)
	if err != nil {
		return "", err
	}
	if shared != nil {
		*shared = numbers{day: day, last: n}
	}
	return pki.NewRequestID(tx.Now, n)
}

// nextOf draws the next number of a sequence that begins at 1.
func (tx *Tx) nextOf(sequence string) (int, error) {
	var n int
	err := tx.sql.QueryRow(`INSERT INTO day_sequence (day, last) VALUES ($1, 1)
		ON CONFLICT (day) DO UPDATE SET last = day_sequence.last + 1 RETURNING last`, sequence).Scan(&n)
	return n, engine.Error("next of "+sequence, err)
}

// AddRequest stores a new request and, where it is new, its holder. ChangedAt and
// ReceivedAt are the transaction's Now unless ReceivedAt is set.
func (tx *Tx) AddRequest(r pki.Request) error {
	a := r.Application
	err := tx.sql.Add("add holder", `INSERT INTO holder (kind, code, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		string(a.Holder.Kind), a.Holder.Code, engine.Micros(tx.Now))
	if err != nil {
		return err
	}
	return tx.sql.Add("add request", `INSERT INTO request (id, kind, source, state, holder_kind, holder_code, terminal_name,
		email, maintenance_email, department, phone, payment_method, csr, content_hash, entered_by,
		checked_by, approved_by, grant_id, client_id, idempotency, profile, key_type,
		predecessor, language, received_at, changed_at, approved_at, not_before, alike)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28,$29)`,
		r.ID, string(r.Kind), string(r.Source), string(r.State), string(a.Holder.Kind), a.Holder.Code, a.TerminalName,
		a.Email, a.MaintenanceEmail, a.Department, a.Phone, a.PaymentMethod, nullBytes(a.CSR), r.ContentHash, r.EnteredBy,
		r.CheckedBy, r.ApprovedBy, r.GrantID, r.ClientID, r.Idempotency, r.Profile, string(r.KeyType),
		r.Predecessor, r.Language, engine.Micros(r.ReceivedAt), engine.Micros(tx.Now), engine.Micros(r.ApprovedAt), engine.Micros(r.NotBefore), r.Alike)
}

const requestColumns = `id, kind, source, state, holder_kind, holder_code, terminal_name, email, maintenance_email,
	department, phone, payment_method, csr, content_hash, entered_by, checked_by, approved_by, grant_id, client_id,
	idempotency, profile, key_type, predecessor, serial, failure, language, received_at, approved_at,
	issued_at, not_before, dispatched_at, downloads_until, fetched_at, installed_at, closed_at, alike`

func scanRequest(row engine.Scanner) (pki.Request, error) {
	var r pki.Request
	var received, approved, issued, notBefore, dispatched, downloads, fetched, installed, closed int64
	err := row.Scan(&r.ID, &r.Kind, &r.Source, &r.State, &r.Application.Holder.Kind, &r.Application.Holder.Code,
		&r.Application.TerminalName, &r.Application.Email, &r.Application.MaintenanceEmail, &r.Application.Department,
		&r.Application.Phone, &r.Application.PaymentMethod, &r.Application.CSR, &r.ContentHash, &r.EnteredBy, &r.CheckedBy,
		&r.ApprovedBy, &r.GrantID, &r.ClientID, &r.Idempotency, &r.Profile, &r.KeyType, &r.Predecessor,
		&r.Serial, &r.Failure, &r.Language, &received, &approved, &issued, &notBefore, &dispatched, &downloads, &fetched, &installed, &closed, &r.Alike)
	r.ReceivedAt, r.ApprovedAt, r.IssuedAt, r.NotBefore = engine.FromMicros(received), engine.FromMicros(approved), engine.FromMicros(issued), engine.FromMicros(notBefore)
	r.Dispatched, r.Downloads, r.FetchedAt, r.Installed = engine.FromMicros(dispatched), engine.FromMicros(downloads), engine.FromMicros(fetched), engine.FromMicros(installed)
	r.Closed = engine.FromMicros(closed)
	return r, err
}

// Request reads one request; pki.ErrNotFound where there is none.
func (tx *Tx) Request(id string) (pki.Request, error) {
	r, err := scanRequest(tx.sql.QueryRow(`SELECT `+requestColumns+` FROM request WHERE id = $1`, id))
	return r, engine.Error("read request", err)
}

// RequestByIdempotency finds what a client asked for earlier under the same key;
// pki.ErrNotFound where it did not.
func (tx *Tx) RequestByIdempotency(client, key string) (pki.Request, error) {
	r, err := scanRequest(tx.sql.QueryRow(`SELECT `+requestColumns+` FROM request
		WHERE client_id = $1 AND idempotency = $2 AND idempotency <> ''`, client, key))
	return r, engine.Error("read request by idempotency key", err)
}

// RequestFilter narrows Requests. Zero fields do not narrow.
type RequestFilter struct {
	States     []pki.RequestState
	HolderCode string
	After      string // request ID, exclusive: the page key
	Limit      int    // default 100, at most 1000
}

// Requests lists requests in the order of their IDs.
func (tx *Tx) Requests(f RequestFilter) ([]pki.Request, error) {
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(strings.Split(requestColumns, ",")...).From("request").OrderBy("id")
	if len(f.States) > 0 {
		b.Where(b.In("state", sqlbuilder.List(texts(f.States))))
	}
	if f.HolderCode != "" {
		b.Where(b.Equal("holder_code", f.HolderCode))
	}
	if f.After != "" {
		b.Where(b.GreaterThan("id", f.After))
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	b.Limit(min(f.Limit, 1000))
	query, args := b.Build()
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, engine.Error("list requests", err)
	}
	return engine.Collect(rows, scanRequest)
}

// RequestChange names what a transition writes besides the state. Zero fields are
// left as they are.
type RequestChange struct {
	CheckedBy, ApprovedBy, Serial string
	Failure                       *string
	ApprovedAt, IssuedAt          time.Time
	Downloads                     time.Time
}

// MoveRequest makes one conditional step from the state in which the caller saw the
// request, with the content it saw. pki.ErrConflict when either is no longer so.
func (tx *Tx) MoveRequest(r pki.Request, next pki.RequestState, c RequestChange) error {
	if c == (RequestChange{Serial: c.Serial, IssuedAt: c.IssuedAt, Downloads: c.Downloads}) &&
		c.Serial != "" && !c.IssuedAt.IsZero() && !c.Downloads.IsZero() {
		// Every certificate ends with this step. The guards look at the columns that a
		// statement names: none of these is theirs.
		return tx.sql.One("move request", `UPDATE request SET state = $1, changed_at = $2, serial = $3, issued_at = $4, downloads_until = $5
			WHERE id = $6 AND state = $7 AND content_hash = $8`,
			string(next), engine.Micros(tx.Now), c.Serial, engine.Micros(c.IssuedAt), engine.Micros(c.Downloads), r.ID, string(r.State), r.ContentHash)
	}
	return tx.sql.One("move request", `UPDATE request SET state = $1, changed_at = $2,
		checked_by = COALESCE(NULLIF($3, ''), checked_by), approved_by = COALESCE(NULLIF($4, ''), approved_by),
		serial = COALESCE(NULLIF($5, ''), serial), failure = COALESCE(CAST($6 AS TEXT), failure),
		approved_at = COALESCE(NULLIF(CAST($7 AS BIGINT), 0), approved_at), issued_at = COALESCE(NULLIF(CAST($8 AS BIGINT), 0), issued_at),
		downloads_until = COALESCE(NULLIF(CAST($9 AS BIGINT), 0), downloads_until)
		WHERE id = $10 AND state = $11 AND content_hash = $12`,
		string(next), engine.Micros(tx.Now), c.CheckedBy, c.ApprovedBy, c.Serial, c.Failure, engine.Micros(c.ApprovedAt), engine.Micros(c.IssuedAt), engine.Micros(c.Downloads),
		r.ID, string(r.State), r.ContentHash)
}

// MarkDispatched records that the letter left (差出) and deletes the sealed
// reference ID: from now on only its verifier exists (threat LE4).
func (tx *Tx) MarkDispatched(id string) error {
	err := tx.sql.One("mark dispatched", `UPDATE request SET dispatched_at = $1 WHERE id = $2 AND state = 'issued' AND dispatched_at = 0`,
		engine.Micros(tx.Now), id)
	if err != nil {
		return err
	}
	_, err = tx.sql.Exec(`UPDATE reference SET sealed = NULL WHERE request = $1`, id)
	return engine.Error("drop sealed reference", err)
}

// MarkFetched records the first download; false when there was one before.
func (tx *Tx) MarkFetched(id string) (bool, error) {
	n, err := tx.sql.Exec(`UPDATE request SET fetched_at = $1 WHERE id = $2 AND fetched_at = 0`, engine.Micros(tx.Now), id)
	return n == 1, engine.Error("mark fetched", err)
}

// ExtendDownloads moves the download deadline of an issued request.
func (tx *Tx) ExtendDownloads(id string, until time.Time) error {
	return tx.sql.One("extend downloads", `UPDATE request SET downloads_until = $1 WHERE id = $2 AND state = 'issued' AND downloads_until < $3`,
		engine.Micros(until), id, engine.Micros(until))
}

// AddEditor records that an operator changed the content of a request.
func (tx *Tx) AddEditor(request, operator string) error {
	_, err := tx.sql.Exec(`INSERT INTO request_editor (request, operator) VALUES ($1, $2) ON CONFLICT DO NOTHING`, request, operator)
	return engine.Error("add editor", err)
}

// Editors lists the operators who changed the content of a request.
func (tx *Tx) Editors(request string) ([]string, error) {
	rows, err := tx.sql.Query(`SELECT operator FROM request_editor WHERE request = $1 ORDER BY operator`, request)
	if err != nil {
		return nil, engine.Error("read editors", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (string, error) {
		var s string
		err := row.Scan(&s)
		return s, err
	})
}

// ChangeContent replaces the typed content of a request that was received or
// returned, as the editor saw it. Earlier checks fall away.
func (tx *Tx) ChangeContent(r pki.Request, next pki.RequestState, a pki.Application) error {
	return tx.sql.One("change content", `UPDATE request SET terminal_name = $1, email = $2, maintenance_email = $3, department = $4,
		phone = $5, payment_method = $6, content_hash = $7, checked_by = '', state = $8, changed_at = $9
		WHERE id = $10 AND state = $11 AND content_hash = $12`,
		a.TerminalName, a.Email, a.MaintenanceEmail, a.Department, a.Phone, a.PaymentMethod, a.Hash(), string(next), engine.Micros(tx.Now),
		r.ID, string(r.State), r.ContentHash)
}

// Renewals lists renewals of any of some certificates, the newest first.
func (tx *Tx) Renewals(predecessors []string) ([]pki.Request, error) {
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(strings.Split(requestColumns, ",")...).From("request").Where("predecessor <> ''", b.In("predecessor", sqlbuilder.List(texts(predecessors)))).OrderBy("id DESC")
	query, args := b.Build()
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, engine.Error("list renewals", err)
	}
	return engine.Collect(rows, scanRequest)
}

// OpenRenewal gives the renewal of a certificate that stands: neither refused nor
// closed by the revocation of what it brought; pki.ErrNotFound where there is none.
func (tx *Tx) OpenRenewal(predecessor string) (pki.Request, error) {
	r, err := scanRequest(tx.sql.QueryRow(`SELECT `+requestColumns+` FROM request WHERE predecessor = $1 AND predecessor <> '' AND closed_at = 0
		AND state NOT IN ('rejected', 'cancelled')`, predecessor))
	return r, engine.Error("read open renewal", err)
}

// CloseRenewal records that the certificate of a renewal was revoked, so that its
// predecessor may be renewed again.
func (tx *Tx) CloseRenewal(id string) error {
	_, err := tx.sql.Exec(`UPDATE request SET closed_at = $1 WHERE id = $2 AND closed_at = 0`, engine.Micros(tx.Now), id)
	return engine.Error("close renewal", err)
}

// MarkInstalled records that the certificate of a request was first seen in use; false
// when it was seen before.
func (tx *Tx) MarkInstalled(id string) (bool, error) {
	n, err := tx.sql.Exec(`UPDATE request SET installed_at = $1 WHERE id = $2 AND installed_at = 0`, engine.Micros(tx.Now), id)
	return n == 1, engine.Error("mark installed", err)
}

// RequestsOf reads requests by their IDs.
func (tx *Tx) RequestsOf(ids []string) ([]pki.Request, error) {
	return engine.Listed(tx.sql, "request", requestColumns, "id", ids, "", scanRequest)
}

// Editor is a person who changed the content of a request.
type Editor struct{ Request, Operator string }

// EditorsBetween lists the editors of the requests after one ID and up to another; up to
// the end where that is "".
func (tx *Tx) EditorsBetween(after, upTo string) ([]Editor, error) {
	rows, err := tx.sql.Query(`SELECT request, operator FROM request_editor WHERE request > $1 AND (request <= $2 OR $3 = '') ORDER BY request, operator`, after, upTo, upTo)
	if err != nil {
		return nil, engine.Error("read editors", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (Editor, error) {
		var e Editor
		err := row.Scan(&e.Request, &e.Operator)
		return e, err
	})
}
