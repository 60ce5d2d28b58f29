package ops_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
	"inkan/internal/store/storetest"
)

// These tests own the database, and everything else of an instance but the signer's
// directory: they may write any row, drop guards, copy, put back, and call the signer.

// things appends n records that no row tells of.
func things(o *catest.Office, n int) error {
	return o.DB.Update(o.T.Context(), func(tx *store.Tx) error {
		for i := range n {
			_, _, err := tx.Audit(catest.Intake, "thing.made", fmt.Sprint("thing-", i), map[string]int{"n": i})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// signedOffice is an office with work in its records and some checkpoints, the newest of
// which is over all but the last three records.
func signedOffice(t *testing.T, engine string) *catest.Office {
	t.Helper()
	o := catest.New(t, catest.Options{Engine: engine})
	o.Submit(catest.Application(1))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	o.Submit(catest.Application(2))
	catest.Must(t, things(o, 3))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	o.Submit(catest.Application(3))
	catest.Must(t, things(o, 2))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	catest.Must(t, things(o, 3))
	v, err := o.Ops.Verify(t.Context())
	catest.Must(t, err)
	if !v.OK() || v.Tree.Checkpoints != 3 || v.Tree.Protected != v.Tree.Size-3 {
		t.Fatalf("untouched: %+v", v)
	}
	return o
}

func remembered(t *testing.T, o *catest.Office) pki.Checkpoint {
	t.Helper()
	info, err := o.Signer.Client.Info(t.Context())
	catest.Must(t, err)
	return info.Tree
}

// contradicts wants one verdict of everybody: verify finds it, at a record that is not
// after the first that differs; the node and a new process write nothing; serve does not
// start; the signer signs nothing on it, whatever it is told.
func contradicts(t *testing.T, o *catest.Office, first int64) {
	t.Helper()
	ctx := t.Context()
	head := remembered(t, o)
	v, err := o.Ops.Verify(ctx)
	catest.Must(t, err)
	at, found := v.Tree.First()
	if !found || at > first {
		t.Errorf("verify: the first finding at %d (%v), the first difference at %d: %+v", at, found, first, v.Tree.Findings)
	}
	_, err = o.Ops.Follow(ctx)
	catest.WantCode(t, err, "audit.contradicts")
	if e, ok := err.(*pki.Error); ok {
		if said := e.Args["First"].(int64); said > first {
			t.Errorf("serve: from record %d on, the first difference is at %d", said, first)
		}
	}
	catest.WantCode(t, o.Ops.Checkpoint(ctx), "audit.contradicts")
	catest.WantCode(t, things(o, 1), "audit.contradicts")
	fresh := o.Node(t, o.DSN) // a command, or a serve that starts
	catest.WantCode(t, things(fresh, 1), "audit.contradicts")
	_, err = fresh.Ops.Follow(ctx)
	catest.WantCode(t, err, "audit.contradicts")
	next := pki.Checkpoint{Number: head.Number + 1}
	catest.Must(t, fresh.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		next.Size, next.Root, err = tx.AuditTree()
		return err
	}))
	for name, proof := range map[string]tlog.TreeProof{"none": nil, "from the remembered size": fresh.Proof(head.Size), "from another": fresh.Proof(max(1, head.Size-1))} {
		for _, after := range []int64{0, head.Number} {
			_, err = o.Signer.Client.SignCheckpoint(ctx, after, next, proof)
			if err == nil {
				t.Errorf("the signer signed the forged tree (proof: %s, after %d)", name, after)
			}
		}
	}
	if now := remembered(t, o); !now.Same(head) {
		t.Errorf("the signer remembers %+v, and remembered %+v", now, head)
	}
}

// eachEngine runs a test on both engines; a quick run takes the default one.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	engines := storetest.Engines
	if testing.Short() {
		engines = engines[:1]
	}
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}

// TestThreatAU1Rewritten: whichever signed record is rewritten, with everything that
// follows from it, it is found, and nobody goes on: not after the tree has grown, not
// when all checkpoints are gone (H1a, H1b).
func TestThreatAU1Rewritten(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		o := signedOffice(t, engine)
		honest := o.AuditRows()
		signed := remembered(t, o).Size
		for index := range signed {
			forged := slices.Clone(honest)
			forged[index].Actor = "somebody"
			o.Rebuild(forged)
			contradicts(t, o, index)
		}
		forged := slices.Clone(honest)
		forged[1].Actor = "somebody"
		o.SQL(`DELETE FROM checkpoint`)
		for range 5 { // one record more, and so on
			forged = append(forged, forged[2])
			o.Rebuild(forged)
			contradicts(t, o, 1)
		}
	})
}

