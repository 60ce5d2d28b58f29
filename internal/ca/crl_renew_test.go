package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// listed gives the entries of a list by serial.
func listed(t *testing.T, o *catest.Office, der []byte) map[string]string {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	must(t, err)
	must(t, list.CheckSignatureFrom(o.CAs[issuance.G1]))
	out := map[string]string{}
	for _, e := range list.RevokedCertificateEntries {
		serial := pki.SerialHex(e.SerialNumber)
		if out[serial] != "" {
			t.Errorf("%s is listed twice", serial)
		}
		out[serial] = fmt.Sprint(e.RevocationTime, e.ReasonCode)
	}
	return out
}

// A list that adds to the last one says what a list of all rows would say, whatever was
// revoked, held, made final, lifted or dated in between, by a process that remembers its
// last list and by one that does not.
func TestRenewedListIsTheWhole(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			other := o.Node(t, o.DSN)
			other.CA.View = newView(t, other, o.Now)
			var serials []string
			for n := range 16 {
				serials = append(serials, o.Issued(catest.Application(n+1)).Serial)
			}
			dice := rand.New(rand.NewPCG(1, 2))
			added, whole := 0, 0
			var last store.CRL
			for step := range 80 {
				did := act(t, o, serials[dice.IntN(len(serials))], dice.IntN(8))
				o.Advance(time.Duration(dice.IntN(1500)) * time.Millisecond)
				node := []*catest.Office{o, other}[step%2]
				crl, err := node.CA.RenewCRL(t.Context(), issuance.G1, o.Now())
				must(t, err)
				if crl.Number == last.Number {
					t.Fatalf("step %d: no new list", step)
				}
				if crl.Compared.Equal(last.Compared) {
					added++
				} else {
					whole++
				}
				o.View(func(tx *store.Tx) error {
					var entries []byte
					count := 0
					err := tx.EachCRLEntries(issuance.G1, o.Now(), func(part []byte, n int) { entries, count = append(entries, part...), count+n })
					want, got := rows(t, entries), listed(t, o, crl.DER)
					if !maps.Equal(got, want) || count != len(want) {
						t.Errorf("step %d, %s: the list says %v, the rows %v", step, did, got, want)
					}
					return err
				})
				last = crl
			}
			if added < 20 || whole < 3 {
				t.Errorf("%d lists were added to, %d were made of all rows: the test is blind", added, whole)
			}
		})
	}
}

// act does one of the things that change a list; where it is refused nothing happens.
func act(t *testing.T, o *catest.Office, serial string, what int) string {
	t.Helper()
	switch what {
	case 0:
		_, _ = o.RA.Revoke(t.Context(), catest.Officer, serial, pki.KeyCompromise, "")
		return "revoked"
	case 1, 2, 3:
		_, _ = o.RA.Revoke(t.Context(), catest.Officer, serial, pki.CertificateHold, "")
		return "held"
	case 4:
		dates := pki.RevocationDates{Effective: o.Now().Add(3 * time.Second).Truncate(time.Second)}
		_, _ = o.RA.RevokeDated(t.Context(), catest.Officer, serial, pki.CessationOfOperation, dates, "")
		return "dated"
	}
	cases, err := o.RA.Revocations(t.Context(), catest.Officer, store.RevocationFilter{Serials: []string{serial}})
	must(t, err)
	for _, c := range cases {
		for _, who := range []string{"officer-2", "officer-3"} {
			_, _ = o.RA.LiftRevocation(t.Context(), catest.Actor(who, pki.RoleOfficer), c.Revocation.ID, o.CaseHash(c.Revocation.ID), "")
		}
	}
	return "lifted"
}

// rows reads the entries of the rows.
func rows(t *testing.T, entries []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for len(entries) > 0 {
		var e pkix.RevokedCertificate
		rest, err := asn1.Unmarshal(entries, &e)
		must(t, err)
		reason := asn1.Enumerated(0)
		for _, x := range e.Extensions {
			_, err = asn1.Unmarshal(x.Value, &reason)
			must(t, err)
		}
		out[pki.SerialHex(e.SerialNumber)] = fmt.Sprint(e.RevocationTime, reason)
		entries = rest
	}
	return out
}

