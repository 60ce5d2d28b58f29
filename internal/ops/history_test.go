package ops_test

import (
	"encoding/json"
	"net/netip"
	"path"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// history lets an office live through everything that changes a row.
func history(t *testing.T, engine string) *catest.Office {
	t.Helper()
	o := catest.New(t, catest.Options{Engine: engine, Activate: true, PoolSize: 2, Grace: 30})
	ctx := t.Context()
	catest.Must(t, o.DB.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(pki.System("init"), "instance.made", "test-1", map[string]any{"mode": "demo"})
		if err != nil {
			return err
		}
		return tx.AddInstance(store.Instance{UUID: "test-1", Mode: "demo"})
	}))
	renewals(t, o)
	fetched, revoked, cancelled := o.Issued(catest.Application(1)), o.Issued(catest.Application(2)), o.Issued(catest.Application(3))
	ticket, err := o.RA.PreparePickup(ctx, catest.Pickup(fetched.ID, o.Reference(fetched.ID)))
	catest.Must(t, err)
	_, _, err = o.RA.PickupFile(ctx, ticket, catest.Cookie)
	catest.Must(t, err)
	o.Dispatch(fetched.ID)
	_, err = o.RA.Extend(ctx, catest.Letters, fetched.ID, fetched.Downloads.AddDate(0, 0, 10))
	catest.Must(t, err)
	o.Advance(time.Minute)
	_, err = o.RA.Revoke(ctx, catest.Officer, revoked.Serial, pki.CertificateHold, "asked")
	catest.Must(t, err)
	_, err = o.RA.Revoke(ctx, catest.Officer, revoked.Serial, pki.KeyCompromise, "stolen")
	catest.Must(t, err)
	_, err = o.RA.Cancel(ctx, catest.Intake, cancelled.ID, "twice")
	catest.Must(t, err)
	revocations(t, o, fetched)

	site, err := o.RA.Submit(ctx, catest.Site, ra.Submission{Source: pki.FromSite, Application: catest.Application(4), Language: "en"})
	catest.Must(t, err)
	_, err = o.RA.Approve(ctx, catest.Approver, site.ID, site.ContentHash)
	catest.Must(t, err)
	typo := o.Submit(catest.Application(5))
	a := typo.Application
	a.TerminalName = "受付9号機"
	_, err = o.RA.Correct(ctx, catest.Actor("editor", pki.RoleIntake), typo.ID, typo.ContentHash, a)
	catest.Must(t, err)
	unknown := o.Submit(catest.Application(6))
	_, err = o.RA.Reject(ctx, catest.Approver, unknown.ID, unknown.ContentHash, "unknown")
	catest.Must(t, err)

	client := o.Client("vendor")
	o.Grant(pki.Grant{ClientID: client.ID, Kinds: []pki.HolderKind{pki.Medical, pki.Dental}, Prefectures: []string{catest.Holder(1).Prefecture()}})
	_, err = o.RA.IssueByGrant(ctx, catest.ByClient(client), client, o.Call("one", catest.Holder(7)))
	catest.Must(t, err)
	catest.Must(t, o.Ops.RenewAPIClient(ctx, catest.Admin, client, renewedCertificate(o, "vendor")))
	o.Client("left")
	catest.Must(t, o.Ops.DisableAPIClient(ctx, catest.Admin, "left"))
	ended := o.Grant(pki.Grant{ClientID: client.ID, EndsAt: o.Now().AddDate(0, 0, 1)})
	catest.Must(t, o.RA.RevokeGrant(ctx, catest.Admin, ended.ID))
	for n, id := range []string{"someone", "gone"} {
		catest.Must(t, o.Ops.AddOperator(ctx, pki.System("test"), pki.Operator{ID: id, Name: id, CertSHA256: id, Roles: []pki.Role{pki.RoleIntake, pki.RoleApprover},
			Account: pki.Account{Name: id, UID: uint32(1001 + n)}}))
	}
	catest.Must(t, o.Ops.DisableOperator(ctx, catest.Admin, "gone"))
	dates(t, o)
	links(t, o)
	failures(t, o)
	for _, issuer := range []string{issuance.G1, issuance.G1, issuance.Operations} {
		o.Advance(time.Second)
		_, err = o.CA.PublishCRL(ctx, issuer)
		catest.Must(t, err)
	}
	catest.Must(t, o.CA.FillPool(ctx))
	return o
}

// renewedCertificate is the hash of another certificate for a client.
func renewedCertificate(o *catest.Office, id string) string {
	o.T.Helper()
	cert, err := o.CA.IssueOwn(o.T.Context(), issuance.ProfileAPIClient, "API client "+id, o.Keyed(pki.P256).Public(), nil, nil)
	catest.Must(o.T, err)
	return o.Certificate(pki.SerialHex(cert.SerialNumber)).SHA256
}

// renewals lets a certificate be renewed, and what it was renewed to be revoked.
func renewals(t *testing.T, o *catest.Office) {
	t.Helper()
	h := o.Holding(catest.Application(20))
	o.DaysBefore(h, 20)
	_, err := o.RA.Present(t.Context(), h.Pair.Leaf)
	catest.Must(t, err)
	first := o.Renewed(h)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, first.Serial, pki.CessationOfOperation, "wrong terminal")
	catest.Must(t, err)
	o.Advance(time.Minute)
	o.Fetch(h, o.Renewed(h).ID)
}

