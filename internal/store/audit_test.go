package store_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
	"inkan/internal/store/storetest"
)

var signingKey, verifierKey = func() (string, string) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "inkan/test")
	if err != nil {
		panic(err)
	}
	return skey, vkey
}()

func sign(t testing.TB, c pki.Checkpoint) []byte {
	t.Helper()
	s, err := note.NewSigner(signingKey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, s)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// checkpoint signs and saves the tree as it is.
func checkpoint(t testing.TB, db *store.DB) pki.Checkpoint {
	t.Helper()
	c := pki.Checkpoint{Origin: "inkan/test"}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		last, err := tx.NewestSigned(verifierKey)
		if err != nil {
			return err
		}
		c.Number = last.Number + 1
		c.Size, c.Root, err = tx.AuditTree()
		if err != nil {
			return err
		}
		return tx.SaveCheckpoint(sign(t, c))
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func appendRecords(t testing.TB, db *store.DB, n int) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		for i := range n {
			_, _, err := tx.Audit(actor, "thing.made", fmt.Sprint("s", i), map[string]any{"i": i, "name": "鍵"})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// remembered is what the signer of the saved checkpoints remembers.
func remembered(t testing.TB, db *store.DB) audit.Head {
	t.Helper()
	head := audit.Head{VerifierKey: verifierKey}
	err := db.View(t.Context(), func(tx *store.Tx) error {
		var err error
		head.Checkpoint, err = tx.NewestSigned(verifierKey)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func verify(t testing.TB, db *store.DB, head audit.Head) audit.Report {
	t.Helper()
	r, err := db.VerifyAudit(t.Context(), head, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verifyClean(t testing.TB, db *store.DB, checkpoints int) audit.Report {
	t.Helper()
	r := verify(t, db, remembered(t, db))
	if !r.OK() || r.Checkpoints != checkpoints {
		t.Errorf("verify: %+v, want clean with %d checkpoints", r, checkpoints)
	}
	return r
}

func TestAuditTreeIsTlogs(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		var hashes []tlog.Hash // a tree by tlog alone
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, i := range indexes {
				out = append(out, hashes[i])
			}
			return out, nil
		})
		var n int64
		for batch := range 12 { // the first adds nothing
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				for range batch {
					index, leaf, err := tx.Audit(actor, "k", "s", batch)
					if err != nil {
						return err
					}
					if index != n {
						t.Errorf("index %d, want %d", index, n)
					}
					stored, err := tlog.StoredHashes(n, leaf[:], reader)
					if err != nil {
						return err
					}
					hashes = append(hashes, stored...)
					n++
				}
				size, root, err := tx.AuditTree()
				if err != nil {
					return err
				}
				want, err := tlog.TreeHash(n, reader)
				if size != n || root != want {
					t.Errorf("batch %d: size %d root %v, want %d %v", batch, size, root, n, want)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				checkpoint(t, db)
			}
			err = db.View(t.Context(), func(tx *store.Tx) error {
				size, root, err := tx.AuditTree()
				if err != nil {
					return err
				}
				again, err := tx.TreeHash(size)
				if err == nil && (size != n || again != root) {
					t.Errorf("stored: size %d root %v, from nodes %v", size, root, again)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		verifyClean(t, db, 11) // sizes 1, 3, 6, …
	})
}

func TestProofs(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		appendRecords(t, db, 5)
		_, err := db.ProveAudit(t.Context(), 2)
		if pki.CodeOf(err) != "audit.no_checkpoint" {
			t.Errorf("without checkpoint: %v", err)
		}
		older := checkpoint(t, db)
		appendRecords(t, db, 8)
		checkpoint(t, db)
		appendRecords(t, db, 1)
		_, err = db.ProveAudit(t.Context(), 13)
		if pki.CodeOf(err) != "audit.no_checkpoint" {
			t.Errorf("behind the checkpoint: %v", err)
		}
		_, err = db.ProveAudit(t.Context(), 14)
		if !errors.Is(err, pki.ErrNotFound) {
			t.Errorf("no such record: %v", err)
		}
		err = db.Update(t.Context(), func(tx *store.Tx) error { return tx.EraseAudit(actor, 3, "retention") })
		if err != nil {
			t.Fatal(err)
		}
		for index := range int64(13) {
			p, err := db.ProveAudit(t.Context(), index)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			var q audit.Proof // what a third party has
			err = json.Unmarshal(raw, &q)
			if err != nil {
				t.Fatal(err)
			}
			r, err := q.Check(verifierKey)
			if err != nil || r.Index != index || r.Actor != actor.ID || r.Erased != (index == 3) || r.Erased != (r.Body == nil) {
				t.Errorf("proof of %d: %+v, %v", index, r, err)
			}
			for name, spoil := range map[string]func(*audit.Proof){
				"header":     func(p *audit.Proof) { p.Header = strings.Replace(p.Header, actor.ID, "op-2", 1) },
				"index":      func(p *audit.Proof) { p.Index++ },
				"body":       func(p *audit.Proof) { p.Body = append(slices.Clone(p.Body), ' ') },
				"digest":     func(p *audit.Proof) { p.Digest = make([]byte, 32) },
				"path":       func(p *audit.Proof) { p.Path = p.Path[1:] },
				"checkpoint": func(p *audit.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n13\n", "\n14\n", 1) },
				"format":     func(p *audit.Proof) { p.Format = "" },
			} {
				bad := q
				spoil(&bad)
				_, err = bad.Check(verifierKey)
				if pki.CodeOf(err) != "audit.proof" {
					t.Errorf("proof of %d with another %s: %v", index, name, err)
				}
			}
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			p, err := tx.ProveConsistency(older.Size)
			if err != nil {
				return err
			}
			size, root, err := tx.AuditTree()
			if err != nil {
				return err
			}
			return tlog.CheckTree(p, size, root, older.Size, older.Root)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestThreatAU3EraseKeepsTheProof(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		appendRecords(t, db, 7)
		erase := func(index int64) error {
			return db.Update(t.Context(), func(tx *store.Tx) error { return tx.EraseAudit(actor, index, "retention") })
		}
		checkpoint(t, db)
		err := erase(4)
		if err != nil {
			t.Fatal(err)
		}
		if err = erase(4); !errors.Is(err, pki.ErrConflict) {
			t.Errorf("twice: %v", err)
		}
		if err = erase(99); !errors.Is(err, pki.ErrNotFound) {
			t.Errorf("no such record: %v", err)
		}
		checkpoint(t, db)
		r := verifyClean(t, db, 2)
		if r.Erased != 1 || r.Size != 8 || r.Protected != 8 {
			t.Errorf("report %+v", r)
		}
		err = db.View(t.Context(), func(tx *store.Tx) error {
			a, err := tx.AuditRecord(4)
			if err == nil && (!a.Erased || a.Body != nil || a.Subject != "s4") {
				t.Errorf("record %+v", a)
			}
			about, err2 := tx.AuditAbout("4", 10)
			if len(about) != 1 || about[0].Kind != audit.KindErased || about[0].Actor != actor.ID || !strings.Contains(string(about[0].Body), "retention") {
				t.Errorf("record of the erasure: %+v", about)
			}
			return errors.Join(err, err2)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestSaveCheckpointRefusesOtherTrees(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		appendRecords(t, db, 3)
		good := checkpoint(t, db)
		appendRecords(t, db, 3)
		for name, c := range map[string]pki.Checkpoint{
			"larger":       {Origin: "o", Number: 2, Size: 7, Root: good.Root},
			"same size":    {Origin: "o", Number: 2, Size: 6, Root: good.Root},
			"smaller size": {Origin: "o", Number: 2, Size: 2, Root: good.Root},
		} {
			err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.SaveCheckpoint(sign(t, c)) })
			if pki.CodeOf(err) != "audit.checkpoint_differs" {
				t.Errorf("%s: %v", name, err)
			}
		}
		err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.SaveCheckpoint(sign(t, good)) })
		if err != nil {
			t.Errorf("again: %v", err)
		}
		for _, text := range []string{"", "a\n1\n", "a\n01\n" + strings.Repeat("A", 43) + "=\n", "a\n-1\nAAAA\n", "a\n1\nAAAA\n", strings.Repeat("a", 1<<17)} {
			_, err := pki.ParseCheckpoint(text)
			if pki.CodeOf(err) != "audit.checkpoint" {
				t.Errorf("%.20q: %v", text, err)
			}
		}
	})
}