// A list is added to only if its signature says that it is ours, and by its own time:
// what stands beside it may have been changed.
func TestForgedListIsNoBase(t *testing.T) {
	for _, row := range []struct {
		name  string
		forge func(t *testing.T, o *catest.Office, old, last store.CRL) store.CRL
	}{
		{"an older list in its place", func(_ *testing.T, _ *catest.Office, old, _ store.CRL) store.CRL { return old }},
		{"an older list under the newest number", func(_ *testing.T, _ *catest.Office, old, last store.CRL) store.CRL {
			last.DER = old.DER
			return last
		}},
		{"an older list that says it is of now", func(_ *testing.T, o *catest.Office, old, _ store.CRL) store.CRL {
			old.ThisUpdate, old.Compared = o.Now(), o.Now()
			return old
		}},
		{"a list without its entries", emptied},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			serials := manyCertificates(t, o, 3)
			var lists []store.CRL
			for _, serial := range serials[:2] {
				must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serial) }))
				lists = append(lists, publish(t, o))
				o.Advance(2 * time.Second)
			}
			forged := row.forge(t, o, lists[0], lists[1])
			forged.Cut()
			o.Disarm()
			o.SQL(`DELETE FROM crl`)
			must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return tx.PublishCRL(forged, 0) }))
			o.Advance(2 * time.Second)
			must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serials[2]) }))
			crl, err := o.CA.RenewCRL(t.Context(), issuance.G1, o.Now())
			must(t, err)
			if n := len(listed(t, o, crl.DER)); n != 3 {
				t.Errorf("%d entries", n)
			}
		})
	}
}

// emptied takes the entries out of a list and leaves its signature.
func emptied(t *testing.T, o *catest.Office, _, last store.CRL) store.CRL {
	t.Helper()
	var parts struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	_, err := asn1.Unmarshal(last.DER, &parts)
	must(t, err)
	tbs, err := o.CA.Issuers[issuance.G1].CRLTBS(last.Number, last.ThisUpdate.Truncate(time.Second), last.NextUpdate, nil)
	must(t, err)
	parts.TBS = asn1.RawValue{FullBytes: tbs}
	last.DER, err = asn1.Marshal(parts)
	must(t, err)
	return last
}

// What vanished behind our back stays in lists that are added to, and stops the one that
// is made of all rows, within an hour (threat RV9); a revocation is published meanwhile.
func TestThreatRV9WithinTheHour(t *testing.T) {
	o := catest.New(t, catest.Options{})
	serials := []string{o.Issued(catest.Application(1)).Serial, o.Issued(catest.Application(2)).Serial}
	must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serials[0]) }))
	publish(t, o)
	o.Disarm()
	o.SQL(`UPDATE certificate SET revoked_at = 0 WHERE serial = $1`, serials[0])
	o.Advance(30 * time.Minute)
	must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serials[1]) }))
	crl, err := o.CA.RenewCRL(t.Context(), issuance.G1, o.Now())
	must(t, err)
	if n := len(listed(t, o, crl.DER)); n != 2 {
		t.Errorf("%d entries", n)
	}
	o.Advance(31 * time.Minute)
	_, err = o.CA.RenewCRL(t.Context(), issuance.G1, o.Now())
	wantCode(t, err, "crl.entry_vanished")
}

// More revocations than are added one by one are all in the next list, too.
func TestManyRevocationsAtOnce(t *testing.T) {
	o := catest.New(t, catest.Options{})
	serials := manyCertificates(t, o, 1002)
	first := publish(t, o)
	for _, part := range [][]string{serials[:1000], serials[1000:]} {
		o.Advance(2 * time.Second)
		must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error {
			for _, serial := range part {
				err := revokeIn(o, tx, serial)
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	crl, err := o.CA.RenewCRL(t.Context(), issuance.G1, o.Now())
	must(t, err)
	if n := len(listed(t, o, crl.DER)); n != 1002 || crl.Compared.Equal(first.Compared) {
		t.Errorf("%d entries, added to the last: %t", n, crl.Compared.Equal(first.Compared))
	}
}
