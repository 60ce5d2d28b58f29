package ops

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// requests compares requests, and with them what has one of them as its name: editors,
// reference IDs, keys, and the links that open them.
func (c *comparison) requests() error {
	after := ""
	for {
		rows, err := c.tx.Requests(store.RequestFilter{After: after, Limit: page})
		if err != nil {
			return err
		}
		ids := make([]string, len(rows))
		for n, r := range rows {
			ids[n] = r.ID
		}
		history, err := c.history(ids)
		if err != nil {
			return err
		}
		last := "" // up to the end
		if len(rows) == page {
			last = ids[len(ids)-1]
		}
		for _, step := range []func() error{
			func() error { return c.editors(after, last, history) },
			func() error { return c.references(after, last, rows, history) },
			func() error { return c.keysOf(rows, history) },
			func() error { return c.claims(rows, history) },
			func() error { return c.linksOf(rows, history) },
		} {
			err = step()
			if err != nil {
				return err
			}
		}
		for _, r := range rows {
			if r.GrantID != "" {
				c.used[r.GrantID] = c.used[r.GrantID].with(r)
			}
			told := toldOfRequest(history[r.ID])
			c.compare("request", r.ID, requestColumns(r, told["origin"]), told)
		}
		if last == "" {
			return nil
		}
		after = last
	}
}

// with counts one request more. They come in the order of their days.
func (u use) with(r pki.Request) use {
	day := pki.Day(r.ReceivedAt).Format(time.DateOnly)
	if day != u.day {
		u.day, u.onDay = day, 0
	}
	u.all++
	u.onDay++
	return u
}

// editors are the people whom an approval must not come from (threat AP6).
func (c *comparison) editors(after, upTo string, history map[string][]event) error {
	rows, err := c.tx.EditorsBetween(after, upTo)
	if err != nil {
		return err
	}
	told := map[store.Editor]bool{}
	for request, events := range history {
		for _, e := range events {
			if e.Kind == "request.corrected" {
				told[store.Editor{Request: request, Operator: e.Actor}] = true
			}
		}
	}
	for _, r := range rows {
		c.report.Rows++
		if !told[r] {
			c.deviate("request_editor", r.Request, "operator")
		}
		delete(told, r)
	}
	for _, e := range slices.SortedFunc(maps.Keys(told), func(a, b store.Editor) int { return strings.Compare(a.Request, b.Request) }) {
		c.deviate("request_editor", e.Request, "operator")
	}
	return nil
}

// requestColumns gives the columns of a row. origin is what the records say of it, of
// whatever version.
func requestColumns(r pki.Request, origin string) columns {
	content := r.ContentHash
	if !r.Application.Is(content) {
		content = ""
	}
	row := columns{"state": string(r.State), "entered_by": r.EnteredBy, "checked_by": r.CheckedBy, "approved_by": r.ApprovedBy,
		"grant_id": r.GrantID, "content_hash": r.ContentHash, "content": content, "origin": r.OriginAs(origin), "failure": r.Failure, "alike": r.Alike,
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

// toldOfRequest is what the records say that a request became; nil
// where no record says that it came to be. "content" and "origin" stand for all columns
// that a person typed and that tell where a request came from.
func toldOfRequest(history []event) columns {
	var told columns
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
	return told
}
