package ca_test

import (
	"context"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/ca/catest"
	"inkan/internal/clock"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

func newView(t *testing.T, o *catest.Office, now func() time.Time) *ca.View {
	t.Helper()
	v := ca.NewView(o.DB, []string{issuance.G1}, now, o.Log.Logger())
	must(t, v.Load(t.Context()))
	return v
}

// knows says what a view would answer about a certificate of G1, and as of when.
func knows(v *ca.View, serial string) (revoked bool, horizon time.Time) {
	horizon = v.Horizon()
	row, _ := v.Status(issuance.G1, serialNumber(serial))
	return !row.Revoked.IsZero(), horizon
}

// serialNumber reads a serial of ours.
func serialNumber(serial string) *big.Int {
	n, err := pki.ParseSerial(serial)
	if err != nil {
		panic(err)
	}
	return n
}

func revokeIn(o *catest.Office, tx *store.Tx, serial string) error {
	c, err := tx.Certificate(serial)
	if err != nil {
		return err
	}
	return o.CA.RevokeIn(tx, catest.Officer, c, pki.KeyCompromise, "test")
}

// A start reads everything while the signer opens its vault, and what is new afterwards.
func TestPreload(t *testing.T) {
	o := catest.New(t, catest.Options{})
	serials := manyCertificates(t, o, 2)
	v := ca.NewView(o.DB, []string{issuance.G1}, o.Now, o.Log.Logger())
	must(t, v.Preload(t.Context()))
	preloaded := v.Horizon()
	must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serials[0]) }))
	late := manyCertificates(t, o, 1)[0]
	must(t, v.Load(t.Context()))
	revoked, horizon := knows(v, serials[0])
	if !revoked || !horizon.After(preloaded) {
		t.Errorf("revoked %v as of %s, preloaded as of %s", revoked, horizon, preloaded)
	}
	for _, serial := range []string{serials[1], late} {
		_, known := v.Status(issuance.G1, serialNumber(serial))
		if !known {
			t.Errorf("%s is not known", serial)
		}
	}
}

// ST6: no view says good as of a time at or after the one that the revocation bears:
// neither while the revocation is on its way to the disk, nor on a node whose clock
// runs ahead of or behind the other's.
func TestThreatST6HorizonLiesBeforeWhatIsNotKnown(t *testing.T) {
	t.Run("revocation on its way to the disk", func(t *testing.T) {
		o := catest.New(t, catest.Options{})
		serial := manyCertificates(t, o, 1)[0]
		b := o.Node(t, o.DSN)
		v := newView(t, b, b.Now)
		var good bool
		var horizon time.Time
		must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error {
			err := revokeIn(o, tx, serial)
			if err != nil {
				return err
			}
			o.Advance(500 * time.Millisecond)
			err = v.Catch(context.Background())
			revoked, h := knows(v, serial)
			good, horizon = !revoked, h
			return err
		}))
		at := o.Certificate(serial).RevokedAt
		if good && !horizon.Before(at) {
			t.Errorf("said good as of %s, revoked at %s", horizon, at)
		}
	})
	for _, skew := range []time.Duration{-clock.Tolerance, clock.Tolerance} {
		t.Run("clock off by "+skew.String(), func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			serials := manyCertificates(t, o, 20)
			now := func() time.Time { return o.Now().Add(skew) }
			v := ca.NewView(storetest.Open(t, o.DSN, now), []string{issuance.G1}, now, o.Log.Logger())
			must(t, v.Load(t.Context()))
			for i, serial := range serials {
				o.Advance(time.Duration(i) * 100 * time.Millisecond)
				must(t, v.Catch(t.Context()))
				revoked, horizon := knows(v, serial)
				must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serial) }))
				if at := o.Certificate(serial).RevokedAt; revoked || !horizon.Before(at) {
					t.Errorf("said good as of %s, revoked at %s", horizon, at)
				}
				must(t, v.Catch(t.Context()))
				revoked, _ = knows(v, serial)
				if !revoked {
					t.Error("still good after the next poll")
				}
			}
		})
	}
}

// ST6: a node that is cut off goes on answering as of the time it was, and after an
// hour says tryLater; healed, it knows at once.
func TestThreatST6CutOffNode(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	b := o.Node(t, o.DSN)
	v := newView(t, b, b.Now)
	a := newAnswers(t, o, v)
	ask := question(t, o, r.Serial)
	b.DB.Close() // the cut
	o.Advance(2 * time.Second)
	commit := revoke(t, o, r.Serial, pki.KeyCompromise).RevokedAt
	for _, after := range []time.Duration{0, 30 * time.Minute, 29 * time.Minute} {
		o.Advance(after)
		if v.Catch(t.Context()) == nil {
			t.Fatal("it is not cut off")
		}
		got := a.ask(t, ask)
		if got.Status != 0 || !got.ThisUpdate.Before(commit) {
			t.Errorf("status %d as of %s, revoked at %s", got.Status, got.ThisUpdate, commit)
		}
	}
	o.Advance(2 * time.Minute)
	body, err := a.Answer(t.Context(), ask, always)
	must(t, err)
	if string(body.Body) != string(issuance.OCSPTryLater) {
		t.Error("no tryLater an hour after the cut")
	}
	healed := newView(t, o, o.Now)
	revoked, _ := knows(healed, r.Serial)
	if !revoked {
		t.Error("good after the cut was healed")
	}
}

