package ca_test

import (
	"context"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
)

// revoke revokes by an officer.
func revoke(t *testing.T, o *catest.Office, serial string, reason pki.Reason) pki.Certificate {
	t.Helper()
	c, err := o.RA.Revoke(t.Context(), catest.Officer, serial, reason, "test")
	must(t, err)
	return c
}

// LE2: what nobody fetched by the deadline is destroyed and revoked, in one
// transaction, and the holder hears of it.
func TestThreatLE2UnfetchedCertificatesEnd(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	o.Set(r.Downloads)
	n, err := o.CA.Sweep(t.Context())
	if err != nil || n != 0 {
		t.Fatalf("swept %d at the deadline itself: %v", n, err)
	}
	o.Set(r.Downloads.Add(time.Second))
	n, err = o.CA.Sweep(t.Context())
	if err != nil || n != 1 {
		t.Fatalf("swept %d: %v", n, err)
	}
	c := o.Certificate(r.Serial)
	if c.State(o.Now()) != pki.Revoked || c.Reason != pki.CessationOfOperation {
		t.Errorf("certificate is %s, %s", c.State(o.Now()), c.Reason)
	}
	if o.Count("sealed_key WHERE request = $1 AND stage = 'destroyed' AND blob IS NULL", r.ID) != 1 {
		t.Error("the key is still there")
	}
	if o.Count("outbox WHERE request = $1 AND kind = 'revoked' AND address = 'clinic@example.jp'", r.ID) != 1 {
		t.Error("no mail")
	}
	o.WantKinds(r.ID, "request.issued", "key.destroyed")
	o.WantKinds(r.Serial, "certificate.issued", "certificate.revoked")
	records := len(o.Kinds(r.ID))
	n, err = o.CA.Sweep(t.Context())
	if err != nil || n != 0 || len(o.Kinds(r.ID)) != records {
		t.Errorf("swept again: %d, %v", n, err)
	}
}

// A fetched key is destroyed, too, but its certificate lives on; one that is in use
// goes 30 days after it was first seen.
func TestSweepOfFetchedKeys(t *testing.T) {
	for _, row := range []struct {
		name    string
		fetched bool
		seen    bool
		after   time.Duration
		gone    bool
		revoked bool
	}{
		{"fetched, before the deadline", true, false, 31 * 24 * time.Hour, false, false},
		{"fetched, after the deadline", true, false, 190 * 24 * time.Hour, true, false},
		{"in use for 29 days", true, true, 29 * 24 * time.Hour, false, false},
		{"in use for 31 days", true, true, 31 * 24 * time.Hour, true, false},
		{"in use, its fetch not recorded", false, true, 31 * 24 * time.Hour, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			r := o.Issued(catest.Application(1))
			at := o.Now().UnixMicro()
			if row.fetched {
				o.SQL(`UPDATE request SET fetched_at = $1 WHERE id = $2`, at, r.ID)
			}
			if row.seen {
				o.SQL(`UPDATE request SET installed_at = $1 WHERE id = $2`, at, r.ID)
			}
			o.Advance(row.after)
			_, err := o.CA.Sweep(t.Context())
			must(t, err)
			if gone := o.Count("sealed_key WHERE request = $1 AND stage = 'held'", r.ID) == 0; gone != row.gone {
				t.Errorf("key gone: %v", gone)
			}
			if revoked := !o.Certificate(r.Serial).RevokedAt.IsZero(); revoked != row.revoked {
				t.Errorf("revoked: %v", revoked)
			}
		})
	}
}

