package ca_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/ca/catest"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/pki/pkitest"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

var (
	must     = testkit.Must
	wantCode = pkitest.WantCode
)

// whole checks that a request has exactly one certificate, and that its letter opens
// the key of exactly that certificate.
func whole(t *testing.T, o *catest.Office, id string) pki.Request {
	t.Helper()
	r := o.Request(id)
	if r.State != pki.Issued {
		t.Fatalf("request is %s (%s)", r.State, r.Failure)
	}
	for _, row := range []struct {
		from string
		want int
	}{
		{"certificate WHERE request = $1", 1},
		{"intent WHERE request = $1 AND state = 'done'", 1},
		{"intent WHERE request = $1 AND state = 'open'", 0},
		{"sealed_key WHERE request = $1 AND stage = 'held'", 1},
		{"sealed_key WHERE request = $1 AND stage = 'taken'", 0},
	} {
		got := o.Count(row.from, id)
		if got != row.want {
			t.Errorf("%d of %s, want %d", got, row.from, row.want)
		}
	}
	c := o.Certificate(r.Serial)
	key := o.KeyOf(id)
	if c.RequestID != id || c.SPKISHA256 != key.SPKISHA256 {
		t.Errorf("certificate of request %q for key %s, held is %s", c.RequestID, c.SPKISHA256, key.SPKISHA256)
	}
	_, err := o.Signer.OpenHeld(t.Context(), keystore.OpenRequest{KeyID: key.ID, RequestID: id, SPKISHA256: c.SPKISHA256,
		Blob: key.Blob, Reference: o.Reference(id), Verifier: o.Verifier(id)})
	must(t, err)
	return r
}

// Invariant 1: two clicks, two tabs, two nodes.
func TestOneRequestOneCertificate(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			a := catest.New(t, catest.Options{Engine: engine})
			b := a.Node(t, a.DSN)
			r := a.Approved(catest.Application(1))
			serials := make([]string, 16)
			var wg sync.WaitGroup
			for i := range serials {
				node := []*catest.Office{a, b}[i%2]
				wg.Go(func() {
					got, err := node.CA.Issue(context.Background(), r.ID)
					if err != nil || got.State != pki.Issued {
						t.Errorf("worker %d: %s, %v", i, got.State, err)
					}
					serials[i] = got.Serial
				})
			}
			wg.Wait()
			want := whole(t, a, r.ID).Serial
			for i, serial := range serials {
				if serial != want {
					t.Errorf("worker %d was told %s, the certificate is %s", i, serial, want)
				}
			}
			again, err := b.CA.Issue(t.Context(), r.ID)
			if err != nil || again.Serial != want {
				t.Errorf("asked again: %s, %v", again.Serial, err)
			}
			a.WantKinds(r.ID, "request.generating", "request.issuing", "request.issued")
			a.WantKinds(want, "certificate.intent", "certificate.issued")
		})
	}
}

// Invariant 2, the signer's side: whatever call fails, whether it took effect or not,
// the background worker brings the request to its one certificate.
func TestLostSignerCalls(t *testing.T) {
	o := catest.New(t, catest.Options{})
	n := 0
	for _, method := range []string{"SealPool", "NewVerifier", "SealReference", "Hold", "SignIntents"} {
		for _, when := range []catest.When{catest.Before, catest.After} {
			t.Run(method+"/"+string(when), func(t *testing.T) {
				n++
				r := o.Approved(catest.Application(n))
				o.Signer.Once(method, when, func() error { return errors.New("connection lost") })
				got, err := o.CA.Issue(t.Context(), r.ID)
				if err == nil || got.State == pki.Issued {
					t.Fatalf("nothing failed: %s, %v", got.State, err)
				}
				if o.Count("certificate WHERE request = $1", r.ID) != 0 {
					t.Fatal("a certificate was stored without its signature")
				}
				o.Advance(time.Minute)
				must(t, o.CA.Recover(t.Context(), 15*time.Second))
				whole(t, o, r.ID)
				must(t, o.CA.Recover(t.Context(), 0))
				whole(t, o, r.ID)
			})
		}
	}
}

