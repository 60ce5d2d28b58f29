package ops

import (
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// revocations compares cases of revocation.
func (c *comparison) revocations() error {
	list := func(after string) ([]pki.Revocation, error) {
		return c.tx.Revocations(store.RevocationFilter{After: after, Limit: page})
	}
	key := func(r pki.Revocation) string { return r.ID }
	return pages(c, list, key, func(rows []pki.Revocation) error {
		ids := make([]string, len(rows))
		for n, r := range rows {
			ids[n] = r.ID
		}
		history, err := c.history(ids)
		if err != nil {
			return err
		}
		for _, r := range rows {
			told := toldOfRevocation(history[r.ID])
			row := revocationColumns(r)
			row["content"] = r.ContentAs(told["content"])
			c.compare("revocation", r.ID, row, told)
		}
		return nil
	})
}

func revocationColumns(r pki.Revocation) columns {
	row := columns{"serial": r.Serial, "request": r.RequestID, "proof": string(r.Proof), "asked_by": r.AskedBy, "reason": r.Reason.String(),
		"state": string(r.State), "proposed_by": r.ProposedBy, "decided_by": r.DecidedBy}
	row.at("received_at", r.ReceivedAt)
	row.at("held_at", r.HeldAt)
	row.at("effective_at", r.Dates.Effective)
	row.at("invalid_since", r.Dates.InvalidSince)
	row.at("proposed_at", r.ProposedAt)
	row.at("decided_at", r.DecidedAt)
	return row
}

// toldOfRevocation is what the records say that a case became; nil where no record says
// that it came to be. "content" stands for all that was typed and never changes.
func toldOfRevocation(history []event) columns {
	var told columns
	for _, e := range history {
		state, isState := strings.CutPrefix(e.Kind, "revocation.")
		switch {
		case told == nil && e.Kind == "revocation.received":
			told = columns{}
			if !e.Erased {
				told = columns{"serial": e.facts.Serial, "request": e.facts.Request, "proof": string(e.facts.Proof), "reason": e.facts.Reason, "content": e.facts.Content}
				told.at("held_at", time.Time{})
				told.at("effective_at", e.facts.Effective)
				told.at("invalid_since", e.facts.InvalidSince)
			}
			if e.facts.Held {
				told.at("held_at", e.At)
			}
			told["asked_by"], told["state"], told["proposed_by"], told["decided_by"] = e.Actor, string(pki.RevocationReceived), "", ""
			told.at("received_at", e.At)
			told.at("proposed_at", time.Time{})
			told.at("decided_at", time.Time{})
		case told == nil:
		case e.Kind == "revocation.proposed":
			told["proposed_by"] = e.Actor
			told.at("proposed_at", e.At)
		case isState:
			told["state"], told["decided_by"] = state, e.Actor
			told.at("decided_at", e.At)
		}
	}
	return told
}