// links lets an application come from the site, so that its links open it, and another one
// wait for its confirmation.
func links(t *testing.T, o *catest.Office) {
	t.Helper()
	a := catest.Application(30)
	a.Department, a.Phone = "医事課", "011-000-0000"
	_, err := o.RA.Draft(t.Context(), ra.DraftInput{Flow: "typed", Application: a, Language: "ja"})
	catest.Must(t, err)
	token := mailed(o, "confirm")
	r, err := o.RA.Apply(t.Context(), token)
	catest.Must(t, err)
	catest.Must(t, o.RA.Withdraw(t.Context(), mailed(o, "receipt"), netip.MustParseAddr("192.0.2.7")))
	if o.Request(r.ID).State != pki.Cancelled {
		t.Fatal("the link does not withdraw")
	}
	a.Holder = catest.Holder(31)
	_, err = o.RA.Draft(t.Context(), ra.DraftInput{Flow: "later", Application: a, Language: "ja"})
	catest.Must(t, err)
}

// mailed is the token of the link in the newest mail of a kind.
func mailed(o *catest.Office, kind string) pki.Secret {
	o.T.Helper()
	db := o.Raw()
	defer func() { _ = db.Close() }()
	var args string
	catest.Must(o.T, db.QueryRow(`SELECT args FROM outbox WHERE kind = '`+kind+`' ORDER BY made_at DESC LIMIT 1`).Scan(&args))
	var said struct{ Path string }
	catest.Must(o.T, json.Unmarshal([]byte(args), &said))
	return pki.Secret(path.Base(said.Path))
}

// failures lets requests wait in every state between the approval and the issue, and one
// be given up and begin anew with another key.
func failures(t *testing.T, o *catest.Office) {
	t.Helper()
	away := pki.E(pki.Busy, "signer.away")
	stop := func(method string, n int) pki.Request {
		o.Signer.Once(method, catest.Before, func() error { return away })
		r := o.Submit(catest.Application(n))
		r, err := o.RA.Approve(t.Context(), catest.Approver, r.ID, r.ContentHash)
		catest.Must(t, err)
		return o.Request(r.ID)
	}
	stale := stop("SignIntents", 40)
	o.Advance(50 * time.Minute)
	for range 2 { // it fails with its intent, then it is taken up again
		catest.Must(t, o.CA.Recover(t.Context(), time.Minute))
	}
	if got := o.Request(stale.ID).State; got != pki.Issued {
		t.Fatalf("what was given up is %s", got)
	}
	if r := stop("SignIntents", 41); r.State != pki.Issuing {
		t.Fatalf("it is %s", r.State)
	}
	if r := stop("Hold", 42); r.State != pki.Generating {
		t.Fatalf("it is %s", r.State)
	}
	csr := catest.Application(43)
	csr.CSR = o.CSR(pki.P256)
	o.Issued(csr)
}

// revocations lets a letter's hold be lifted by two, and another wish of its holder be
// rejected by two.
func revocations(t *testing.T, o *catest.Office, r pki.Request) {
	t.Helper()
	for _, reason := range []pki.Reason{pki.KeyCompromise, pki.CessationOfOperation} {
		v, err := o.RA.AskRevocation(t.Context(), ra.RevocationInput{RevocationWay: ra.RevocationWay{RequestID: r.ID}, Flow: "flow " + reason.String(),
			Email: "typed@example.jp", Reason: reason, Language: "ja"})
		catest.Must(t, err)
		undo := o.RA.RejectRevocation
		if v.Held() {
			undo = o.RA.LiftRevocation
		}
		for _, officer := range []string{"officer-1", "officer-2"} {
			_, err = undo(t.Context(), catest.Actor(officer, pki.RoleOfficer), v.ID, o.CaseHash(v.ID), "asked by telephone")
			catest.Must(t, err)
		}
	}
}

// dates revokes from a day on, and says since when, by the word of two; another day stays
// ahead.
func dates(t *testing.T, o *catest.Office) {
	t.Helper()
	_, err := o.RA.RevokeDated(t.Context(), catest.Officer, o.Issued(catest.Application(8)).Serial, pki.AffiliationChanged,
		pki.RevocationDates{Effective: o.Now().AddDate(0, 0, 90)}, "a takeover")
	catest.Must(t, err)
	stolen := o.Issued(catest.Application(9))
	o.Advance(time.Hour)
	d, err := o.RA.RevokeDated(t.Context(), catest.Officer, stolen.Serial, pki.KeyCompromise,
		pki.RevocationDates{InvalidSince: o.Now().Add(-time.Minute)}, "stolen")
	catest.Must(t, err)
	o.Advance(time.Minute)
	_, err = o.RA.ApproveRevocation(t.Context(), catest.Actor("officer-2", pki.RoleOfficer), d.Revocation.ID, o.CaseHash(d.Revocation.ID), "seen")
	catest.Must(t, err)
}
