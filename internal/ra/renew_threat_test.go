package ra_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
)

// TestThreatRS8EqualWork: with another holder's certificate nothing is learnt about a
// request: the same answer, by the same statements, whether it is a neighbour's renewal,
// an application, or nobody's.
func TestThreatRS8EqualWork(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		neighbour, fetched := others[0], others[1] // the first of the same institution, with the same subject name
		open := o.Submit(catest.Application(3))
		o.DaysBefore(h, 60)
		theirs, taken := o.Renewed(neighbour), o.Renewed(fetched)
		o.Fetch(fetched, taken.ID)
		ask := map[string]func(id string) error{
			"page": func(id string) error { _, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, id); return err },
			"key": func(id string) error {
				_, err := o.RA.PrepareRenewal(t.Context(), h.Pair.Leaf, catest.Pickup(id, ""))
				return err
			},
			"wrong PIN": func(id string) error {
				in := catest.Pickup(id, "")
				in.PIN = "1"
				_, err := o.RA.PrepareRenewal(t.Context(), h.Pair.Leaf, in)
				return err
			},
		}
		catest.Must(t, o.RA.Standing(t.Context(), h.Pair.Leaf)) // seen in use from now on
		for name, do := range ask {
			first := ""
			for _, id := range []string{"202611230099999", "", theirs.ID, taken.ID, open.ID, h.ID, neighbour.ID} {
				statements, calls := o.DB.Stats().Statements, len(o.Signer.Calls())
				err := do(id)
				work := fmt.Sprintf("%v, %d statements, signer %v", err, o.DB.Stats().Statements-statements, o.Signer.Calls()[calls:])
				if first == "" {
					first = work
				}
				if work != first || pki.CodeOf(err) != "renewal.unknown" {
					t.Errorf("%s of %q: %s; of an unknown one: %s", name, id, work, first)
				}
			}
		}
		seen, err := o.RA.Others(t.Context(), pki.Authority{Certificate: o.Certificate(h.Serial), Chain: []string{h.Serial}})
		catest.Must(t, err)
		if len(seen) == 0 {
			t.Error("the neighbour's certificate is not told: the test is blind")
		}
		for _, c := range seen {
			if c.Serial != "" || c.RequestID != "" || len(c.DER) != 0 {
				t.Errorf("a neighbour's certificate is told with more than its terminal and dates: %+v", c)
			}
		}
	})
}

// TestThreatRS14File: a certificate that is revoked while its holder acts acts no more: it is
// judged in the transaction of the act.
func TestThreatRS14File(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		o.DaysBefore(h, 60)
		r := o.Renewed(h)
		o.Signer.Once("OpenHeld", catest.After, func() error {
			_, err := o.RA.Revoke(t.Context(), catest.Officer, h.Serial, pki.KeyCompromise, "stolen")
			return err
		})
		_, err := o.RA.PrepareRenewal(t.Context(), h.Pair.Leaf, catest.Pickup(r.ID, ""))
		catest.WantCode(t, err, "renewal.revoked")
		if n := o.Count("ticket WHERE request = $1", r.ID); n != 0 {
			t.Errorf("%d files were laid ready", n)
		}
		_, err = o.RA.Renew(t.Context(), catest.Wish(h))
		catest.WantCode(t, err, "renewal.revoked")
		catest.WantCode(t, o.RA.Standing(t.Context(), h.Pair.Leaf), "renewal.revoked")

		suspended := others[0]
		second := o.Renewed(suspended)
		o.Signer.Once("OpenHeld", catest.After, func() error {
			_, err := o.RA.Revoke(t.Context(), catest.Officer, suspended.Serial, pki.CertificateHold, "")
			return err
		})
		_, err = o.RA.PrepareRenewal(t.Context(), suspended.Pair.Leaf, catest.Pickup(second.ID, ""))
		catest.WantCode(t, err, "renewal.suspended")
	})
}

// TestThreatRS8Office: nobody of the office learns the reference ID of a renewal: it has
// no letter to be written.
func TestThreatRS8Office(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	h := o.Holding(catest.Application(1))
	o.DaysBefore(h, 60)
	r := o.Renewed(h)
	d, err := o.RA.Show(t.Context(), catest.Letters, r.ID)
	catest.Must(t, err)
	if d.ReferenceID != "" {
		t.Error("the office reads the reference ID")
	}
	_, err = o.RA.Dispatch(t.Context(), catest.Letters, r.ID)
	catest.WantCode(t, err, "request.state")
	page, err := o.RA.Renewal(t.Context(), h.Pair.Leaf, r.ID)
	catest.Must(t, err)
	if page.ReferenceID == "" {
		t.Error("the holder's page lost its IDs")
	}
}