// TestThreatAU2Cut: a tree that is cut is found as long as a signed record is missing, and
// is not written on; also when it grows again beyond what the signer remembers.
func TestThreatAU2Cut(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		o := signedOffice(t, engine)
		honest := o.AuditRows()
		signed := remembered(t, o).Size
		for size := signed - 3; size < signed; size++ {
			o.Rebuild(honest[:size])
			contradicts(t, o, size)
			grown := slices.Clone(honest[:size])
			for range 6 {
				grown = append(grown, honest[2])
			}
			o.Rebuild(grown)
			contradicts(t, o, size)
		}
		o.Rebuild(honest)
		catest.Must(t, o.Ops.Checkpoint(t.Context())) // the right one is back
		catest.Must(t, things(o.Node(t, o.DSN), 1))
		// What no checkpoint covers yet, only a process that has written it knows: it says so,
		// records it, and goes on.
		catest.Must(t, things(o, 3))
		honest = o.AuditRows()
		o.Rebuild(honest[:len(honest)-1])
		catest.Must(t, things(o, 1))
		catest.Must(t, things(o, 1))
		if n := o.Count(`audit WHERE kind = 'audit.tail_lost'`); n != 1 || !strings.Contains(o.Log.String(), "alarm: audit records are gone") {
			t.Errorf("%d records of a tail that is gone", n)
		}
	})
}

// TestThreatAU2OlderCopy: an older copy of everything in the database, whole in itself
// and with its checkpoints, is found at once and after it has grown, also along a fork
// that agrees up to an older checkpoint.
func TestThreatAU2OlderCopy(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		o := signedOffice(t, engine)
		honest := o.AuditRows()
		var second audit.SignedCheckpoint
		catest.Must(t, o.DB.View(t.Context(), func(tx *store.Tx) error {
			var err error
			second, err = tx.Checkpoint(2)
			return err
		}))
		o.Disarm()
		o.SQL(`DELETE FROM checkpoint WHERE number > 2`)
		o.Rebuild(honest[:second.Size])
		contradicts(t, o, second.Size)
		fork := slices.Clone(honest[:second.Size])
		for range 2 * len(honest) {
			fork = append(fork, honest[1])
			if len(fork)%7 == 0 {
				o.Rebuild(fork)
				contradicts(t, o, second.Size)
			}
		}
	})
}

// TestThreatAU1AnotherInstance: the tree and the checkpoints of another instance.
func TestThreatAU1AnotherInstance(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		o, other := signedOffice(t, engine), signedOffice(t, engine)
		o.Disarm()
		o.SQL(`DELETE FROM checkpoint`)
		for number := int64(1); number <= 3; number++ {
			var c audit.SignedCheckpoint
			catest.Must(t, other.DB.View(t.Context(), func(tx *store.Tx) error {
				var err error
				c, err = tx.Checkpoint(number)
				return err
			}))
			db := o.Raw()
			_, err := db.ExecContext(t.Context(), `INSERT INTO checkpoint (number, size, note, at) VALUES ($1, $2, $3, 1)`, number, c.Size, c.Note)
			catest.Must(t, err)
			catest.Must(t, db.Close())
		}
		o.Rebuild(other.AuditRows())
		contradicts(t, o, 0)
	})
}

// TestThreatAU1Checkpoints: checkpoints that are missing, moved, exchanged or made up are
// findings, though the tree is right. The newest alone may be missing: a death leaves it
// so, and the signer signs it again.
func TestThreatAU1Checkpoints(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for name, row := range map[string]struct{ sql, what string }{
			"the first":                        {`DELETE FROM checkpoint WHERE number = 1`, audit.CheckpointMissing},
			"one between":                      {`DELETE FROM checkpoint WHERE number = 2`, audit.CheckpointMissing},
			"the two newest":                   {`DELETE FROM checkpoint WHERE number > 1`, audit.CheckpointMissing},
			"all":                              {`DELETE FROM checkpoint`, audit.CheckpointMissing},
			"doubled":                          {`INSERT INTO checkpoint SELECT 4, size, note, at FROM checkpoint WHERE number = 3`, audit.CheckpointForged},
			"doubled before the first":         {`INSERT INTO checkpoint SELECT 0, size, note, at FROM checkpoint WHERE number = 3`, audit.CheckpointForged},
			"exchanged":                        {`UPDATE checkpoint SET number = 9 WHERE number = 2; UPDATE checkpoint SET number = 2 WHERE number = 3; UPDATE checkpoint SET number = 3 WHERE number = 9`, audit.CheckpointForged},
			"another size in the row":          {`UPDATE checkpoint SET size = size + 1 WHERE number = 2`, audit.CheckpointForged},
			"one that nobody signed":           {`UPDATE checkpoint SET note = 'nothing' WHERE number = 2`, audit.CheckpointForged},
			"the newest, as a death leaves it": {`DELETE FROM checkpoint WHERE number = 3`, ""},
		} {
			t.Run(name, func(t *testing.T) {
				o := signedOffice(t, engine)
				o.Disarm()
				for _, s := range strings.Split(row.sql, "; ") {
					o.SQL(s)
				}
				v, err := o.Ops.Verify(t.Context())
				catest.Must(t, err)
				has := slices.ContainsFunc(v.Tree.Findings, func(f audit.Finding) bool { return f.What == row.what })
				if row.what != "" && !has || row.what == "" && !v.Tree.OK() {
					t.Errorf("found %+v, want %q", v.Tree.Findings, row.what)
				}
				if row.what == "" {
					catest.Must(t, o.Ops.Checkpoint(t.Context()))
					v, err = o.Ops.Verify(t.Context())
					catest.Must(t, err)
					if !v.Tree.OK() || v.Tree.Checkpoints != 4 {
						t.Errorf("afterwards: %+v", v.Tree)
					}
				}
			})
		}
	})
}

