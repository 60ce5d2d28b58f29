package ops

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// otherIntents compares what we meant to sign and that certificates do not compare: of
// our own certificates, and without a certificate.
func (c *comparison) otherIntents() error {
	rows, err := c.tx.OtherIntents()
	if err != nil {
		return err
	}
	for part := range slices.Chunk(rows, page) {
		serials := make([]string, len(part))
		for n, r := range part {
			serials[n] = r.Serial
		}
		history, err := c.history(serials)
		if err != nil {
			return err
		}
		last := ""
		for _, r := range part {
			if r.Serial == last {
				c.deviate("intent", r.Serial, "")
			}
			c.intent(r, history[r.Serial])
			last = r.Serial
		}
	}
	return c.ownIntents(rows)
}

// ownIntents looks for own certificates that nobody meant to sign.
func (c *comparison) ownIntents(rows []store.Intent) error {
	signed := map[string]bool{}
	for _, r := range rows {
		signed[r.Serial] = true
	}
	own, err := c.tx.OwnSerials()
	if err != nil {
		return err
	}
	for _, serial := range own {
		if !signed[serial] {
			c.deviate("intent", serial, "")
		}
	}
	return nil
}

func (c *comparison) intent(r store.Intent, history []event) {
	row := columns{"issuer": r.Issuer, "profile": r.Profile, "request": r.Request, "tbs": hashHex(r.TBS),
		"audit_index": fmt.Sprint(r.AuditIndex), "audit_leaf": hex.EncodeToString(r.AuditLeaf), "state": r.State}
	row.at("made_at", r.MadeAt)
	var told columns
	for _, e := range history {
		switch {
		case told == nil && e.Kind == "certificate.intent":
			told = columns{"issuer": e.facts.Issuer, "profile": e.facts.Profile, "request": e.facts.Request, "tbs": e.facts.TBSSHA256}
			if e.Erased {
				told = columns{}
			}
			told["audit_index"], told["audit_leaf"], told["state"] = fmt.Sprint(e.Index), hex.EncodeToString(e.Leaf), "open"
			told.at("made_at", e.At)
		case told != nil && e.Kind == "certificate.issued":
			told["state"] = "done"
		case told != nil && e.Kind == "certificate.abandoned":
			told["state"] = "abandoned"
		}
	}
	c.compare("intent", r.Serial, row, told)
}

// lists compares the newest CRL of each issuer with the record of its publication. Older
// ones are not kept.
func (c *comparison) lists() error {
	rows, stray, err := c.tx.CRLRows()
	if err != nil {
		return err
	}
	last := ""
	for _, r := range rows {
		if r.Issuer == last {
			c.deviate("crl", r.Issuer, "")
			continue
		}
		last = r.Issuer
		history, err := c.history([]string{r.Issuer}, "crl.published")
		if err != nil {
			return err
		}
		row := columns{"number": fmt.Sprint(r.Number), "der": r.SHA256}
		row.at("this_update", r.ThisUpdate)
		row.at("next_update", r.NextUpdate)
		row.at("compared_at", r.Compared)
		var told columns
		for _, e := range history[r.Issuer] {
			told = columns{}
			if !e.Erased {
				told = columns{"number": fmt.Sprint(e.facts.Number), "der": e.facts.SHA256}
				told.at("this_update", e.facts.This)
				told.at("next_update", e.facts.Next)
				told.at("compared_at", e.facts.Compared)
			}
		}
		c.compare("crl", r.Issuer, row, told)
	}
	for _, p := range stray {
		c.deviate(p.Table, p.Key, "")
	}
	return nil
}

// instance compares the instance with the record of its making.
func (c *comparison) instance() error {
	row, err := c.tx.Instance()
	if pki.ClassOf(err) == pki.NotFound {
		return nil // where a record tells of one, it is lost
	}
	if err != nil {
		return err
	}
	history, err := c.history([]string{row.UUID})
	if err != nil {
		return err
	}
	have := columns{"mode": row.Mode}
	have.at("created_at", row.Created)
	var told columns
	for _, e := range history[row.UUID] {
		if told == nil && e.Kind == "instance.made" {
			told = columns{"mode": e.facts.Mode}
			if e.Erased {
				told = columns{}
			}
			told.at("created_at", e.At)
		}
	}
	c.compare("instance", row.UUID, have, told)
	return nil
}

// conflicts compares the roles that exclude each other with those of the program.
func (c *comparison) conflicts() error {
	rows, err := c.tx.Conflicts()
	if err != nil {
		return err
	}
	want := map[[2]string]bool{}
	for _, pair := range pki.RoleConflicts() {
		a, b := string(pair[0]), string(pair[1])
		want[[2]string{a, b}], want[[2]string{b, a}] = true, true
	}
	for _, r := range rows {
		c.report.Rows++
		if !want[r] {
			c.deviate("role_conflict", strings.Join(r[:], " "), "")
		}
		delete(want, r)
	}
	for pair := range want {
		c.deviate("role_conflict", strings.Join(pair[:], " "), "")
	}
	return nil
}

// linkTables are the tables of links that open a request, with the member of the record
// that tells of one.
var linkTables = map[string]func(facts) string{
	"status_link": func(f facts) string { return f.Link },
	"draft":       func(f facts) string { return f.Draft },
}

// linksOf looks for links that were taken away before their time.
func (c *comparison) linksOf(requests []pki.Request, history map[string][]event) error {
	for _, r := range requests {
		for _, e := range history[r.ID] {
			if e.Kind != "application.linked" || e.Erased || e.facts.Until.Before(c.tx.Now) {
				continue
			}
			for table, of := range linkTables {
				there, err := c.tx.HasLink(table, of(e.facts), r.ID)
				if err != nil {
					return err
				}
				if !there {
					c.deviate(table, of(e.facts), "")
				}
			}
		}
	}
	return nil
}

// links compares the links that open a request: one of nobody's shows what somebody
// applied for, and withdraws it.
func (c *comparison) links() error {
	for table, of := range linkTables {
		list := func(after string) ([]store.Link, error) { return c.tx.LinksAfter(table, after, page) }
		err := pages(c, list, func(l store.Link) string { return l.TokenHash }, func(rows []store.Link) error {
			ids := make([]string, len(rows))
			for n, r := range rows {
				ids[n] = r.Request
			}
			history, err := c.history(ids, "application.linked")
			if err != nil {
				return err
			}
			for _, r := range rows {
				row := columns{"until": fmt.Sprint(r.Until)}
				if table == "draft" {
					row["flow"] = hashHex([]byte(r.Flow))
				}
				c.compare(table, r.TokenHash, row, toldOfLink(history[r.Request], r.TokenHash, of, table == "draft"))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func toldOfLink(history []event, token string, of func(facts) string, draft bool) columns {
	for _, e := range history {
		switch {
		case e.Erased:
			return columns{}
		case of(e.facts) == token:
			told := columns{"until": fmt.Sprint(micros(e.facts.Until))}
			if draft {
				told["flow"] = e.facts.Flow
			}
			return told
		}
	}
	return nil
}