// Invariant 2, the database's side: a COMMIT that was lost on its way, and one that
// took effect though nobody heard of it, at each of the commits of an issue.
func TestLostCommits(t *testing.T) {
	o := catest.New(t, catest.Options{Engine: store.PostgreSQL})
	p := newProxy(t, o.DSN)
	node := o.Node(t, p.dsn)
	const commits = 4 // pool key; lines 1 and 2; line 4; line 7
	n := 0
	for at := 1; at <= commits+1; at++ {
		for _, took := range []bool{false, true} {
			t.Run(fmt.Sprintf("commit %d took effect %v", at, took), func(t *testing.T) {
				n++
				r := o.Approved(catest.Application(n))
				p.arm(at, took)
				_, err := node.CA.Issue(t.Context(), r.ID)
				if fired := p.disarm(); fired != (at <= commits) {
					t.Fatalf("an issue has %d commits no more", commits)
				}
				switch {
				case at > commits:
					must(t, err)
				case pki.CodeOf(err) != "store.commit_unknown":
					t.Fatalf("got %v", err)
				}
				node.Advance(time.Minute)
				must(t, node.CA.Recover(t.Context(), 15*time.Second))
				whole(t, o, r.ID)
			})
		}
	}
}

// An intent that waited too long is given up, and the request starts anew with another
// serial: the signer would call it backdated. Nothing of the old one is ever stored.
func TestStaleIntents(t *testing.T) {
	by := map[string]func(context.Context, *ca.Service, string) error{
		"worker": func(ctx context.Context, s *ca.Service, _ string) error {
			return errors.Join(s.Recover(ctx, 0), s.Recover(ctx, 0))
		},
		"caller": func(ctx context.Context, s *ca.Service, id string) error {
			_, err := s.Issue(ctx, id)
			return err
		},
	}
	for name, again := range by {
		for _, when := range []catest.When{catest.Before, catest.After} {
			t.Run(name+"/"+string(when), func(t *testing.T) {
				o := catest.New(t, catest.Options{})
				r := o.Approved(catest.Application(1))
				o.Signer.Once("SignIntents", when, func() error { return errors.New("connection lost") })
				_, err := o.CA.Issue(t.Context(), r.ID)
				wantCode(t, err, "signer.away")
				old := intentOf(o, r.ID)
				o.Advance(46 * time.Minute)
				must(t, again(t.Context(), o.CA, r.ID))
				fresh := whole(t, o, r.ID)
				if fresh.Serial == old.Serial {
					t.Error("the old serial was used")
				}
				if o.Count("intent WHERE serial = $1 AND state = 'abandoned'", old.Serial) != 1 {
					t.Error("the old intent was not abandoned")
				}
				if o.Count("certificate WHERE serial = $1", old.Serial) != 0 {
					t.Error("the old serial has a certificate")
				}
				o.WantKinds(old.Serial, "certificate.intent", "certificate.abandoned")
				o.WantKinds(r.ID, "request.issuing", "request.failed", "request.generating", "request.issued")
			})
		}
	}
}

func intentOf(o *catest.Office, id string) store.Intent {
	var i store.Intent
	o.View(func(tx *store.Tx) error {
		var err error
		i, err = tx.IntentOfRequest(id)
		return err
	})
	return i
}