// An idle instance keeps its horizon fresh, so that its answers are.
func TestIdleInstanceKeepsItsHorizon(t *testing.T) {
	o := catest.New(t, catest.Options{})
	v := newView(t, o, o.Now)
	for range 5 {
		o.Advance(20 * time.Minute)
		must(t, v.Catch(t.Context()))
		if age := o.Now().Sub(v.Horizon()); age > time.Second {
			t.Errorf("horizon is %s old", age)
		}
	}
}

// ST7: fifty writers on two nodes, a reader that polls: nothing is missed, and at every
// poll all that bears a time up to the horizon is known.
func TestThreatST7FiftyWriters(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			nodes := []*catest.Office{o, o.Node(t, o.DSN)}
			reader := o.Node(t, o.DSN)
			serials := manyCertificates(t, o, 50)
			v := newView(t, reader, reader.Now)
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(len(serials)))
			for i, serial := range serials {
				node := nodes[i%2]
				wg.Go(func() {
					defer left.Add(-1)
					err := node.DB.Update(context.Background(), func(tx *store.Tx) error {
						time.Sleep(time.Duration(i%5) * 200 * time.Microsecond)
						err := revokeIn(node, tx, serial)
						time.Sleep(time.Duration(i%7) * 200 * time.Microsecond)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			unknown := map[string]time.Time{} // the latest horizon at which a serial was still good
			for last := false; !last; {
				last = left.Load() == 0
				must(t, v.Catch(t.Context()))
				o.Advance(time.Millisecond)
				for _, serial := range serials {
					revoked, horizon := knows(v, serial)
					if !revoked {
						unknown[serial] = horizon
						if last {
							t.Errorf("%s was never seen revoked", serial)
						}
					}
				}
			}
			wg.Wait()
			for serial, horizon := range unknown {
				if at := o.Certificate(serial).RevokedAt; !horizon.Before(at) {
					t.Errorf("said good as of %s, revoked at %s", horizon, at)
				}
			}
		})
	}
}

// Two timers read the feed of one view: an older snapshot never comes in after a newer.
func TestViewNeverGoesBack(t *testing.T) {
	o := catest.New(t, catest.Options{})
	serials := manyCertificates(t, o, 150)
	v := newView(t, o, o.Now)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				err := v.Catch(context.Background())
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		seen := map[string]bool{}
		var horizon time.Time
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, serial := range serials {
				revoked, h := knows(v, serial)
				if seen[serial] && !revoked {
					t.Errorf("%s is good again", serial)
				}
				if h.Before(horizon) {
					t.Errorf("horizon went back from %s to %s", horizon, h)
				}
				seen[serial], horizon = revoked, h
			}
		}
	})
	for _, serial := range serials {
		o.Advance(time.Millisecond)
		must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error { return revokeIn(o, tx, serial) }))
	}
	close(done)
	wg.Wait()
}

// A revocation is in the answers of another node after one look at the feed; a view that
// runs looks by itself.
func TestRevocationIsSeenWithinOnePoll(t *testing.T) {
	o := catest.New(t, catest.Options{})
	b := o.Node(t, o.DSN)
	first, r := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
	v := newView(t, b, b.Now)
	revoke(t, o, first.Serial, pki.KeyCompromise)
	must(t, v.Catch(t.Context()))
	if revoked, _ := knows(v, first.Serial); !revoked {
		t.Error("one look does not show it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { v.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	revoke(t, o, r.Serial, pki.KeyCompromise)
	testkit.Await(t, "revocation in the view", func() bool {
		revoked, _ := knows(v, r.Serial)
		return revoked
	})
}

// A backlog of more than a page, and a view that was made before the first certificate.
func TestViewReadsABacklog(t *testing.T) {
	o := catest.New(t, catest.Options{})
	v := newView(t, o, o.Now)
	serials := manyCertificates(t, o, 2100)
	crl := publish(t, o)
	must(t, v.Catch(t.Context()))
	for _, serial := range serials {
		_, ok := v.Status(issuance.G1, serialNumber(serial))
		if !ok {
			t.Fatalf("%s is unknown", serial)
		}
	}
	_, ok := v.Status(issuance.Operations, serialNumber(serials[0]))
	if ok {
		t.Error("known under another issuer")
	}
	if got, _ := v.CRL(issuance.G1); got.Number != crl.Number {
		t.Errorf("CRL %d, published is %d", got.Number, crl.Number)
	}
}