// DL9, CK10: an extension keeps the key beyond the old deadline and beyond the month's
// epoch key, and the letter still opens it.
func TestThreatDL9ExtensionKeepsTheLetterGood(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	ref := o.Reference(r.ID)
	o.Dispatch(r.ID)
	o.Set(r.Downloads.Add(-time.Hour))
	was := o.KeyOf(r.ID)
	until := r.Downloads.AddDate(0, 0, 90)
	got, err := o.RA.Extend(t.Context(), catest.Letters, r.ID, until)
	must(t, err)
	if !got.Downloads.After(r.Downloads) {
		t.Fatalf("deadline %s", got.Downloads)
	}
	if now := o.KeyOf(r.ID); now.Epoch <= was.Epoch {
		t.Errorf("epoch was %s and is %s", was.Epoch, now.Epoch)
	}
	o.Set(r.Downloads.Add(time.Hour))
	n, err := o.CA.Sweep(t.Context())
	if err != nil || n != 0 {
		t.Fatalf("swept %d: %v", n, err)
	}
	_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
	must(t, err)
	key := o.KeyOf(r.ID)
	_, err = o.Signer.OpenHeld(t.Context(), keystore.OpenRequest{KeyID: key.ID, RequestID: r.ID, SPKISHA256: key.SPKISHA256,
		Blob: was.Blob, Reference: ref, Verifier: o.Verifier(r.ID)})
	wantCode(t, err, "pickup.key_destroyed") // an old dump is dead
	for _, day := range []time.Time{r.Downloads, o.Certificate(r.Serial).NotAfter.AddDate(0, 0, 1)} {
		_, err = o.RA.Extend(t.Context(), catest.Letters, r.ID, day)
		wantCode(t, err, "request.extension")
	}
}

// A deadline that moves between the look and the act counts.
func TestSweepLooksAgain(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	b := o.Node(t, o.DSN)
	must(t, newView(t, b, b.Clock.Now).Catch(t.Context())) // it sees the time pass
	o.Set(r.Downloads.Add(time.Hour))
	swept := make(chan error, 1)
	must(t, b.DB.Update(t.Context(), func(tx *store.Tx) error { // nobody else writes until it ends
		go func() {
			_, err := o.CA.Sweep(context.Background())
			swept <- err
		}()
		time.Sleep(200 * time.Millisecond) // the sweep has listed the request, and waits
		return tx.ExtendDownloads(r.ID, r.Downloads.AddDate(0, 0, 30))
	}))
	must(t, <-swept)
	if !o.Certificate(r.Serial).RevokedAt.IsZero() || o.KeyOf(r.ID).Stage != "held" {
		t.Error("an extended request was swept")
	}
}

// The sweep of every node meets the same requests: each key is destroyed once, each
// certificate revoked once, each mail written once.
func TestSweepOfThreeNodes(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			a := catest.New(t, catest.Options{Engine: engine})
			var due []pki.Request
			for n := range 8 {
				due = append(due, a.Issued(catest.Application(n)))
			}
			a.Set(a.Request(due[0].ID).Downloads.Add(time.Minute))
			must(t, a.DB.Update(t.Context(), func(*store.Tx) error { return nil })) // as each node does every second
			var sweeping sync.WaitGroup
			for _, node := range []*catest.Office{a, a.Node(t, a.DSN), a.Node(t, a.DSN)} {
				sweeping.Go(func() {
					_, err := node.CA.Sweep(t.Context())
					if err != nil {
						t.Error(err)
					}
				})
			}
			sweeping.Wait()
			for _, r := range due {
				destroyed := a.Count("audit WHERE kind = 'key.destroyed' AND subject = $1", r.ID)
				revoked := a.Count("audit WHERE kind = 'certificate.revoked' AND subject = $1", r.Serial)
				mails := a.Count("outbox WHERE kind = 'revoked' AND request = $1", r.ID)
				if destroyed != 1 || revoked != 1 || mails != 1 {
					t.Errorf("%s: key destroyed %d times, certificate revoked %d times, %d mails", r.ID, destroyed, revoked, mails)
				}
			}
		})
	}
}

// CK10: the present month and the one before are always in use, also on the last day
// of a long month.
func TestThreatCK10RecentEpochsStay(t *testing.T) {
	for _, row := range []struct{ day, before string }{
		{"2027-03-31", "2027-02"}, {"2027-05-31", "2027-04"}, {"2027-01-01", "2026-12"}, {"2027-03-01", "2027-02"},
	} {
		t.Run(row.day, func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			day, err := time.ParseInLocation(time.DateOnly, row.day, pki.JST)
			must(t, err)
			o.Set(day.Add(12 * time.Hour))
			_, err = o.CA.Sweep(t.Context())
			must(t, err)
			if got := o.Signer.Epoch(); got != row.before {
				t.Errorf("epochs before %s were destroyed, want %s", got, row.before)
			}
		})
	}
}

