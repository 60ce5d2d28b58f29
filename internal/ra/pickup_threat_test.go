package ra_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// wrongStates are requests in every state that a guesser may hit, each with the pair
// of IDs that is typed; none is right.
func wrongStates(t testing.TB, o *catest.Office) map[string][2]string {
	t.Helper()
	wrong := pki.NewReferenceID().Reveal()
	issued := func(n int) pki.Request { return o.Issued(catest.Application(n)) }
	cancelled, revoked, fetched, void := issued(2), issued(3), issued(4), issued(5)
	_, err := o.RA.Cancel(t.Context(), catest.Intake, cancelled.ID, "twice")
	catest.Must(t, err)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, revoked.Serial, pki.KeyCompromise, "")
	catest.Must(t, err)
	ticket, err := o.RA.PreparePickup(t.Context(), catest.Pickup(fetched.ID, o.Reference(fetched.ID)))
	catest.Must(t, err)
	_, _, err = o.RA.PickupFile(t.Context(), ticket, catest.Cookie)
	catest.Must(t, err)
	voidRef := o.Reference(void.ID).Reveal()
	o.SQL(`UPDATE reference SET voided_at = 1 WHERE request = $1`, void.ID)
	return map[string][2]string{
		"unknown":                     {"202611230099999", wrong},
		"not issued":                  {o.Submit(catest.Application(1)).ID, wrong},
		"issued":                      {issued(6).ID, wrong},
		"cancelled":                   {cancelled.ID, wrong},
		"revoked":                     {revoked.ID, wrong},
		"fetched":                     {fetched.ID, wrong},
		"letter void, right IDs":      {void.ID, voidRef},
		"another request's reference": {issued(7).ID, voidRef},
	}
}

// TestThreatDL4EqualWork: whatever state a request is in, a wrong pair of IDs costs the
// same: the same statements to the database, the same questions to the signer.
func TestThreatDL4EqualWork(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine, Activate: true})
			var first string
			for name, ids := range wrongStates(t, o) {
				statements, calls := o.DB.Stats().Statements, len(o.Signer.Calls())
				_, err := o.RA.PreparePickup(t.Context(), catest.Pickup(ids[0], pki.Secret(ids[1])))
				catest.WantCode(t, err, "pickup.wrong_ids")
				work := fmt.Sprintf("%d statements, signer %v", o.DB.Stats().Statements-statements, o.Signer.Calls()[calls:])
				if first == "" {
					first = work
				}
				if work != first {
					t.Errorf("%s: %s; another state: %s", name, work, first)
				}
			}
		})
	}
}

// BenchmarkThreatDL4 measures what TestThreatDL4EqualWork counts: the largest distance
// of the distributions of times (Kolmogorov-Smirnov) between an unknown request and a
// wrong reference ID, without the floor of 150 ms, beside its limit for p = 0.01.
func BenchmarkThreatDL4(b *testing.B) {
	const each = 2_000
	o := catest.New(b, catest.Options{Activate: true})
	states := wrongStates(b, o)
	took := map[string][]time.Duration{}
	for b.Loop() {
		clear(took)
		for range each {
			for _, name := range []string{"unknown", "issued"} {
				in := catest.Pickup(states[name][0], pki.Secret(states[name][1]))
				began := time.Now()
				_, err := o.RA.PreparePickup(b.Context(), in)
				took[name] = append(took[name], time.Since(began))
				catest.WantCode(b, err, "pickup.wrong_ids")
			}
		}
	}
	b.ReportMetric(distance(took["unknown"], took["issued"]), "KS-distance")
	b.ReportMetric(1.628*0.03162, "KS-limit-p0.01") // c(0.01)·√((n+m)/(n·m)), n = m = 2,000
}

