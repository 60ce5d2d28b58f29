package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// twoNodes runs a test on each engine with two handles on one database, as two nodes
// have (on SQLite: serve and a command). skip moves their clock on.
func twoNodes(t *testing.T, test func(t *testing.T, nodes []*store.DB, skip func(time.Duration))) {
	t.Helper()
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			var ahead atomic.Int64
			now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			dsn := storetest.Migrated(t, engine)
			nodes := []*store.DB{storetest.Open(t, dsn, now), storetest.Open(t, dsn, now)}
			test(t, nodes, func(d time.Duration) { ahead.Add(int64(d)) })
		})
	}
}

func update(t *testing.T, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	err := db.Update(t.Context(), fn)
	if err != nil {
		t.Fatal(err)
	}
}

// claim takes due messages for a minute.
func claim(t *testing.T, db *store.DB, limit int) []store.Message {
	t.Helper()
	var got []store.Message
	err := db.Update(context.Background(), func(tx *store.Tx) error {
		var err error
		got, err = tx.ClaimMessages(limit, time.Minute)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return got
}

func TestOutboxIsClaimedByOneNode(t *testing.T) {
	twoNodes(t, func(t *testing.T, nodes []*store.DB, skip func(time.Duration)) {
		const messages = 100
		update(t, nodes[0], func(tx *store.Tx) error {
			for i := range messages {
				err := tx.AddMessage(store.Message{ID: fmt.Sprint("m-", i), Kind: "revoked", Request: fmt.Sprint(i), Args: map[string]string{"At": "x"}})
				if err != nil {
					return err
				}
			}
			return nil
		})
		claims := make([][]string, 6)
		var claiming sync.WaitGroup
		for i := range claims {
			claiming.Go(func() {
				for len(claims[i]) <= messages { // beyond it, something is claimed again and again
					got := claim(t, nodes[i%2], 7)
					if len(got) == 0 {
						return
					}
					for _, m := range got {
						claims[i] = append(claims[i], m.ID)
					}
				}
			})
		}
		claiming.Wait()
		all := slices.Concat(claims...)
		slices.Sort(all)
		if len(all) != messages || len(slices.Compact(all)) != messages {
			t.Fatalf("%d claims of %d messages", len(all), messages)
		}

		// One node sends one mail and dies. The other has nothing to do until the claim
		// is over; then everything but that mail is its own.
		update(t, nodes[0], func(tx *store.Tx) error { return tx.FinishMessage("m-0") })
		skip(59 * time.Second)
		if early := claim(t, nodes[1], messages); len(early) > 0 {
			t.Errorf("%d messages were taken from a node that may be sending them", len(early))
		}
		skip(2 * time.Second)
		again := claim(t, nodes[1], 2*messages)
		if len(again) != messages-1 {
			t.Errorf("%d messages came back, want %d", len(again), messages-1)
		}
		for _, m := range again {
			if m.ID == "m-0" || m.Attempts != 2 || m.Args["At"] != "x" {
				t.Errorf("came back: %+v", m)
			}
		}
	})
}

func TestPagesOfRequestsUnderInserts(t *testing.T) {
	twoNodes(t, func(t *testing.T, nodes []*store.DB, _ func(time.Duration)) {
		insert := func(id string) {
			update(t, nodes[0], func(tx *store.Tx) error {
				return tx.AddRequest(pki.Request{ID: id, Kind: pki.NewIssue, Source: pki.FromOperator, State: pki.Received, EnteredBy: "op-1", Profile: "holder",
					Application: pki.Application{Holder: pki.Holder{Kind: "medical", Code: "0110119153"}, TerminalName: id, Email: "a@example.jp"}})
			})
		}
		pages(t, insert, func(after string, limit int) []string {
			var ids []string
			err := nodes[1].View(t.Context(), func(tx *store.Tx) error {
				found, err := tx.Requests(store.RequestFilter{States: []pki.RequestState{pki.Received, pki.Reviewing}, HolderCode: "0110119153", After: after, Limit: limit})
				for _, r := range found {
					ids = append(ids, r.ID)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ids
		})
	})
}

func TestPagesOfCertificatesUnderInserts(t *testing.T) {
	twoNodes(t, func(t *testing.T, nodes []*store.DB, _ func(time.Duration)) {
		insert := func(id string) {
			update(t, nodes[0], func(tx *store.Tx) error {
				return tx.AddCertificate(pki.Certificate{Serial: id, Issuer: "g1", Profile: "holder", RequestID: "r" + id, DER: []byte(id), SHA256: id, SPKISHA256: id,
					Holder: pki.Holder{Kind: "medical", Code: "0110119153"}, NotBefore: tx.Now, NotAfter: tx.Now.AddDate(3, 0, 0), IssuedAt: tx.Now})
			})
		}
		pages(t, insert, func(after string, limit int) []string {
			var ids []string
			err := nodes[1].View(t.Context(), func(tx *store.Tx) error {
				found, err := tx.Certificates(store.CertificateFilter{Issuer: "g1", HolderCode: "0110119153", After: after, Limit: limit})
				for _, c := range found {
					ids = append(ids, c.Serial)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ids
		})
	})
}

// pages reads a list page by page while rows come in before and behind the reader: each
// row that was there is seen once, in order, and what comes behind is seen, too.
func pages(t *testing.T, insert func(id string), page func(after string, limit int) []string) {
	t.Helper()
	const rows, limit = 20, 3
	id := func(n int) string { return fmt.Sprintf("%040d", 1000*n) }
	for n := range rows {
		insert(id(n))
	}
	var seen, want []string
	for n := range rows {
		want = append(want, id(n))
	}
	after := ""
	for n := 0; ; n++ {
		got := page(after, limit)
		if len(got) > limit {
			t.Fatalf("a page of %d", len(got))
		}
		seen = append(seen, got...)
		if len(got) == 0 {
			break
		}
		after = got[len(got)-1]
		if n < 4 {
			insert(fmt.Sprintf("%040d", n+1)) // before the reader
			later := fmt.Sprintf("%040d", 1000*(rows-1)+1+n)
			insert(later)
			want = append(want, later)
		}
	}
	slices.Sort(want)
	if !slices.Equal(seen, want) {
		t.Errorf("saw %v\nwant %v", seen, want)
	}
}

func TestGrantRacedByTwoNodes(t *testing.T) {
	twoNodes(t, func(t *testing.T, nodes []*store.DB, _ func(time.Duration)) {
		const total = 25
		holder := pki.Holder{Kind: "medical", Code: "0110119153"}
		update(t, nodes[0], func(tx *store.Tx) error {
			return errors.Join(tx.AddAPIClient(store.APIClient{ID: "vendor", CertSHA256: "00", Role: pki.RoleRA}),
				tx.AddGrant(pki.Grant{ID: "g", ClientID: "vendor", PerDay: 2 * total, Total: total, EndsAt: tx.Now.AddDate(0, 0, 2), MadeBy: "op-1"}))
		})
		one := func(what string, act func(tx *store.Tx, node int) error) {
			t.Helper()
			errs := make([]error, len(nodes))
			var racing sync.WaitGroup
			for i, db := range nodes {
				racing.Go(func() {
					errs[i] = db.Update(context.Background(), func(tx *store.Tx) error { return act(tx, i) })
				})
			}
			racing.Wait()
			lost := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			if lost < 0 || errs[1-lost] != nil || !errors.Is(errs[lost], pki.ErrConflict) {
				t.Errorf("%s by two nodes at once: %v", what, errs)
			}
		}
		one("approved", func(tx *store.Tx, node int) error { return tx.ApproveGrant("g", fmt.Sprint("op-", node+2)) })

		// Both read the grant before either uses it.
		var seen pki.Grant
		err := nodes[0].View(t.Context(), func(tx *store.Tx) error {
			var err error
			seen, err = tx.Grant("g")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		one("used as it was read", func(tx *store.Tx, _ int) error { return tx.UseGrant(seen) })

		// Each reads and uses in one transaction, until it is used up.
		var used atomic.Int64
		var racing sync.WaitGroup
		for i := range 2 * len(nodes) {
			racing.Go(func() {
				for {
					err := nodes[i%2].Update(context.Background(), func(tx *store.Tx) error {
						g, err := tx.Grant("g")
						if err == nil {
							err = g.Allows(holder, tx.Now)
						}
						if err != nil {
							return err
						}
						return tx.UseGrant(g)
					})
					if pki.CodeOf(err) == "grant.exhausted" {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					used.Add(1)
				}
			})
		}
		racing.Wait()
		if used.Load() != total-1 {
			t.Errorf("used %d times after the first, want %d", used.Load(), total-1)
		}
		one("revoked", func(tx *store.Tx, _ int) error { return tx.RevokeGrant("g") })
		err = nodes[1].Update(t.Context(), func(tx *store.Tx) error {
			g, err := tx.Grant("g")
			if err != nil {
				return err
			}
			if g.Used != total || g.UsedToday != total {
				t.Errorf("counted %d, today %d, want %d", g.Used, g.UsedToday, total)
			}
			return tx.UseGrant(g)
		})
		if !errors.Is(err, pki.ErrConflict) {
			t.Errorf("a revoked grant is used: %v", err)
		}
	})
}
