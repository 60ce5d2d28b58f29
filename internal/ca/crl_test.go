package ca_test

import (
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

func publish(t *testing.T, o *catest.Office) store.CRL {
	t.Helper()
	crl, err := o.CA.PublishCRL(t.Context(), issuance.G1)
	must(t, err)
	list, err := x509.ParseRevocationList(crl.DER)
	must(t, err)
	must(t, list.CheckSignatureFrom(o.CAs[issuance.G1]))
	if list.Number.Int64() != crl.Number || !list.ThisUpdate.Equal(crl.ThisUpdate.Truncate(time.Second)) {
		t.Fatalf("row says %d at %s, list %d at %s", crl.Number, crl.ThisUpdate, list.Number, list.ThisUpdate)
	}
	return crl
}

// ST8: numbers grow, whatever happens to the clock and to the rows.
func TestThreatST8NumbersGrow(t *testing.T) {
	o := catest.New(t, catest.Options{})
	revoke(t, o, o.Issued(catest.Application(1)).Serial, pki.KeyCompromise)
	last := publish(t, o)
	for _, row := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"a second later", func() { o.Advance(time.Second) }},
		{"an hour later", func() { o.Advance(time.Hour) }},
		{"the clock went back and is right again", func() { refusedWhileBack(t, o) }},
		{"the rows are gone", func() { o.SQL(`DELETE FROM crl`) }},
		{"the rows are gone and the clock went back", func() { o.SQL(`DELETE FROM crl`); refusedWhileBack(t, o) }},
		{"the answer of the signer was lost", func() {
			o.Signer.Once("SignCRL", catest.After, func() error { return errors.New("connection lost") })
			_, err := o.CA.PublishCRL(t.Context(), issuance.G1)
			if err == nil {
				t.Error("nothing was lost")
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.do()
			next := publish(t, o)
			if next.Number <= last.Number {
				t.Errorf("number %d after %d", next.Number, last.Number)
			}
			if next.ThisUpdate.Before(last.ThisUpdate) {
				t.Errorf("thisUpdate %s after %s", next.ThisUpdate, last.ThisUpdate)
			}
			last = next
		})
	}
	if n := o.Count("crl"); n > 2 {
		t.Errorf("%d CRLs are kept", n)
	}
}

// refusedWhileBack puts the clock back for a while.
func refusedWhileBack(t *testing.T, o *catest.Office) {
	o.Jump(-20 * time.Minute)
	_, err := o.CA.PublishCRL(t.Context(), issuance.G1)
	wantCode(t, err, "clock.behind")
	o.Jump(20 * time.Minute)
}

// ST8: yesterday's database with today's signer goes on above every number that was
// ever published, also on a machine whose clock is behind.
func TestThreatST8NumbersGrowAfterARestore(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	publish(t, o)
	backups := []string{copyOf(t, o), copyOf(t, o)}
	o.Advance(24 * time.Hour)
	revoke(t, o, r.Serial, pki.KeyCompromise)
	last := publish(t, o)
	for i, back := range []time.Duration{0, 12 * time.Hour} {
		o.Jump(-back)
		restored := o.Node(t, backups[i])
		next, err := restored.CA.PublishCRL(t.Context(), issuance.G1)
		must(t, err)
		if next.Number <= last.Number {
			t.Errorf("number %d after %d", next.Number, last.Number)
		}
		last = next
	}
}

// copyOf copies a SQLite database that nobody writes to, as a backup does.
func copyOf(t *testing.T, o *catest.Office) string {
	t.Helper()
	path := t.TempDir() + "/old.db"
	o.SQL(`VACUUM INTO $1`, path)
	must(t, os.Chmod(path, 0o600))
	return "sqlite://" + path
}

// ST8: two nodes publish at once: one sequence.
func TestThreatST8TwoNodesOneSequence(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			a := catest.New(t, catest.Options{Engine: engine})
			nodes := []*catest.Office{a, a.Node(t, a.DSN), a.Node(t, a.DSN), a.Node(t, a.DSN)}
			for range 5 {
				var wg sync.WaitGroup
				for _, node := range nodes {
					wg.Go(func() {
						crl, err := node.CA.PublishCRL(t.Context(), issuance.G1)
						if err != nil || len(crl.DER) == 0 {
							t.Errorf("%d octets, %v", len(crl.DER), err)
						}
					})
				}
				wg.Wait()
				a.Advance(time.Second)
			}
			numbers := publishedNumbers(a)
			if len(numbers) < 5 || !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
				t.Errorf("published in this order: %v", numbers)
			}
		})
	}
}

// One revocation, seen by every node at once and again while its CRL is on the way:
// one CRL. The next one is due when it is old, and not before.
func TestOneRevocationOneCRL(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			a := catest.New(t, catest.Options{Engine: engine})
			serials := []string{a.Issued(catest.Application(1)).Serial, a.Issued(catest.Application(2)).Serial}
			publish(t, a)
			nodes := []*catest.Office{a, a.Node(t, a.DSN), a.Node(t, a.DSN), a.Node(t, a.DSN)}
			for n, serial := range serials { // all in one second of the clock
				revoke(t, a, serial, pki.KeyCompromise)
				revoked := a.Certificate(serial).RevokedAt
				var wg sync.WaitGroup
				for _, node := range nodes {
					wg.Go(func() {
						for range 3 {
							crl, err := node.CA.RenewCRL(t.Context(), issuance.G1, revoked)
							if err != nil {
								t.Error(err)
								return
							}
							list, err := x509.ParseRevocationList(crl.DER)
							if err != nil || len(list.RevokedCertificateEntries) != n+1 {
								t.Errorf("a CRL without the revocation: %v", err)
							}
						}
					})
				}
				wg.Wait()
			}
			if numbers := publishedNumbers(a); len(numbers) != 1+len(serials) {
				t.Errorf("%d CRLs for %d revocations", len(numbers)-1, len(serials))
			}
			a.Advance(a.CA.CRLEvery + time.Second)
			_, err := a.CA.RenewCRL(t.Context(), issuance.G1, time.Time{})
			must(t, err)
			if numbers := publishedNumbers(a); len(numbers) != 2+len(serials) {
				t.Errorf("the CRL is old and none followed: %v", numbers)
			}
		})
	}
}

