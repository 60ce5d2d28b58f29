package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// Deviation is a row that is not what the audit records say it became (threat CO12).
type Deviation struct {
	Table string
	Key   string
	Field string // a column; "" where the whole row is meant
}

// RegisterReport is the outcome of VerifyRegister.
type RegisterReport struct {
	Rows       int64
	Deviations []Deviation
	More       int // deviations that were not listed
}

// OK says whether nothing was found.
func (r RegisterReport) OK() bool { return len(r.Deviations) == 0 }

const maxDeviations = 100

// VerifyRegister replays the audit records of every request, certificate, case of
// revocation, grant, operator and API client and compares the outcome with the rows. Whether the records
// themselves are those that were signed is store.VerifyAudit's to say: only both
// together show that nobody wrote an approval into the database.
func (s *Service) VerifyRegister(ctx context.Context) (RegisterReport, error) {
	var r RegisterReport
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		c := comparison{ctx: ctx, tx: tx, used: map[string]int{}}
		for _, step := range []func() error{c.requests, c.certificates, c.revocations, c.grants, c.operators, c.clients, c.lost} {
			err := step()
			if err != nil {
				return err
			}
		}
		r = c.report
		return nil
	})
	return r, err
}

// columns are values of a row by column, as text.
type columns map[string]string

func (c columns) at(name string, t time.Time) { c[name] = micros(t) }

func micros(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprint(t.UnixMicro())
}

// comparison is one run of VerifyRegister.
type comparison struct {
	ctx    context.Context
	tx     *store.Tx
	report RegisterReport
	used   map[string]int // requests by grant
}

func (c *comparison) deviate(table, key, field string) {
	if len(c.report.Deviations) >= maxDeviations {
		c.report.More++
		return
	}
	c.report.Deviations = append(c.report.Deviations, Deviation{table, key, field})
}

// compare names every column that is known to be something else. What no record tells,
// because its body was erased, is not compared.
func (c *comparison) compare(table, key string, row, told columns) {
	c.report.Rows++
	if told == nil {
		c.deviate(table, key, "")
		return
	}
	for _, column := range slices.Sorted(maps.Keys(told)) {
		if row[column] != told[column] {
			c.deviate(table, key, column)
		}
	}
}

// history reads the records about many subjects, by subject.
func (c *comparison) history(subjects []string) (map[string][]event, error) {
	if c.ctx.Err() != nil {
		return nil, c.ctx.Err()
	}
	records, err := c.tx.AuditOf(subjects)
	if err != nil {
		return nil, err
	}
	out := map[string][]event{}
	for _, r := range records {
		e := event{AuditRecord: r}
		if !r.Erased {
			err = json.Unmarshal(r.Body, &e.facts)
		}
		if err != nil {
			e.Erased = true // not of ours, or changed: VerifyAudit tells which
			err = nil
		}
		out[r.Subject] = append(out[r.Subject], e)
	}
	return out, nil
}

// event is an audit record with the facts of its body.
type event struct {
	store.AuditRecord
	facts facts
}

// facts are the members that bodies of records have, each kind some of them.
type facts struct {
	To           string
	Source       pki.Source
	Content      string
	Origin       string
	Grant        string
	Failure      string
	Until        time.Time
	Request      string
	Issuer       string
	Profile      string
	SHA256       string
	NotAfter     time.Time
	Reason       string
	Held         bool
	Effective    time.Time
	InvalidSince time.Time
	Serial       string
	Proof        pki.RevocationProof
	Successor    string
	Alike        string
	Name         string
	Certificate  string
	Roles        []string
	OSUser       string
	OSUID        uint32
	Role         string
	Client       string
	Kinds        []string
	Prefectures  []string
	PerDay       int
	Total        int
	Ends         time.Time
}

const page = 500

// eachWithHistory goes through the rows of a list, a page at a time, each with the
// records about it.
func eachWithHistory[T any](c *comparison, list func(after string) ([]T, error), key func(T) string, fn func(row T, history []event) error) error {
	after := ""
	for {
		rows, err := list(after)
		if err != nil || len(rows) == 0 {
			return err
		}
		keys := make([]string, len(rows))
		for i, r := range rows {
			keys[i] = key(r)
		}
		history, err := c.history(keys)
		if err != nil {
			return err
		}
		for i, r := range rows {
			err = fn(r, history[keys[i]])
			if err != nil {
				return err
			}
		}
		after = keys[len(keys)-1]
	}
}