// What the signer refuses for good fails the request and tells why; what it refuses for
// now stays open.
func TestRefusals(t *testing.T) {
	o := catest.New(t, catest.Options{})
	for _, guard := range []string{"request_approval_stays", "request_origin_stays", "sealed_key_stays"} {
		o.SQL(`DROP TRIGGER ` + guard) // as who owns the database can
	}
	for n, row := range []struct {
		name  string
		spoil func(t *testing.T, r pki.Request)
		code  string // of the error and of request.failure
	}{
		{"content changed after the approval", func(_ *testing.T, r pki.Request) {
			o.SQL(`UPDATE request SET terminal_name = 'another' WHERE id = $1`, r.ID)
		}, "request.not_approved"},
		{"unknown profile", func(_ *testing.T, r pki.Request) {
			o.SQL(`UPDATE request SET profile = 'server' WHERE id = $1`, r.ID)
		}, "profile.unknown"},
		{"a profile of our own", func(_ *testing.T, r pki.Request) {
			o.SQL(`UPDATE request SET profile = 'ocsp' WHERE id = $1`, r.ID)
		}, "profile.common_name"},
		{"backdated", func(_ *testing.T, r pki.Request) {
			o.SQL(`UPDATE request SET not_before = $1 WHERE id = $2`, catest.Start.Add(-48*time.Hour).UnixMicro(), r.ID)
		}, "signer.refused"},
		{"the pool's blob is another key's", func(t *testing.T, _ pki.Request) {
			must(t, o.CA.FillPool(t.Context()))
			o.SQL(`UPDATE sealed_key SET blob = (SELECT blob FROM sealed_key WHERE stage = 'pool' ORDER BY id DESC LIMIT 1)
				WHERE id = (SELECT id FROM sealed_key WHERE stage = 'pool' ORDER BY id LIMIT 1)`)
		}, "seal.open"},
		{"the pool's public key is a thief's", func(t *testing.T, _ pki.Request) { // threat CO12: he would have a certificate for it
			must(t, o.CA.FillPool(t.Context()))
			spki, err := x509.MarshalPKIXPublicKey(o.Keyed(pki.P256).Public())
			must(t, err)
			sum := sha256.Sum256(spki)
			o.SQL(`UPDATE sealed_key SET spki = $1, spki_sha256 = $2 WHERE id = (SELECT id FROM sealed_key WHERE stage = 'pool' ORDER BY id LIMIT 1)`,
				spki, hex.EncodeToString(sum[:]))
		}, "seal.key_differs"},
	} {
		t.Run(row.name, func(t *testing.T) {
			o.CA.PoolSize = 2
			r := o.Approved(catest.Application(n))
			row.spoil(t, r)
			_, err := o.CA.Issue(t.Context(), r.ID)
			wantCode(t, err, row.code)
			r = o.Request(r.ID)
			if r.State != pki.Failed || r.Failure != row.code {
				t.Errorf("request is %s, failure %q", r.State, r.Failure)
			}
			if o.Count("certificate WHERE request = $1", r.ID)+o.Count("sealed_key WHERE request = $1 AND stage <> 'destroyed'", r.ID) != 0 {
				t.Error("a certificate or a key is left")
			}
			before := len(o.Kinds(r.ID))
			o.Advance(time.Minute)
			must(t, o.CA.Recover(t.Context(), 0))
			if len(o.Kinds(r.ID)) != before {
				t.Error("the worker tried again what will be refused again")
			}
		})
	}
}

// CK6: what the signer cannot sign now waits where it is, bytes and serial, and is
// signed when the signer can; what it will not sign is given up.
func TestThreatCK6IntentWaitsForTheKey(t *testing.T) {
	o := catest.New(t, catest.Options{})
	for n, row := range []struct {
		code  string
		waits bool
	}{
		{"token.away", true}, {"token.pin", true}, {"token.key_missing", true}, {"signer.key_differs", true}, {"signer.rate", true},
		{"profile.backdated", false}, {"signer.serial", false},
	} {
		t.Run(row.code, func(t *testing.T) {
			r := o.Approved(catest.Application(n))
			o.Signer.Spoil = func(results []keystore.SignResult) { results[0] = keystore.SignResult{Code: row.code} }
			defer func() { o.Signer.Spoil = nil }()
			_, err := o.CA.Issue(t.Context(), r.ID)
			if !row.waits {
				wantCode(t, err, "signer.refused")
				return
			}
			wantCode(t, err, "signer.waits")
			if pki.ClassOf(err) != pki.Busy {
				t.Errorf("class %s", pki.ClassOf(err))
			}
			intent := intentOf(o, r.ID)
			o.Advance(time.Minute)
			err = o.CA.Recover(t.Context(), 15*time.Second)
			wantCode(t, err, "signer.waits") // still
			o.Signer.Spoil = nil
			o.Advance(time.Minute)
			must(t, o.CA.Recover(t.Context(), 15*time.Second))
			if c := whole(t, o, r.ID); c.Serial != intent.Serial {
				t.Errorf("serial %s became %s", intent.Serial, c.Serial)
			}
		})
	}
}

