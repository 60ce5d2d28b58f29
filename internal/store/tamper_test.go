package store_test

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
	"inkan/internal/store/storetest"
)

// disarm drops the guards, as somebody who owns the database could.
func disarm(t *testing.T, db *store.DB) {
	t.Helper()
	list := `SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'`
	drop := `DROP TRIGGER %s`
	if db.Engine() == store.PostgreSQL {
		list = `SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal`
		drop = `DROP TRIGGER %s ON %s`
	}
	rows, err := db.Raw().Query(list)
	if err != nil {
		t.Fatal(err)
	}
	var drops []string
	for rows.Next() {
		var name, table string
		err = rows.Scan(&name, &table)
		if err != nil {
			t.Fatal(err)
		}
		drops = append(drops, fmt.Sprintf(drop, []any{name, table}[:strings.Count(drop, "%s")]...))
	}
	rows.Close()
	if len(drops) == 0 {
		t.Fatal("no guards found")
	}
	for _, d := range drops {
		run(t, db.Raw(), d)
	}
}

func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := db.Exec(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func found(index, count int64, what string) audit.Finding {
	return audit.Finding{Index: index, Count: count, What: what}
}

// 20 records with checkpoints at 8 and 16; each row tampers with a fresh copy.
func TestVerifyFindsTampering(t *testing.T) {
	const flip = ` x'00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'`
	cases := []struct {
		name string
		sql  []string
		want []audit.Finding
	}{
		{"actor changed", []string{`UPDATE audit SET actor = 'op-2' WHERE idx = 5`}, []audit.Finding{found(5, 1, audit.RecordChanged)}},
		{"time changed", []string{`UPDATE audit SET at = at + 1 WHERE idx = 0`}, []audit.Finding{found(0, 1, audit.RecordChanged)}},
		{"body changed", []string{`UPDATE audit SET body = salt WHERE idx = 19`}, []audit.Finding{found(19, 1, audit.RecordChanged)}},
		{"salt taken", []string{`UPDATE audit SET salt = NULL WHERE idx = 7`}, []audit.Finding{found(7, 1, audit.RecordChanged)}},
		{"body taken", []string{`UPDATE audit SET body = NULL WHERE idx = 7`}, []audit.Finding{found(7, 1, audit.RecordChanged)}},
		{"erased in silence", []string{`UPDATE audit SET body = NULL, salt = NULL WHERE idx = 6`}, []audit.Finding{found(6, 1, audit.RecordErased)}},
		{"erased and changed", []string{`UPDATE audit SET body = NULL, salt = NULL, subject = 'x' WHERE idx = 6`},
			[]audit.Finding{found(6, 1, audit.RecordChanged), found(6, 1, audit.RecordErased)}},
		{"leaf changed", []string{`UPDATE audit SET leaf = digest WHERE idx = 9`}, []audit.Finding{found(9, 1, audit.RecordChanged), found(8, 8, audit.CheckpointBroken)}},
		{"two changed", []string{`UPDATE audit SET kind = 'x' WHERE idx IN (3, 12)`}, []audit.Finding{found(3, 1, audit.RecordChanged), found(12, 1, audit.RecordChanged)}},
		{"removed", []string{`DELETE FROM audit WHERE idx = 11`}, []audit.Finding{found(11, 1, audit.RecordMissing), found(8, 8, audit.Unverifiable)}},
		{"first removed", []string{`DELETE FROM audit WHERE idx = 0`}, []audit.Finding{found(0, 1, audit.RecordMissing), found(0, 8, audit.Unverifiable)}},
		{"removed and closed up", []string{`DELETE FROM audit WHERE idx = 18`, `UPDATE audit SET idx = 18 WHERE idx = 19`, `UPDATE audit_tree SET size = 19`},
			[]audit.Finding{found(18, 1, audit.RecordChanged)}},
		{"tail cut", []string{`DELETE FROM audit WHERE idx >= 17`}, []audit.Finding{found(17, 3, audit.RecordMissing)}},
		{"tail cut and hidden", []string{`DELETE FROM audit WHERE idx >= 14`, `UPDATE audit_tree SET size = 14`},
			[]audit.Finding{found(14, 2, audit.RecordMissing)}},
		{"inserted behind", []string{`INSERT INTO audit SELECT 20, at, actor, auth, kind, subject, digest, leaf, salt, body FROM audit WHERE idx = 4`},
			[]audit.Finding{found(20, 1, audit.RecordInserted)}},
		{"inserted before", []string{`INSERT INTO audit SELECT -1, at, actor, auth, kind, subject, digest, leaf, salt, body FROM audit WHERE idx = 4`},
			[]audit.Finding{found(-1, 1, audit.RecordInserted)}},
		{"doubled", []string{`DELETE FROM audit WHERE idx = 4`,
			`INSERT INTO audit SELECT 4, at, actor, auth, kind, subject, digest, leaf, salt, body FROM audit WHERE idx = 3`},
			[]audit.Finding{found(4, 1, audit.RecordChanged)}},
		{"swapped", []string{`UPDATE audit SET idx = 99 WHERE idx = 2`, `UPDATE audit SET idx = 2 WHERE idx = 3`, `UPDATE audit SET idx = 3 WHERE idx = 99`},
			[]audit.Finding{found(2, 1, audit.RecordChanged), found(3, 1, audit.RecordChanged)}},
		{"stored node changed", []string{`UPDATE audit_hash SET hash = ` + flip + ` WHERE idx = 5`}, []audit.Finding{found(2, 2, audit.HashDiffers)}},
		{"stored node removed", []string{`DELETE FROM audit_hash WHERE idx = 6`}, []audit.Finding{found(0, 4, audit.HashMissing)}},
		{"stored node added", []string{`INSERT INTO audit_hash (idx, hash) VALUES (1000,` + flip + `)`}, []audit.Finding{found(500, 0, audit.HashExtra)}},
		{"root changed", []string{`UPDATE audit_tree SET root = ` + flip}, []audit.Finding{found(20, 0, audit.RootDiffers)}},
		{"checkpoint removed", []string{`DELETE FROM checkpoint WHERE number = 1`}, []audit.Finding{found(0, 1, audit.CheckpointMissing)}},
		{"newest checkpoint removed", []string{`DELETE FROM checkpoint WHERE number = 2`}, nil}, // as a death leaves it; the signer signs it again
		{"newest checkpoint and the tail removed", []string{`DELETE FROM checkpoint WHERE number = 2`, `DELETE FROM audit WHERE idx >= 12`, `UPDATE audit_tree SET size = 12`},
			[]audit.Finding{found(12, 4, audit.RecordMissing)}},
		{"all checkpoints removed", []string{`DELETE FROM checkpoint`}, []audit.Finding{found(0, 1, audit.CheckpointMissing)}},
		{"checkpoint changed", []string{`UPDATE checkpoint SET note = ` + flip + ` WHERE size = 8`}, []audit.Finding{found(8, 0, audit.CheckpointForged), found(0, 1, audit.CheckpointMissing)}},
		{"checkpoint moved", []string{`UPDATE checkpoint SET size = 9 WHERE size = 8`}, []audit.Finding{found(9, 0, audit.CheckpointForged)}},
		{"checkpoint doubled", []string{`INSERT INTO checkpoint SELECT 3, size, note, at FROM checkpoint WHERE number = 2`}, []audit.Finding{found(16, 0, audit.CheckpointForged)}},
		{"checkpoints exchanged", []string{`UPDATE checkpoint SET number = 3 WHERE number = 1`, `UPDATE checkpoint SET number = 1 WHERE number = 2`, `UPDATE checkpoint SET number = 2 WHERE number = 3`},
			[]audit.Finding{found(8, 0, audit.CheckpointForged), found(16, 0, audit.CheckpointForged)}},
	}
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					db := storetest.Open(t, storetest.Migrated(t, engine), nil)
					for _, n := range []int{8, 8, 4} {
						appendRecords(t, db, n)
						if n == 8 {
							checkpoint(t, db)
						}
					}
					verifyClean(t, db, 2)
					head := remembered(t, db)
					disarm(t, db)
					for _, s := range c.sql {
						if engine == store.PostgreSQL {
							s = strings.ReplaceAll(s, " x'", ` '\x`)
						}
						run(t, db.Raw(), s)
					}
					got := verify(t, db, head).Findings
					for i := range got {
						got[i].Checkpoint = 0 // named by its records here
					}
					for _, want := range c.want {
						if !slices.Contains(got, want) {
							t.Errorf("found %+v, want %+v among it", got, want)
						}
					}
					if len(c.want) == 0 && len(got) > 0 {
						t.Errorf("found %+v, want nothing", got)
					}
					if len(got) > len(c.want)+4 {
						t.Errorf("%d findings for one deed: %+v", len(got), got)
					}
				})
			}
		})
	}
}