// TestThreatDL8: a prepared file opens with its ticket and with nothing that is in the
// database; it goes with the last fetch or with the time.
func TestThreatDL8(t *testing.T) {
	o := office{catest.New(t, catest.Options{Activate: true})}
	r := o.Issued(catest.Application(1))
	ref := o.Reference(r.ID)
	ticket, err := o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
	catest.Must(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(ticket.Reveal())
	catest.Must(t, err)
	id, key := hex.EncodeToString(raw[:16]), raw[16:]
	row := o.ticket(id)
	opens := func(key []byte) bool {
		aead, err := chacha20poly1305.New(key)
		catest.Must(t, err)
		_, err = aead.Open(nil, make([]byte, aead.NonceSize()), row.Blob, []byte(row.ID))
		return err == nil
	}
	if !opens(key) {
		t.Fatal("the ticket's own key does not open the file: the test is blind")
	}
	stored := o.files()
	if !bytes.Contains(stored, row.KeyHash) {
		t.Fatal("the row is not in the files: the test is blind")
	}
	for _, form := range [][]byte{key, []byte(hex.EncodeToString(key)), []byte(base64.StdEncoding.EncodeToString(key)), []byte(ticket.Reveal())} {
		if bytes.Contains(stored, form) {
			t.Error("the ticket's key is in the database")
		}
	}
	fileHash, err := hex.DecodeString(row.FileSHA256)
	catest.Must(t, err)
	for name, guess := range map[string][]byte{"key hash": row.KeyHash, "cookie hash": row.CookieHash, "hash of the file": fileHash} {
		if opens(guess) {
			t.Errorf("the %s opens the file", name)
		}
	}

	for range ra.TicketUses {
		_, _, err = o.RA.PickupFile(t.Context(), ticket, catest.Cookie)
		catest.Must(t, err)
	}
	if left := o.ticket(id); len(left.Blob) != 0 {
		t.Errorf("%d bytes are left after the last fetch", len(left.Blob))
	}
	_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
	catest.Must(t, err)
	o.Advance(ra.TicketLife + time.Second)
	_, err = o.CA.Sweep(t.Context())
	catest.Must(t, err)
	if n := o.Count("ticket"); n != 0 {
		t.Errorf("%d tickets outlive their time", n)
	}
}

// TestThreatDL10: blobs, rows, verifiers or certificates swapped in the database, its
// guards dropped: my letter opens at most my own key.
func TestThreatDL10(t *testing.T) {
	const mine, other = "(mine)", "(other)"
	swap := func(table, column string) []string {
		return []string{
			fmt.Sprintf(`UPDATE %s SET %s = 'aside' WHERE %s = '(mine)'`, table, column, column),
			fmt.Sprintf(`UPDATE %s SET %s = '(mine)' WHERE %s = '(other)'`, table, column, column),
			fmt.Sprintf(`UPDATE %s SET %s = '(other)' WHERE %s = 'aside'`, table, column, column),
		}
	}
	const keyOfMine = `(SELECT blob, spki, spki_sha256 FROM sealed_key WHERE request = '(mine)')`
	const keyOfOther = `(SELECT blob, spki, spki_sha256 FROM sealed_key WHERE request = '(other)')`
	const referenceOfMine = `UPDATE reference SET (kid, salt, gate, tag, sealed) =
		(SELECT kid, salt, gate, tag, sealed FROM reference WHERE request = '(mine)') WHERE request = '(other)'`
	for name, statements := range map[string][]string{
		"blob":                      {`UPDATE sealed_key SET blob = (SELECT blob FROM sealed_key WHERE request = '(mine)') WHERE request = '(other)'`},
		"blob and key":              {`UPDATE sealed_key SET (blob, spki, spki_sha256) = ` + keyOfMine + ` WHERE request = '(other)'`},
		"rows of keys":              swap("sealed_key", "request"),
		"reference":                 {referenceOfMine},
		"reference and key":         {referenceOfMine, `UPDATE sealed_key SET (blob, spki, spki_sha256) = ` + keyOfMine + ` WHERE request = '(other)'`},
		"another's key in my row":   {`UPDATE sealed_key SET (blob, spki, spki_sha256) = ` + keyOfOther + ` WHERE request = '(mine)'`},
		"another's certificate":     {`UPDATE request SET serial = (SELECT serial FROM request WHERE id = '(other)') WHERE id = '(mine)'`},
		"key and certificate":       append(swap("sealed_key", "request"), `UPDATE request SET serial = (SELECT serial FROM request WHERE id = '(other)') WHERE id = '(mine)'`),
		"certificate's own columns": {`UPDATE certificate SET spki_sha256 = (SELECT spki_sha256 FROM certificate WHERE request = '(mine)') WHERE request = '(other)'`},
	} {
		t.Run(name, func(t *testing.T) {
			o := office{catest.New(t, catest.Options{Activate: true})}
			a, b := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
			ref := o.Reference(a.ID)
			if serial := o.fetched(a.ID, ref); serial != a.Serial {
				t.Fatalf("before the deed the file holds %q: the test is blind", serial)
			}
			o.Disarm()
			for _, s := range statements {
				o.SQL(strings.NewReplacer(mine, a.ID, other, b.ID).Replace(s))
			}
			if serial := o.fetched(b.ID, ref); serial != "" {
				t.Errorf("my letter opened %q for the other request", serial)
			}
			if serial := o.fetched(a.ID, ref); serial != "" && serial != a.Serial {
				t.Errorf("my letter opened %q, not mine", serial)
			}
			if n := o.Count("ticket WHERE request = '" + b.ID + "'"); n != 0 {
				t.Error("a file was laid ready for the other request")
			}
		})
	}
}

// fetched gives the serial of the certificate in the file that a letter opens, "" where
// it opens none. The file's key is its certificate's, or there is no file.
func (o office) fetched(request string, ref pki.Secret) string {
	o.T.Helper()
	ticket, err := o.RA.PreparePickup(o.T.Context(), catest.Pickup(request, ref))
	if err != nil {
		return ""
	}
	_, file, err := o.RA.PickupFile(o.T.Context(), ticket, catest.Cookie)
	catest.Must(o.T, err)
	pair := catest.Open(o.Office, file, "1234")
	if !pair.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(pair.Leaf.PublicKey) {
		o.T.Error("the file holds a key that is not its certificate's")
	}
	return pki.SerialHex(pair.Leaf.SerialNumber)
}

func (o office) ticket(id string) store.Ticket {
	o.T.Helper()
	var row store.Ticket
	o.View(func(tx *store.Tx) error {
		var err error
		row, err = tx.Ticket(id)
		return err
	})
	return row
}

// files gives what is on the disk of an SQLite database.
func (o office) files() []byte {
	o.T.Helper()
	var all []byte
	path := strings.TrimPrefix(o.DSN, "sqlite://")
	for _, name := range []string{path, path + "-wal"} {
		raw, err := os.ReadFile(name)
		catest.Must(o.T, err)
		all = append(all, raw...)
	}
	return all
}

// distance is the largest one between two distributions of samples.
func distance(a, b []time.Duration) float64 {
	slices.Sort(a)
	slices.Sort(b)
	far := 0.0
	for _, at := range slices.Concat(a, b) {
		below := func(of []time.Duration) float64 {
			n, _ := slices.BinarySearch(of, at+1)
			return float64(n) / float64(len(of))
		}
		far = max(far, math.Abs(below(a)-below(b)))
	}
	return far
}