func publishedNumbers(o *catest.Office) []int64 {
	var numbers []int64
	o.View(func(tx *store.Tx) error {
		records, err := storetest.Records(tx, 0)
		for _, r := range records {
			if r.Kind == "crl.published" {
				numbers = append(numbers, number(string(r.Body)))
			}
		}
		return err
	})
	return numbers
}

func number(body string) int64 {
	_, after, _ := strings.Cut(body, `"number":`)
	var n int64
	for _, c := range after {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// RV9: an entry that vanishes though its certificate has not expired stops the
// publication; the old CRL stays.
func TestThreatRV9VanishedEntriesStopTheCRL(t *testing.T) {
	for _, row := range []struct{ name, statement string }{
		{"un-revoked", `UPDATE certificate SET revoked_at = 0 WHERE serial = $1`},
		{"dated forward", `UPDATE certificate SET effective_at = 4102444800000000 WHERE serial = $1`},
		{"expired early", `UPDATE certificate SET not_after = 1 WHERE serial = $1`},
		{"moved to another issuer", `UPDATE certificate SET issuer = 'ops' WHERE serial = $1`},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			r := o.Issued(catest.Application(1))
			revoke(t, o, r.Serial, pki.KeyCompromise)
			last := publish(t, o)
			o.Disarm() // the DBA can
			o.SQL(row.statement, r.Serial)
			o.Advance(time.Hour)
			_, err := o.CA.PublishCRL(t.Context(), issuance.G1)
			wantCode(t, err, "crl.entry_vanished")
			o.View(func(tx *store.Tx) error {
				now, err := tx.LastCRL(issuance.G1, store.CRL{})
				if now.Number != last.Number {
					t.Errorf("CRL %d was published", now.Number)
				}
				return err
			})
		})
	}
}

// An entry leaves the list when its certificate has expired, and not before.
func TestExpiredEntriesLeaveTheCRL(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	revoke(t, o, r.Serial, pki.KeyCompromise)
	end := o.Certificate(r.Serial).NotAfter
	for _, row := range []struct {
		at   time.Time
		want int
	}{{catest.Start.Add(time.Minute), 1}, {end, 1}, {end.Add(time.Second), 0}} {
		o.Set(row.at)
		list, err := x509.ParseRevocationList(publish(t, o).DER)
		must(t, err)
		if len(list.RevokedCertificateEntries) != row.want {
			t.Errorf("at %s: %d entries, want %d", row.at, len(list.RevokedCertificateEntries), row.want)
		}
	}
}

// A revocation that commits while a CRL is made is on it, or the next one is due.
func TestNoRevocationFallsBetweenTwoCRLs(t *testing.T) {
	o := catest.New(t, catest.Options{Engine: store.PostgreSQL})
	serials := manyCertificates(t, o, 40)
	b := o.Node(t, o.DSN)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i, serial := range serials {
			err := o.DB.Update(t.Context(), func(tx *store.Tx) error {
				c, err := tx.Certificate(serial)
				if err != nil {
					return err
				}
				time.Sleep(time.Duration(i%3) * time.Millisecond) // on its way to the disk
				return o.CA.RevokeIn(tx, catest.Officer, c, pki.KeyCompromise, "test")
			})
			if err != nil {
				t.Error(err)
			}
		}
		close(done)
	})
	wg.Go(func() { // a second passes every 200 µs
		for {
			select {
			case <-done:
				return
			case <-time.After(200 * time.Microsecond):
				o.Advance(time.Second)
			}
		}
	})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			crl, err := b.CA.PublishCRL(t.Context(), issuance.G1)
			must(t, err)
			missing(t, b, crl)
		}
	}
	wg.Wait()
}

// missing checks that each committed revocation is listed or makes a CRL due.
func missing(t *testing.T, o *catest.Office, crl store.CRL) {
	t.Helper()
	list, err := x509.ParseRevocationList(crl.DER)
	must(t, err)
	listed := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		listed[pki.SerialHex(e.SerialNumber)] = true
	}
	o.View(func(tx *store.Tx) error {
		return tx.EachRevoked([]string{issuance.G1}, func(row store.StatusRow) error {
			if listed[row.Serial] {
				return nil
			}
			if !o.CA.CRLDue(crl, row.Revoked, crl.ThisUpdate) {
				t.Errorf("revocation of %s is not on the CRL of %s and makes none due", row.Revoked, crl.ThisUpdate)
			}
			return nil
		})
	})
}

// manyCertificates stores certificates of holders without going all the lines.
func manyCertificates(t *testing.T, o *catest.Office, n int) []string {
	t.Helper()
	serials := make([]string, n)
	must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error {
		for i := range serials {
			serials[i] = pki.SerialHex(issuance.NewSerial())
			err := tx.AddCertificate(pki.Certificate{Serial: serials[i], Issuer: issuance.G1, Profile: "holder", DER: []byte(serials[i]),
				SHA256: serials[i], SPKISHA256: serials[i], NotBefore: tx.Now, NotAfter: tx.Now.AddDate(3, 0, 0), IssuedAt: tx.Now})
			if err != nil {
				return err
			}
			_, _, err = tx.Audit(pki.System("ca"), "certificate.issued", serials[i], nil)
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return serials
}
