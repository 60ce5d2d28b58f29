package ops

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// certificates compares certificates, and with them what was signed.
func (c *comparison) certificates() error {
	list := func(after string) ([]store.CertificateRow, error) { return c.tx.CertificateRows(after, page) }
	return pages(c, list, func(r store.CertificateRow) string { return r.Serial }, func(rows []store.CertificateRow) error {
		var serials, requests []string
		for _, r := range rows {
			serials = append(serials, r.Serial)
			if r.RequestID != "" {
				requests = append(requests, r.RequestID)
			}
		}
		history, err := c.history(serials)
		if err != nil {
			return err
		}
		asked, err := c.tx.RequestsOf(requests)
		if err != nil {
			return err
		}
		signed, err := c.tx.IntentsOf(requests)
		if err != nil {
			return err
		}
		near := beside{byKey(asked, func(r pki.Request) string { return r.ID }), byKey(signed, func(i store.Intent) string { return i.Request })}
		for _, r := range rows {
			c.certificate(r, history[r.Serial], near)
		}
		return nil
	})
}

// beside is what belongs to a page of certificates: requests by their IDs, and what was
// signed by its request.
type beside struct {
	requests map[string]pki.Request
	intents  map[string]store.Intent
}

func (c *comparison) certificate(r store.CertificateRow, history []event, near beside) {
	row := columns{"issuer": r.Issuer, "profile": r.Profile, "request": r.RequestID, "der": hashHex(r.DER), "sha256": r.SHA256,
		"reason": r.Reason.String(), "spki_sha256": r.SPKISHA256, "holder_kind": string(r.Holder.Kind), "holder_code": r.Holder.Code,
		"terminal": r.Terminal, "predecessor": r.Predecessor, "successor": r.Successor}
	row.at("not_before", r.NotBefore)
	row.at("not_after", r.NotAfter)
	row.at("issued_at", r.IssuedAt)
	row.at("revoked_at", r.RevokedAt)
	row.at("effective_at", r.EffectiveAt)
	row.at("invalid_since", r.InvalidSince)
	told := toldOfCertificate(history)
	if told != nil {
		c.derived(r.Certificate, told, near.requests)
	}
	serial, err := pki.ParseSerial(r.Serial)
	if err != nil { // written by hand: no record has such a subject
		c.deviate("certificate", r.Serial, "")
		return
	}
	var want []byte
	if told["revoked_at"] != micros(time.Time{}) {
		want = issuance.EncodeEntry(serial, r.EffectiveAt, r.Reason, r.InvalidSince)
	}
	if told != nil && !bytes.Equal(r.Entry, want) {
		c.deviate("certificate", r.Serial, "crl_entry")
	}
	c.compare("certificate", r.Serial, row, told)
	if told == nil || r.RequestID == "" {
		return
	}
	intent, ok := near.intents[r.RequestID]
	if !ok || intent.Serial != r.Serial {
		c.deviate("intent", r.Serial, "")
		return
	}
	c.intent(intent, history)
}

// derived adds what follows from the certificate itself and from its request.
func (c *comparison) derived(r pki.Certificate, told columns, requests map[string]pki.Request) {
	cert, err := x509.ParseCertificate(r.DER)
	if err == nil && pki.SerialHex(cert.SerialNumber) == r.Serial {
		told["spki_sha256"] = hashHex(cert.RawSubjectPublicKeyInfo)
		told.at("not_before", cert.NotBefore)
		told.at("not_after", cert.NotAfter)
	} else {
		c.deviate("certificate", r.Serial, "der")
		delete(told, "der")
	}
	for _, column := range []string{"holder_kind", "holder_code", "terminal", "predecessor"} {
		told[column] = "" // of one of our own
	}
	request, ok := requests[told["request"]]
	if !ok {
		return // one of our own, or told by lost
	}
	told["holder_kind"], told["holder_code"] = string(request.Application.Holder.Kind), request.Application.Holder.Code
	told["terminal"], told["predecessor"] = request.Application.TerminalName, request.Predecessor
	if request.Serial != r.Serial {
		c.deviate("request", request.ID, "serial")
	}
}

func toldOfCertificate(history []event) columns {
	var told columns
	for _, e := range history {
		switch {
		case told == nil && e.Kind == "certificate.issued":
			told = columns{"issuer": e.facts.Issuer, "profile": e.facts.Profile, "request": e.facts.Request,
				"sha256": e.facts.SHA256, "der": e.facts.SHA256, "reason": pki.Unspecified.String()}
			if e.Erased {
				told = columns{"reason": pki.Unspecified.String()}
			}
			told["successor"] = ""
			told.at("issued_at", e.At)
			told.at("revoked_at", time.Time{})
			told.at("effective_at", time.Time{})
			told.at("invalid_since", time.Time{})
		case told != nil && e.Kind == "certificate.successor":
			told["successor"] = e.facts.Successor
			if e.Erased {
				delete(told, "successor")
			}
		case told != nil && e.Kind == "certificate.revoked":
			told["reason"] = e.facts.Reason
			told.at("revoked_at", e.At)
			told.at("effective_at", e.At)
			if !e.facts.Effective.IsZero() {
				told.at("effective_at", e.facts.Effective)
			}
			told.at("invalid_since", e.facts.InvalidSince)
			if e.Erased {
				for _, unknown := range []string{"reason", "effective_at", "invalid_since"} {
					delete(told, unknown)
				}
			}
		case told != nil && e.Kind == "certificate.lifted":
			told["reason"] = pki.Unspecified.String()
			told.at("revoked_at", time.Time{})
			told.at("effective_at", time.Time{})
			told.at("invalid_since", time.Time{})
		}
	}
	return told
}