// TestThreatAU1Histories draws histories at random. An honest one, with failed and lost
// answers, deaths between any two steps, several nodes, restarts and erasures, is never
// accused. Then the owner of the database does one thing to what was signed, and that is
// found.
func TestThreatAU1Histories(t *testing.T) {
	was := flag.Lookup("rapid.checks").Value.String()
	defer func() { catest.Must(t, flag.Set("rapid.checks", was)) }()
	eachEngine(t, func(t *testing.T, engine string) {
		checks := map[string]string{store.SQLite: "40", store.PostgreSQL: "12"}[engine]
		if testing.Short() {
			checks = "5"
		}
		catest.Must(t, flag.Set("rapid.checks", checks))
		rapid.Check(t, func(r *rapid.T) {
			one := &brief{TB: t}
			defer one.end()
			o := catest.New(one, catest.Options{Engine: engine})
			nodes := []*catest.Office{o}
			catest.Must(t, things(o, 2))
			for range rapid.IntRange(1, 12).Draw(r, "steps") {
				n := nodes[rapid.IntRange(0, len(nodes)-1).Draw(r, "node")]
				switch rapid.SampledFrom([]string{"write", "write", "sign", "sign", "sign with a fault", "erase", "start a node", "verify"}).Draw(r, "step") {
				case "write":
					catest.Must(t, things(n, rapid.IntRange(1, 9).Draw(r, "records")))
				case "sign":
					catest.Must(t, n.Ops.Checkpoint(t.Context()))
				case "sign with a fault":
					when := rapid.SampledFrom([]catest.When{catest.Before, catest.After}).Draw(r, "when")
					n.Steps.Fail(rapid.IntRange(0, 5).Draw(r, "at"), when)
					_ = n.Ops.Checkpoint(t.Context()) // fails, or does not come so far
					n.Steps.Taken()
				case "erase":
					size := int64(len(n.AuditRows()))
					index := rapid.Int64Range(0, size-1).Draw(r, "index")
					err := n.DB.Update(t.Context(), func(tx *store.Tx) error { return tx.EraseAudit(catest.Admin, index, "retention") })
					if err != nil && pki.CodeOf(err) != "conflict" {
						catest.Must(t, err)
					}
				case "start a node":
					nodes = append(nodes, o.Node(one, o.DSN))
				case "verify":
					honest(r, n)
				}
			}
			catest.Must(t, o.Ops.Checkpoint(t.Context()))
			honest(r, o)
			attack(r, t, o)
			v, err := o.Ops.Verify(t.Context())
			catest.Must(t, err)
			if v.Tree.OK() {
				r.Fatalf("nothing was found: %+v", v.Tree)
			}
		})
	})
}

// brief is a test whose parts are closed before the test ends: there are many of them.
type brief struct {
	testing.TB
	ends []func()
}

func (b *brief) Cleanup(f func()) { b.ends = append(b.ends, f) }

func (b *brief) end() {
	for _, f := range slices.Backward(b.ends) {
		f()
	}
}

func honest(r *rapid.T, o *catest.Office) {
	v, err := o.Ops.Verify(o.T.Context())
	catest.Must(o.T, err)
	if !v.OK() {
		r.Fatalf("an honest history is accused: %+v", v)
	}
}

// attack does one thing to records under the newest checkpoint, or to checkpoints.
func attack(r *rapid.T, t *testing.T, o *catest.Office) {
	rows := o.AuditRows()
	head := remembered(t, o)
	index := rapid.Int64Range(0, head.Size-1).Draw(r, "record")
	forged := slices.Clone(rows)
	switch rapid.SampledFrom([]string{"actor", "body", "drop one", "insert one", "exchange two", "cut", "cut and grow", "checkpoint"}).Draw(r, "attack") {
	case "actor":
		forged[index].Actor += "x"
	case "body":
		forged[index].Salt, forged[index].Body = make([]byte, 32), []byte(`{}`)
	case "drop one":
		forged = slices.Delete(forged, int(index), int(index)+1)
	case "insert one":
		made := forged[index]
		made.Actor += "x"
		forged = slices.Insert(forged, int(index), made)
	case "exchange two":
		other := (index + 1) % head.Size
		forged[index], forged[other] = forged[other], forged[index]
	case "cut":
		forged = forged[:index]
	case "cut and grow":
		forged = forged[:index]
		for range len(rows) + 3 {
			forged = append(forged, rows[0])
		}
	case "checkpoint":
		o.Disarm()
		number := rapid.Int64Range(1, max(1, head.Number-1)).Draw(r, "number")
		if number == head.Number {
			o.SQL(`UPDATE checkpoint SET note = 'x'`)
			return
		}
		o.SQL(fmt.Sprintf(`DELETE FROM checkpoint WHERE number = %d`, number))
		return
	}
	if len(forged) == 0 {
		forged = rows[:1]
		forged[0].Actor += "x"
	}
	o.Rebuild(forged)
}
