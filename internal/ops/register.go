package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
)

// Deviation is a row that is not what the audit records say it became, or a definition
// of the database that is not this program's (threat CO12).
type Deviation struct {
	Table string
	Key   string // of the row; of a definition its kind and name
	Field string // a column; "" where the whole row is meant
	What  string // "" for a row; for a definition a word of store.Difference, or Unchecked
}

// Unchecked is said of definitions that could not be compared.
const Unchecked = "definitions_unchecked"

// RegisterReport is the outcome of VerifyRegister.
type RegisterReport struct {
	Rows       int64
	Deviations []Deviation
	More       int // deviations that were not listed
}

// OK says whether nothing was found.
func (r RegisterReport) OK() bool { return len(r.Deviations) == 0 }

const maxDeviations = 100

// VerifyRegister compares the rows with the audit records, and the definitions of the
// database with those that this program makes. Whether the records themselves are those
// that were signed is store.VerifyAudit's to say: only both together show that nobody
// wrote an approval into the database. What it does not compare is in Uncovered.
func (s *Service) VerifyRegister(ctx context.Context) (RegisterReport, error) {
	r, err := s.VerifyRows(ctx)
	if err != nil {
		return r, err
	}
	c := comparison{report: r}
	err = s.definitions(ctx, &c)
	return c.report, err
}

// VerifyRows replays the audit records and compares the outcome with the rows.
func (s *Service) VerifyRows(ctx context.Context) (RegisterReport, error) {
	var r RegisterReport
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		c := comparison{ctx: ctx, tx: tx, used: map[string]use{}}
		for _, step := range []func() error{c.instance, c.conflicts, c.requests, c.certificates, c.otherIntents, c.keys, c.publicKeys, c.links, c.lists,
			c.revocations, c.grants, c.operators, c.clients, c.lost, c.strays} {
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
	used   map[string]use // of grants
}

// use is how much of a grant its requests took.
type use struct {
	all, onDay int
	day        string // the last one
}

func (c *comparison) deviate(table, key, field string) {
	c.list(Deviation{Table: table, Key: key, Field: field})
}

func (c *comparison) list(d Deviation) {
	if len(c.report.Deviations) >= maxDeviations {
		c.report.More++
		return
	}
	c.report.Deviations = append(c.report.Deviations, d)
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

// history reads the records about many subjects, of some kinds or of all, by subject.
func (c *comparison) history(subjects []string, kinds ...string) (map[string][]event, error) {
	if c.ctx.Err() != nil {
		return nil, c.ctx.Err()
	}
	records, err := c.tx.AuditOf(subjects, kinds...)
	if err != nil {
		return nil, err
	}
	out := map[string][]event{}
	for _, r := range records {
		e := event{Record: r}
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
	audit.Record
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
	Key          string
	KeyOrigin    string
	Epoch        string
	Blob         string
	Reference    string
	Sealed       string
	Link         string
	Draft        string
	Flow         string
	SPKISHA256   string
	TBSSHA256    string
	Number       int64
	This         time.Time
	Next         time.Time
	Compared     time.Time
	Mode         string
}

const page = 500

// pages goes through the rows of a list, a page at a time.
func pages[T any](c *comparison, list func(after string) ([]T, error), key func(T) string, fn func(rows []T) error) error {
	after := ""
	for {
		rows, err := list(after)
		if err != nil || len(rows) == 0 {
			return err
		}
		err = fn(rows)
		if err != nil {
			return err
		}
		after = key(rows[len(rows)-1])
	}
}

// lost are rows that records tell of and that are gone.
func (c *comparison) lost() error {
	rows, err := c.tx.LostRows()
	for _, r := range rows {
		c.deviate(r.Table, r.Key, "")
	}
	return err
}

// strays are rows that belong to nothing.
func (c *comparison) strays() error {
	rows, err := c.tx.StrayRows()
	for _, r := range rows {
		c.deviate(r.Table, r.Key, "")
	}
	return err
}

// byKey gives a map of rows by what names them.
func byKey[T any](rows []T, key func(T) string) map[string]T {
	out := make(map[string]T, len(rows))
	for _, r := range rows {
		out[key(r)] = r
	}
	return out
}