func (c *comparison) grants() error {
	rows, err := c.tx.Grants()
	if err != nil {
		return err
	}
	for _, g := range rows {
		history, err := c.history([]string{g.ID})
		if err != nil {
			return err
		}
		row := columns{"client": g.ClientID, "kinds": joined(g.Kinds), "prefectures": joined(g.Prefectures), "per_day": fmt.Sprint(g.PerDay),
			"total": fmt.Sprint(g.Total), "used": fmt.Sprint(g.Used), "used_today": fmt.Sprint(g.UsedToday), "today": g.Today, "made_by": g.MadeBy, "approved_by": g.ApprovedBy}
		row.at("ends_at", g.EndsAt)
		row.at("revoked_at", g.RevokedAt)
		var told columns
		var content string
		for _, e := range history[g.ID] {
			switch {
			case told == nil && e.Kind == "grant.made":
				told = columns{}
				if !e.Erased {
					told = columns{"client": e.facts.Client, "kinds": joined(e.facts.Kinds), "prefectures": joined(e.facts.Prefectures),
						"per_day": fmt.Sprint(e.facts.PerDay), "total": fmt.Sprint(e.facts.Total)}
					told.at("ends_at", e.facts.Ends)
					content = e.facts.Content
					told["content"] = content
				}
				used := c.used[g.ID]
				told["made_by"], told["approved_by"] = e.Actor, ""
				told["used"], told["used_today"], told["today"] = fmt.Sprint(used.all), fmt.Sprint(used.onDay), used.day
				told.at("revoked_at", time.Time{})
			case told != nil && e.Kind == "grant.approved":
				told["approved_by"] = e.Actor
			case told != nil && e.Kind == "grant.revoked":
				told.at("revoked_at", e.At)
			}
		}
		row["content"] = g.HashAs(content)
		c.compare("issue_grant", g.ID, row, told)
	}
	return nil
}

func joined[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (c *comparison) operators() error {
	rows, err := c.tx.Operators()
	if err != nil {
		return err
	}
	for _, o := range rows {
		row := columns{"name": o.Name, "cert_sha256": o.CertSHA256, "role": joined(o.Roles),
			"os_user": o.Account.Name, "os_uid": fmt.Sprint(o.Account.UID)}
		row.at("created_at", o.CreatedAt)
		row.at("disabled_at", o.DisabledAt)
		err = c.person("operator", o.ID, row, func(e event) columns {
			return columns{"name": e.facts.Name, "cert_sha256": e.facts.Certificate, "role": joined(e.facts.Roles),
				"os_user": e.facts.OSUser, "os_uid": fmt.Sprint(e.facts.OSUID)} // records from before accounts tell of none
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) clients() error {
	rows, err := c.tx.APIClients()
	if err != nil {
		return err
	}
	for _, o := range rows {
		row := columns{"name": o.Name, "cert_sha256": o.CertSHA256, "role": string(o.Role)}
		row.at("created_at", o.Created)
		row.at("disabled_at", o.Disabled)
		err = c.person("api_client", o.ID, row, func(e event) columns {
			return columns{"name": e.facts.Name, "cert_sha256": e.facts.Certificate, "role": e.facts.Role}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// person compares somebody who may act. Operators and clients may have one ID, so the
// kinds of the records tell them apart.
func (c *comparison) person(table, id string, row columns, added func(event) columns) error {
	history, err := c.history([]string{id})
	if err != nil {
		return err
	}
	kind := map[string]string{"operator": "operator.", "api_client": "client."}[table]
	var told columns
	for _, e := range history[id] {
		switch {
		case told == nil && e.Kind == kind+"added":
			told = columns{}
			if !e.Erased {
				told = added(e)
			}
			told.at("created_at", e.At)
			told.at("disabled_at", time.Time{})
		case told != nil && e.Kind == kind+"renewed":
			told["cert_sha256"] = e.facts.Certificate
			if e.Erased {
				delete(told, "cert_sha256")
			}
		case told != nil && e.Kind == kind+"disabled":
			told.at("disabled_at", e.At)
		}
	}
	c.compare(table, id, row, told)
	return nil
}
