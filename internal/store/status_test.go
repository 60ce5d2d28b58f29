package store_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// What the engine joins in parts is everything, once, and whole: octets of every value,
// several in one transaction, at the edges of parts.
func TestJoinedParts(t *testing.T) {
	defer store.SetParts(3, 4)()
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		var revoked []store.StatusRow
		check := func(issuer string, serials []string, entries [][]byte) {
			t.Helper()
			err := db.View(t.Context(), func(tx *store.Tx) error {
				var got []string
				err := tx.EachSerials([]string{"none", issuer}, func(n int, text string) error {
					if n != 1 {
						t.Errorf("%s are of issuer %d", text, n)
					}
					got = append(got, strings.Split(text, ",")...)
					return nil
				})
				if err != nil {
					return err
				}
				slices.Sort(got)
				if !slices.Equal(got, serials) {
					t.Errorf("serials of %s: %v, want %v", issuer, got, serials)
				}
				var rows, want []store.StatusRow
				err = tx.EachRevoked([]string{"none", issuer}, func(row store.StatusRow) error {
					rows = append(rows, row)
					return nil
				})
				if err != nil {
					return err
				}
				for _, row := range revoked {
					if row.Issuer == issuer {
						want = append(want, row)
					}
				}
				slices.SortFunc(rows, func(a, b store.StatusRow) int { return strings.Compare(a.Serial, b.Serial) })
				if !slices.Equal(rows, want) {
					t.Errorf("revoked of %s: %v, want %v", issuer, rows, want)
				}
				var joined []byte
				n := 0
				err = tx.EachCRLEntries(issuer, time.Unix(1000, 0), func(part []byte, of int) { joined, n = append(joined, part...), n+of })
				if !bytes.Equal(joined, bytes.Join(entries, nil)) || n != len(entries) {
					t.Errorf("%d entries of %s: %x, want %x", n, issuer, joined, entries)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		check("g1", nil, nil)
		var serials []string
		var entries [][]byte
		next := 0
		for size := range 6 { // so many in one transaction
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				for range size {
					serial := fmt.Sprintf("%04x", next)
					serials = append(serials, serial)
					entry := []byte{0x30, byte(next), 0, byte(255 - next), 0x80, '\''}
					next++
					c := pki.Certificate{Serial: serial, Issuer: "g1", Profile: "holder", RequestID: serial, DER: entry, SHA256: serial,
						NotAfter: time.Unix(2000, 0), IssuedAt: tx.Now}
					_, _, err := tx.Audit(pki.System("test"), "certificate.issued", serial, nil)
					if err == nil {
						err = tx.AddCertificate(c)
					}
					if err == nil && next%4 != 0 {
						row := store.StatusRow{Serial: serial, Issuer: "g1", Revoked: tx.Now, Effective: tx.Now, Reason: pki.Reason(next % 7)}
						if next%5 == 0 && (row.Reason == pki.SupersededReason || row.Reason == pki.CessationOfOperation) {
							row.Effective = tx.Now.Add(time.Hour) // it is on no list yet
						} else {
							entries = append(entries, entry)
						}
						revoked = append(revoked, row)
						err = tx.RevokeCertificate(pki.Certificate{Serial: serial, Reason: row.Reason, EffectiveAt: row.Effective}, entry)
					}
					if err != nil {
						return err
					}
				}
				old := fmt.Sprintf("ff%02x", size) // expired, and another CA's
				err := tx.AddCertificate(pki.Certificate{Serial: old, Issuer: "ops", RequestID: old, DER: []byte("x"), SHA256: old, NotAfter: time.Unix(1, 0), IssuedAt: tx.Now})
				if err != nil {
					return err
				}
				revoked = append(revoked, store.StatusRow{Serial: old, Issuer: "ops", Revoked: tx.Now, Effective: tx.Now, Reason: pki.KeyCompromise})
				return tx.RevokeCertificate(pki.Certificate{Serial: old, Reason: pki.KeyCompromise, EffectiveAt: tx.Now}, []byte("x"))
			})
			if err != nil {
				t.Fatal(err)
			}
			check("g1", serials, entries)
		}
		check("ops", []string{"ff00", "ff01", "ff02", "ff03", "ff04", "ff05"}, nil)
	})
}