// Failed requests wait for an operator; however many, they keep nobody else waiting.
func TestFailedRequestsDoNotStarveOthers(t *testing.T) {
	o := catest.New(t, catest.Options{})
	one := o.Submit(catest.Application(1))
	o.SQL(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)
		INSERT INTO request (id, kind, source, state, holder_kind, holder_code, terminal_name, email, maintenance_email, department,
			phone, payment_method, content_hash, entered_by, profile, key_type, failure, received_at, changed_at)
		SELECT '20260101' || printf('%07d', i), kind, source, 'failed', holder_kind, holder_code, terminal_name, email, maintenance_email,
			department, phone, payment_method, content_hash, entered_by, profile, key_type, 'csr.key', received_at, changed_at
		FROM request, n WHERE id = $1`, one.ID)
	r := o.Approved(catest.Application(2))
	must(t, o.CA.Recover(t.Context(), 0))
	whole(t, o, r.ID)
}

// Whatever is not approved is not issued.
func TestOnlyApprovedRequestsAreIssued(t *testing.T) {
	o := catest.New(t, catest.Options{})
	for n, state := range []pki.RequestState{pki.Received, pki.Reviewing, pki.Returned, pki.Rejected, pki.Cancelled} {
		t.Run(string(state), func(t *testing.T) {
			r := o.Submit(catest.Application(n))
			o.SQL(`UPDATE request SET state = $1 WHERE id = $2`, string(state), r.ID)
			_, err := o.CA.Issue(t.Context(), r.ID)
			wantCode(t, err, "request.state")
			must(t, o.CA.Recover(t.Context(), 0))
			if o.Request(r.ID).State != state {
				t.Errorf("request is %s", o.Request(r.ID).State)
			}
		})
	}
	if n := o.Count("certificate"); n != 0 {
		t.Errorf("%d certificates", n)
	}
}

// AP11: a key is certified once, whoever asks.
func TestThreatAP11KeyOfACSRIsUsedOnce(t *testing.T) {
	o := catest.New(t, catest.Options{})
	client := o.Client("vendor")
	o.Grant(pki.Grant{ClientID: client.ID})
	call := o.Call("one", catest.Holder(1))
	first, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(client), client, call)
	must(t, err)
	if got := o.Request(first.RequestID); got.State != pki.Issued || got.Serial != first.Serial {
		t.Fatalf("request is %s with %q", got.State, got.Serial)
	}
	call.IdempotencyKey = "two"
	call.Application.Holder = catest.Holder(2)
	for range 2 {
		_, err = o.RA.IssueByGrant(t.Context(), catest.ByClient(client), client, call)
		wantCode(t, err, "csr.key_reused")
	}
	for _, table := range []string{"certificate WHERE issuer = 'g1'", "request", "intent WHERE issuer = 'g1'", "issue_grant WHERE used = 1"} {
		if n := o.Count(table); n != 1 {
			t.Errorf("%d of %s: a refusal left something behind", n, table)
		}
	}

	// By another way than the API, the request tells the operators why it failed.
	a := catest.Application(3)
	a.CSR = call.Application.CSR
	r := o.Approved(a)
	_, err = o.CA.Issue(t.Context(), r.ID)
	wantCode(t, err, "csr.key_reused")
	if got := o.Request(r.ID); got.State != pki.Failed || got.Failure != "csr.key_reused" {
		t.Errorf("request is %s, failure %q", got.State, got.Failure)
	}
}

// RSA-2048 is refused from the first second at which 39 months would end in 2031
// (threats §4).
func TestAlgorithmsEnd(t *testing.T) {
	for _, row := range []struct {
		at   time.Time
		code string
	}{
		{time.Date(2027, 9, 30, 23, 59, 0, 0, pki.JST), ""},
		{time.Date(2027, 10, 1, 0, 0, 0, 0, pki.JST), "profile.algorithm_until"},
	} {
		t.Run(row.at.Format(time.DateOnly), func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			o.RA.KeyType = pki.RSA2048
			o.Set(row.at)
			r := o.Approved(catest.Application(1))
			_, err := o.CA.Issue(t.Context(), r.ID)
			wantCode(t, err, row.code)
			if got := o.Request(r.ID).Failure; got != row.code {
				t.Errorf("failure %q", got)
			}
		})
	}
}