// Somebody with the database rewrites a record and everything that follows from it:
// only what was signed stands against that (threat AU1).
func TestVerifyFindsARewrittenTree(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		appendRecords(t, db, 6)
		checkpoint(t, db)
		appendRecords(t, db, 6)
		signed := checkpoint(t, db)
		other := storetest.Open(t, storetest.Migrated(t, store.SQLite), nil)
		appendRecords(t, other, 12) // another history of the same length
		err := other.View(t.Context(), func(tx *store.Tx) error {
			_, root, err := tx.AuditTree()
			if root == signed.Root {
				t.Error("two histories have one root: salts are missing")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		rows, err := db.Raw().Query(`SELECT note FROM checkpoint`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var raw []byte
			err = rows.Scan(&raw)
			if err != nil {
				t.Fatal(err)
			}
			c, err := pki.ParseCheckpoint(string(raw))
			if err != nil {
				t.Fatal(err)
			}
			_, err = other.Raw().Exec(`INSERT INTO checkpoint (number, size, note, at) VALUES ($1, $2, $3, 0)`, c.Number, c.Size, raw)
			if err != nil {
				t.Fatal(err)
			}
		}
		got := verify(t, other, remembered(t, db)).Findings
		if !slices.Contains(got, audit.Finding{Index: 0, Count: 12, What: audit.CheckpointBroken, Checkpoint: 1}) {
			t.Errorf("found %+v", got)
		}
		_, stranger, err := note.GenerateKey(rand.Reader, "inkan/test")
		if err == nil {
			r, err := db.VerifyAudit(t.Context(), audit.Head{VerifierKey: stranger}, nil)
			if err != nil || len(r.Findings) != 2 || r.Findings[0].What != audit.CheckpointForged {
				t.Errorf("another key: %+v %v", r, err)
			}
		}
	})
}

func TestDamagedEdgeStopsWriting(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) { damagedEdge(t, storetest.Migrated(t, engine)) })
	}
}