// CK10: the pool gives its oldest key away first. One that stayed for ever would keep
// the key of its month alive for ever.
func TestThreatCK10PoolIsAQueue(t *testing.T) {
	o := catest.New(t, catest.Options{PoolSize: 1})
	var want []string
	for range 6 {
		must(t, o.CA.FillPool(t.Context()))
		want = append(want, newestPoolKey(t, o))
		o.CA.PoolSize++
		o.Advance(time.Hour)
	}
	for n, key := range want {
		r := o.Issued(catest.Application(n))
		if got := o.KeyOf(r.ID).ID; got != key {
			t.Fatalf("request %d got key %s, the oldest is %s", n, got, key)
		}
	}
}

func newestPoolKey(t *testing.T, o *catest.Office) string {
	t.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	var id string
	must(t, db.QueryRowContext(t.Context(), `SELECT id FROM sealed_key ORDER BY made_at DESC LIMIT 1`).Scan(&id))
	return id
}

// CK10: the month that a row names is never later than the one that its blob is sealed
// under, though the signer's clock runs behind at the turn of the month.
func TestThreatCK10EpochAtTheTurnOfTheMonth(t *testing.T) {
	o := catest.New(t, catest.Options{PoolSize: 1, SignerBack: time.Minute})
	o.Set(time.Date(2026, 12, 1, 0, 0, 30, 0, pki.JST))
	must(t, o.CA.FillPool(t.Context()))
	o.Set(time.Date(2027, 1, 2, 0, 0, 0, 0, pki.JST))
	_, err := o.CA.Sweep(t.Context())
	must(t, err)
	r := o.Issued(catest.Application(1)) // with that key
	whole(t, o, r.ID)
}

// RevokeIn: what may follow what.
func TestRevocationIsFinal(t *testing.T) {
	for _, row := range []struct {
		first, second pki.Reason
		code          string
	}{
		{pki.KeyCompromise, pki.Unspecified, "certificate.revoked_already"},
		{pki.KeyCompromise, pki.CertificateHold, "certificate.revoked_already"},
		{pki.CertificateHold, pki.CertificateHold, "certificate.revoked_already"},
		{pki.CertificateHold, pki.KeyCompromise, ""},
	} {
		t.Run(row.first.String()+" then "+row.second.String(), func(t *testing.T) {
			o := catest.New(t, catest.Options{})
			r := o.Issued(catest.Application(1))
			first := revoke(t, o, r.Serial, row.first)
			held := o.Count("sealed_key WHERE request = $1 AND stage = 'held'", r.ID)
			if (held == 1) != (row.first == pki.CertificateHold) {
				t.Errorf("%d held keys after %s", held, row.first)
			}
			o.Advance(time.Hour)
			_, err := o.RA.Revoke(t.Context(), catest.Officer, r.Serial, row.second, "again")
			wantCode(t, err, row.code)
			c := o.Certificate(r.Serial)
			if row.code != "" && (c.Reason != first.Reason || !c.RevokedAt.Equal(first.RevokedAt)) {
				t.Errorf("became %s at %s", c.Reason, c.RevokedAt)
			}
			if row.code == "" && c.Reason != row.second {
				t.Errorf("is %s", c.Reason)
			}
			crl, err := o.CA.PublishCRL(t.Context(), "g1")
			must(t, err)
			list, err := x509.ParseRevocationList(crl.DER)
			must(t, err)
			if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].ReasonCode != int(c.Reason) {
				t.Errorf("CRL has %v", list.RevokedCertificateEntries)
			}
		})
	}
}

// Our own certificates go the same lines, and never with a holder's profile.
func TestIssueOwn(t *testing.T) {
	o := catest.New(t, catest.Options{})
	key := o.Keyed(pki.P256)
	cert, err := o.CA.IssueOwn(t.Context(), "ocsp", "OCSP Responder 1", key.Public(), nil, nil)
	must(t, err)
	if o.Count("certificate WHERE serial = $1 AND request = ''", pki.SerialHex(cert.SerialNumber)) != 1 {
		t.Error("it was not stored")
	}
	for _, profile := range []string{"holder", "", "ca"} {
		_, err = o.CA.IssueOwn(t.Context(), profile, "0110119153", key.Public(), nil, nil)
		wantCode(t, err, "profile.unknown")
	}
}
