package store_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// randomList is as long as a list of 24,000 entries, and the same each time.
func randomList() []byte {
	out := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(out)
	return out
}

func listNumber(n int64, der []byte) store.CRL {
	at := time.UnixMicro(1e15 + n)
	return store.CRL{Issuer: "g1", Number: n, ThisUpdate: at, NextUpdate: at.Add(time.Hour), Compared: at.Add(-time.Minute), DER: der}
}

func lastList(t *testing.T, db *store.DB, have store.CRL) (store.CRL, error) {
	t.Helper()
	var c store.CRL
	err := db.View(t.Context(), func(tx *store.Tx) error {
		var err error
		c, err = tx.LastCRL("g1", have)
		return err
	})
	return c, err
}

// A list is what was published, whatever the reader has of it; the next one writes only
// what is new in it, and leaves nothing of the last.
func TestCRLInPieces(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		_, err := lastList(t, db, store.CRL{})
		if pki.CodeOf(err) != pki.ErrNotFound.Code {
			t.Errorf("before the first: %v", err)
		}
		long := randomList()
		inFront := slices.Concat(long[:100], []byte("a new entry"), long[100:])
		changed := bytes.Clone(inFront)
		changed[len(changed)/2] ^= 1
		var have store.CRL
		stored := map[string]bool{} // hashes
		for n, step := range []struct {
			name string
			der  []byte
			news int // pieces; at most
		}{
			{"short", []byte("no entry"), 1},
			{"grows", long, 100},
			{"an entry in front", inFront, 1},
			{"a bit in the middle", changed, 1},
			{"the same octets", changed, 0},
			{"twice the same octets", slices.Concat(changed, changed), 2},
			{"nothing that has an end of a piece", bytes.Repeat([]byte{7}, 3<<20+5), 2},
			{"shrinks", long[:50_000], 10},
		} {
			crl := listNumber(int64(n+1), step.der)
			err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.PublishCRL(crl, int64(n)) })
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			for _, from := range []store.CRL{{}, have} {
				have, err = lastList(t, db, from)
				if err != nil || !bytes.Equal(have.DER, step.der) || have.Number != crl.Number || !have.ThisUpdate.Equal(crl.ThisUpdate) ||
					!have.NextUpdate.Equal(crl.NextUpdate) || !have.Compared.Equal(crl.Compared) {
					t.Fatalf("%s: list %d of %d octets, %v", step.name, have.Number, len(have.DER), err)
				}
			}
			again, err := lastList(t, db, have)
			if err != nil || &again.DER[0] != &have.DER[0] {
				t.Errorf("%s: what the reader has is read again: %v", step.name, err)
			}
			now, octets := pieces(t, db)
			fresh := 0
			for hash := range now {
				if !stored[hash] {
					fresh++
				}
			}
			if fresh > step.news || octets > len(step.der) {
				t.Errorf("%s: %d new pieces, %d octets stored of %d", step.name, fresh, octets, len(step.der))
			}
			stored = now
		}
	})
}

func pieces(t *testing.T, db *store.DB) (map[string]bool, int) {
	t.Helper()
	rows, err := db.Raw().QueryContext(t.Context(), `SELECT hash, LENGTH(der) FROM crl_piece`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out, octets := map[string]bool{}, 0
	for rows.Next() {
		var hash []byte
		var n int
		err = rows.Scan(&hash, &n)
		if err != nil {
			t.Fatal(err)
		}
		out[string(hash)] = true
		octets += n
	}
	return out, octets
}

// A list that lacks a piece is an error, and no list; a reader who has the piece has the
// list.
func TestCRLPieceGone(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		crl := listNumber(1, randomList())
		err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.PublishCRL(crl, 0) })
		if err != nil {
			t.Fatal(err)
		}
		whole, err := lastList(t, db, store.CRL{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Raw().ExecContext(t.Context(), `DELETE FROM crl_piece WHERE LENGTH(der) = (SELECT MAX(LENGTH(der)) FROM crl_piece)`)
		if err != nil {
			t.Fatal(err)
		}
		_, err = lastList(t, db, store.CRL{})
		if err == nil || pki.CodeOf(err) == pki.ErrNotFound.Code {
			t.Errorf("a list with a hole: %v", err)
		}
		next := crl
		next.Number = 2
		next.Cut()
		have, err := lastList(t, db, next) // same octets, another number
		if err != nil || !bytes.Equal(have.DER, whole.DER) {
			t.Errorf("%v", err)
		}
	})
}