// requests compares requests.
func (c *comparison) requests() error {
	list := func(after string) ([]pki.Request, error) {
		return c.tx.Requests(store.RequestFilter{After: after, Limit: page})
	}
	key := func(r pki.Request) string { return r.ID }
	return eachWithHistory(c, list, key, func(r pki.Request, history []event) error {
		c.used[r.GrantID]++
		told, editors := toldOfRequest(history)
		c.compare("request", r.ID, requestColumns(r), told)
		return c.editors(r.ID, editors)
	})
}

// editors are the people whom an approval must not come from (threat AP6).
func (c *comparison) editors(request string, told []string) error {
	if len(told) == 0 {
		return nil
	}
	rows, err := c.tx.Editors(request)
	if err != nil {
		return err
	}
	for _, editor := range told {
		if !slices.Contains(rows, editor) {
			c.deviate("request_editor", request, "operator")
		}
	}
	return nil
}

func requestColumns(r pki.Request) columns {
	row := columns{"state": string(r.State), "entered_by": r.EnteredBy, "checked_by": r.CheckedBy, "approved_by": r.ApprovedBy,
		"grant_id": r.GrantID, "content_hash": r.ContentHash, "content": r.Application.Hash(), "origin": r.Origin(), "failure": r.Failure, "alike": r.Alike,
		"serial": fmt.Sprint(r.Serial != "")}
	row.at("received_at", r.ReceivedAt)
	row.at("approved_at", r.ApprovedAt)
	row.at("issued_at", r.IssuedAt)
	row.at("dispatched_at", r.Dispatched)
	row.at("downloads_until", r.Downloads)
	row.at("fetched_at", r.FetchedAt)
	row.at("installed_at", r.Installed)
	row.at("closed_at", r.Closed)
	return row
}

// toldOfRequest is what the records say that a request became, and who edited it; nil
// where no record says that it came to be. "content" and "origin" stand for all columns
// that a person typed and that tell where a request came from.
func toldOfRequest(history []event) (columns, []string) {
	var told columns
	var editors []string
	for _, e := range history {
		state, isState := strings.CutPrefix(e.Kind, "request.")
		switch {
		case told == nil && isState:
			told = columns{"state": state, "entered_by": "", "checked_by": "", "approved_by": "", "failure": "", "serial": "false",
				"grant_id": e.facts.Grant, "content_hash": e.facts.Content, "content": e.facts.Content, "origin": e.facts.Origin, "alike": e.facts.Alike}
			told.at("received_at", e.At)
			for _, never := range []string{"approved_at", "issued_at", "dispatched_at", "downloads_until", "fetched_at", "installed_at", "closed_at"} {
				told.at(never, time.Time{})
			}
			switch {
			case e.Erased:
				for _, unknown := range []string{"entered_by", "grant_id", "content_hash", "content", "origin", "alike"} {
					delete(told, unknown)
				}
			case e.facts.Source == pki.FromOperator:
				told["entered_by"] = e.Actor
			case state == string(pki.Approved) || e.facts.Source == pki.FromAPI: // a renewal, or under a grant
				told.at("approved_at", e.At)
			}
		case told == nil:
		case e.Kind == "request.corrected":
			editors = append(editors, e.Actor)
			told["state"], told["checked_by"] = string(pki.Received), ""
			told["content_hash"], told["content"] = e.facts.Content, e.facts.Content
			if e.Erased {
				delete(told, "content_hash")
				delete(told, "content")
			}
		case isState:
			told["state"] = state
			switch pki.RequestState(state) {
			case pki.Reviewing:
				told["checked_by"] = e.Actor
			case pki.Approved:
				told["approved_by"] = e.Actor
				told.at("approved_at", e.At)
			case pki.Issued:
				told["serial"] = "true"
				told.at("issued_at", e.At)
				told.at("downloads_until", pki.DownloadDeadline(e.At))
				if !e.facts.Until.IsZero() { // a renewal's
					told.at("downloads_until", e.facts.Until)
				}
			case pki.Failed:
				told["failure"] = e.facts.Failure
			}
		case e.Kind == "letter.dispatched":
			told.at("dispatched_at", e.At)
		case e.Kind == "renewal.closed":
			told.at("closed_at", e.At)
		case e.Kind == "letter.extended":
			told.at("downloads_until", e.facts.Until)
		case e.Kind == "pickup.prepared" && told["fetched_at"] == micros(time.Time{}):
			told.at("fetched_at", e.At)
		case e.Kind == "certificate.seen":
			told.at("installed_at", e.At)
		}
	}
	return told, editors
}

// lost are rows that records tell of and that are gone.
func (c *comparison) lost() error {
	rows, err := c.tx.LostRows()
	for _, r := range rows {
		c.deviate(r.Table, r.Key, "")
	}
	return err
}
