package relay_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/relay"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

var administrator = pki.Actor{ID: "admin-1", Auth: pki.AuthKey, Roles: []pki.Role{pki.RoleAdmin}}

// row is the register's row of a client.
func (z *zone) row(id string) store.APIClient {
	z.t.Helper()
	c, err := z.people.APIClient(z.t.Context(), id)
	must(z.t, err)
	return c
}

// revoke revokes the certificate of a client, as an officer does.
func (z *zone) revoke(id string, reason pki.Reason) {
	z.t.Helper()
	hash := z.row(id).CertSHA256
	must(z.t, z.db.Update(z.t.Context(), func(tx *store.Tx) error {
		c, err := tx.OwnCertificateByHash(hash)
		if err != nil {
			return err
		}
		return z.ca.RevokeIn(tx, pki.Actor{ID: "officer"}, c, reason, "stolen")
	}))
}

// kept sends a request on a connection that lives already.
func (z *zone) kept(c *http.Client, method, path, contentType, body string) answer {
	z.t.Helper()
	reused := false
	ctx := httptrace.WithClientTrace(z.t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	r, err := http.NewRequestWithContext(ctx, method, z.server.URL+path, strings.NewReader(body))
	must(z.t, err)
	r.Header.Set("Content-Type", contentType)
	resp, err := c.Do(r)
	must(z.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(z.t, err)
	if !reused {
		z.t.Errorf("%s %s went over a new connection", method, path)
	}
	a := answer{http: resp, raw: string(raw)}
	must(z.t, json.Unmarshal(raw, &a.fields))
	return a
}

// TestThreatRS1Clients: a client whose certificate is revoked, on hold or another one now,
// or who is disabled, gets no answer but that: not for an order that it made before, not
// for a body that nobody could read, not on a connection that lives. So it is where the
// process keeps status in memory, and where it does not.
func TestThreatRS1Clients(t *testing.T) {
	ends := map[string]func(z *zone){
		"revoked": func(z *zone) { z.revoke("vendor", pki.KeyCompromise) },
		"on hold": func(z *zone) { z.revoke("vendor", pki.CertificateHold) },
		"disabled": func(z *zone) {
			must(z.t, z.people.DisableAPIClient(z.t.Context(), administrator, "vendor"))
		},
		"renewed": func(z *zone) {
			_, hash := z.certified("vendor again", true)
			must(z.t, z.people.RenewAPIClient(z.t.Context(), administrator, z.row("vendor"), hash))
		},
	}
	for name, end := range ends {
		for memory, place := range map[bool]string{true: "memory", false: "database"} {
			t.Run(name+" "+place, func(t *testing.T) {
				storetest.Run(t, func(t *testing.T, db *store.DB) { refusedForGood(newZone(t, db), end, memory) })
			})
		}
	}
}

func refusedForGood(z *zone, end func(z *zone), memory bool) {
	t := z.t
	var view *ca.View
	if memory {
		view = ca.NewView(z.db, []string{issuance.G1, issuance.Operations}, time.Now, testkit.Quiet)
		must(t, view.Load(t.Context()))
		z.people.Status = view
	}
	csr, _ := newCSR(t)
	order := encode(t, fields(csr, "k1"))
	if a := z.post(z.client, order); a.http.StatusCode != http.StatusCreated {
		t.Fatalf("before: %d %s", a.http.StatusCode, a.raw)
	}
	const path, kind = "/api/v1/certificates", "application/json"
	z.refused("still in force", z.kept(z.client, "POST", path, kind, "{"), 400, "json.form")

	end(z)
	other, _ := newCSR(t)
	// Before the memory has followed, the transaction of the order refuses.
	z.refused("repeated", z.kept(z.client, "POST", path, kind, order), 403, "client.unknown")
	z.refused("new", z.kept(z.client, "POST", path, kind, encode(t, fields(other, "k2"))), 403, "client.unknown")
	if memory {
		must(t, view.Catch(t.Context()))
	}
	for what, call := range map[string][4]string{
		"repeated":      {"POST", path, kind, order},
		"another body":  {"POST", path, kind, encode(t, fields(other, "k1"))},
		"malformed":     {"POST", path, kind, "{"},
		"empty":         {"POST", path, kind, ""},
		"a form":        {"POST", path, "application/x-www-form-urlencoded", "a=b"},
		"another verb":  {"PUT", path, kind, order},
		"unknown path":  {"POST", "/api/v1/nothing", kind, order},
		"no CSR at all": {"POST", path, kind, encode(t, fields("", "k3"))},
	} {
		z.refused(what, z.kept(z.client, call[0], call[1], call[2], call[3]), 403, "client.unknown")
	}
	z.refused("too large", z.post(z.client, encode(t, fields(strings.Repeat("A", relay.MaxBody), "k4"))), 403, "client.unknown")
	if n := z.requests(); n != 1 {
		t.Errorf("%d requests, want the one from before", n)
	}
}

// TestRenewedClient: the new certificate of a client orders under its grants and gets the
// answers of before; the old one does not.
func TestRenewedClient(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		z := newZone(t, db)
		csr, _ := newCSR(t)
		order := encode(t, fields(csr, "k1"))
		first := z.post(z.client, order)
		pair, hash := z.certified("vendor again", true)
		must(t, z.people.RenewAPIClient(t.Context(), administrator, z.row("vendor"), hash))
		next := z.browser(&pair)
		if again := z.post(next, order); again.raw != first.raw || again.http.StatusCode != http.StatusCreated {
			t.Errorf("repeated with the new certificate: %d %s", again.http.StatusCode, again.raw)
		}
		other, _ := newCSR(t)
		if a := z.post(next, encode(t, fields(other, "k2"))); a.http.StatusCode != http.StatusCreated {
			t.Errorf("new order with the new certificate: %d %s", a.http.StatusCode, a.raw)
		}
		z.refused("old certificate", z.post(z.client, order), 403, "client.unknown")
	})
}

// TestStaleMemory: what this process knew a while ago does not answer for a client.
func TestStaleMemory(t *testing.T) {
	z := newZone(t, storetest.SQLite(t))
	at := time.Now()
	z.people.Now = func() time.Time { return at }
	view := ca.NewView(z.db, []string{issuance.G1, issuance.Operations}, time.Now, testkit.Quiet)
	must(t, view.Load(t.Context()))
	z.people.Status = view
	csr, _ := newCSR(t)
	if a := z.post(z.client, encode(t, fields(csr, "k1"))); a.http.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", a.http.StatusCode, a.raw)
	}
	z.revoke("vendor", pki.KeyCompromise)
	at = at.Add(time.Minute) // the feed has not been read for a minute
	z.refused("stale", z.post(z.client, "{"), 403, "client.unknown")
}