// TestThreatAP5Renewal: a renewal needs no approval, so the database itself takes none
// that is not of a certificate of the same holder and terminal, and no second one.
func TestThreatAP5Renewal(t *testing.T) {
	renewing(t, func(t *testing.T, o *catest.Office, h catest.Held, others []catest.Held) {
		other := others[1]
		o.Client("vendor")
		o.DaysBefore(h, 60)
		const forge = `INSERT INTO request (id, kind, source, state, holder_kind, holder_code, terminal_name, email, maintenance_email,
			department, phone, payment_method, content_hash, entered_by, checked_by, approved_by, grant_id, client_id, idempotency,
			profile, key_type, predecessor, language, received_at, changed_at, approved_at, not_before)
			SELECT '209901010000001', '%s', 'site', 'approved', holder_kind, holder_code, %s, email, '', '', '', 1, content_hash, '', '', '', '', '', '',
			profile, key_type, %s, 'ja', received_at, changed_at, approved_at, 0 FROM request WHERE id = '` + "%s'"
		for name, f := range map[string][4]any{
			"another holder's certificate": {"renewal", "terminal_name", "'" + other.Serial + "'", h.ID},
			"another terminal":             {"renewal", "'another'", "'" + h.Serial + "'", h.ID},
			"no certificate":               {"renewal", "terminal_name", "''", h.ID},
			"an unknown certificate":       {"renewal", "terminal_name", "'00'", h.ID},
			"one of our own certificates":  {"renewal", "terminal_name", "(SELECT MIN(serial) FROM certificate WHERE request = '')", h.ID},
			"not a renewal":                {"new", "terminal_name", "'" + h.Serial + "'", h.ID},
		} {
			t.Run(name, func(t *testing.T) { o.Refused(fmt.Sprintf(forge, f[:]...)) })
		}
		o.Renewed(h)
		o.Refused(fmt.Sprintf(forge, "renewal", "terminal_name", "'"+h.Serial+"'", h.ID))
		if o.Count("request WHERE id = '209901010000001'") != 0 {
			t.Error("a forged renewal is stored")
		}
		o.Refused(`UPDATE request SET predecessor = $1 WHERE id = $2`, h.Serial, other.ID)
		// The forged row itself is right where what it tells of is: the statement is not
		// refused for its form.
		third := others[2]
		o.Disarm()
		o.SQL(fmt.Sprintf(forge, "renewal", "terminal_name", "'"+third.Serial+"'", third.ID))
		o.SQL(`DELETE FROM request WHERE id = '209901010000001'`)
	})
}

// TestThreatDL8Renewal: the file of a renewal opens with its ticket and with nothing that
// is in the database, and goes with the last fetch.
func TestThreatDL8Renewal(t *testing.T) {
	o := office{catest.New(t, catest.Options{Activate: true})}
	h := o.Holding(catest.Application(1))
	o.DaysBefore(h, 60)
	r := o.Renewed(h)
	ticket, err := o.RA.PrepareRenewal(t.Context(), h.Pair.Leaf, catest.Pickup(r.ID, ""))
	catest.Must(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(ticket.Reveal())
	catest.Must(t, err)
	id, key := hex.EncodeToString(raw[:16]), raw[16:]
	row, stored := o.ticket(id), o.files()
	if len(row.Blob) == 0 || !bytes.Contains(stored, row.KeyHash) {
		t.Fatal("the file is not in the database: the test is blind")
	}
	for _, form := range [][]byte{key, []byte(hex.EncodeToString(key)), []byte(base64.StdEncoding.EncodeToString(key)), []byte(ticket.Reveal())} {
		if bytes.Contains(stored, form) {
			t.Error("the ticket's key is in the database")
		}
	}
	for range ra.TicketUses {
		_, _, err = o.RA.PickupFile(t.Context(), ticket, catest.Cookie)
		catest.Must(t, err)
	}
	if left := o.ticket(id); len(left.Blob) != 0 {
		t.Errorf("%d bytes are left after the last fetch", len(left.Blob))
	}
}