func damagedEdge(t *testing.T, dsn string) {
	db := storetest.Open(t, dsn, nil)
	appendRecords(t, db, 5)
	disarm(t, db)
	run(t, db.Raw(), `UPDATE audit SET leaf = digest WHERE idx = 4`, `UPDATE audit_tree SET root = (SELECT leaf FROM audit WHERE idx = 1)`)
	nothing := func(*store.Tx) error { return nil }
	for name, db := range map[string]*store.DB{"who knew it": db, "a new process": storetest.Open(t, dsn, nil)} {
		err := db.Update(t.Context(), nothing)
		if pki.CodeOf(err) != "audit.damaged" {
			t.Errorf("%s wrote on a damaged tree: %v", name, err)
		}
	}
}

func TestGuards(t *testing.T) {
	storetest.Run(t, func(t *testing.T, db *store.DB) {
		appendRecords(t, db, 5)
		checkpoint(t, db)
		for _, s := range []string{
			`UPDATE audit SET actor = 'op-2' WHERE idx = 1`,
			`UPDATE audit SET idx = 7 WHERE idx = 1`,
			`UPDATE audit SET leaf = digest WHERE idx = 1`,
			`UPDATE audit SET salt = NULL WHERE idx = 1`,
			`UPDATE audit SET body = salt WHERE idx = 1`,
			`UPDATE audit SET body = NULL, salt = NULL, kind = 'x' WHERE idx = 1`,
			`DELETE FROM audit WHERE idx = 4`,
			`UPDATE audit_hash SET hash = hash`,
			`DELETE FROM audit_hash`,
			`UPDATE audit_tree SET size = size - 1`,
			`UPDATE audit_tree SET last_at = last_at - 1`,
			`DELETE FROM audit_tree`,
			`UPDATE checkpoint SET at = 0`,
			`DELETE FROM checkpoint`,
		} {
			err := db.Update(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(s)
				return err
			})
			if pki.CodeOf(err) != "store.guard" {
				t.Errorf("%s: %v, want store.guard", s, err)
			}
		}
		verifyClean(t, db, 1)
	})
}
