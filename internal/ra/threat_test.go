package ra_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store/storetest"
)

var engines = storetest.Engines

// TestThreatAP5: no single person brings a certificate into being, whatever way the
// request came, and the database refuses it too.
func TestThreatAP5(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			site, err := o.RA.Submit(t.Context(), catest.Site, ra.Submission{Source: pki.FromSite, Application: catest.Application(1)})
			catest.Must(t, err)
			r, err := o.RA.Approve(t.Context(), catest.Approver, site.ID, site.ContentHash)
			catest.Must(t, err)
			if r.State != pki.Reviewing || r.CheckedBy != catest.Approver.ID {
				t.Fatalf("the first yes made it %s, checked by %q", r.State, r.CheckedBy)
			}
			_, err = o.RA.Approve(t.Context(), catest.Approver, site.ID, site.ContentHash)
			catest.WantCode(t, err, "request.same_person")
			o.Refused(`UPDATE request SET approved_by = checked_by, state = 'approved' WHERE id = $1`, site.ID)
			o.Refused(`UPDATE request SET state = 'approved' WHERE id = $1`, site.ID)
			o.Refused(`UPDATE request SET approved_by = 'ghost', checked_by = '', state = 'approved' WHERE id = $1`, site.ID)
			r, err = o.RA.Approve(t.Context(), catest.Second, site.ID, site.ContentHash)
			catest.Must(t, err)
			if r.State != pki.Issued {
				t.Errorf("two persons: %s", r.State)
			}

			both := catest.Actor("both", pki.RoleIntake, pki.RoleApprover)
			own, err := o.RA.Submit(t.Context(), both, ra.Submission{Source: pki.FromOperator, Application: catest.Application(2)})
			catest.Must(t, err)
			_, err = o.RA.Approve(t.Context(), both, own.ID, own.ContentHash)
			catest.WantCode(t, err, "request.same_person")

			err = o.Ops.AddOperator(t.Context(), pki.System("test"), pki.Operator{ID: "puppet", Name: "puppet", CertSHA256: "00", Roles: []pki.Role{pki.RoleApprover, pki.RoleLetters}})
			catest.WantCode(t, err, "operator.role_conflict")
			catest.Must(t, o.Ops.AddOperator(t.Context(), pki.System("test"), pki.Operator{ID: "puppet", Name: "puppet", CertSHA256: "00", Roles: []pki.Role{pki.RoleApprover}}))
			o.Refused(`INSERT INTO operator_role (operator, role) VALUES ('puppet', 'letters')`)
			o.Refused(`DELETE FROM role_conflict`)
		})
	}
}

// TestThreatAP6: everybody who ever edited is excluded from approving.
func TestThreatAP6(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine})
			r := o.Submit(catest.Application(1))
			_, err := o.RA.Return(t.Context(), catest.Approver, r.ID, "which desk?")
			catest.Must(t, err)
			editor := catest.Actor("editor", pki.RoleIntake, pki.RoleApprover)
			a := r.Application
			a.TerminalName = "受付8号機"
			r, err = o.RA.Correct(t.Context(), editor, r.ID, r.ContentHash, a)
			catest.Must(t, err)
			_, err = o.RA.Approve(t.Context(), catest.Actor("intake", pki.RoleApprover), r.ID, r.ContentHash)
			catest.WantCode(t, err, "request.same_person") // nor does who entered it
			_, err = o.RA.Approve(t.Context(), editor, r.ID, r.ContentHash)
			catest.WantCode(t, err, "request.same_person")
			o.Refused(`UPDATE request SET approved_by = 'editor', state = 'approved' WHERE id = $1`, r.ID)
			o.Refused(`DELETE FROM request_editor`)
			r, err = o.RA.Approve(t.Context(), catest.Approver, r.ID, r.ContentHash)
			catest.Must(t, err)
			if r.State != pki.Issued {
				t.Errorf("the second person: %s", r.State)
			}
		})
	}
}

// TestThreatAP7: an approval is of exactly the content that was shown.
func TestThreatAP7(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Submit(catest.Application(1))
	shown := r.ContentHash
	a := r.Application
	a.Email = "other@example.jp"
	now, err := o.RA.Correct(t.Context(), catest.Actor("editor", pki.RoleIntake), r.ID, shown, a)
	catest.Must(t, err)
	_, err = o.RA.Approve(t.Context(), catest.Approver, r.ID, shown)
	catest.WantCode(t, err, "request.changed")
	_, err = o.RA.Correct(t.Context(), catest.Actor("editor-2", pki.RoleIntake), r.ID, shown, a)
	catest.WantCode(t, err, "request.changed")
	for _, seen := range []string{"", shown} { // nobody decides without a look
		_, err = o.RA.Approve(t.Context(), catest.Approver, r.ID, seen)
		catest.WantCode(t, err, "request.changed")
		_, err = o.RA.Reject(t.Context(), catest.Approver, r.ID, seen, "")
		catest.WantCode(t, err, "request.changed")
	}
	if o.Request(r.ID).State != pki.Received {
		t.Error("a stale decision moved the request")
	}
	_, err = o.RA.Approve(t.Context(), catest.Approver, r.ID, now.ContentHash)
	catest.Must(t, err)
	o.Refused(`UPDATE request SET terminal_name = 'another' WHERE id = $1`, r.ID)
}

// TestThreatAP12: an API client acts within a standing approval of two persons, and
// not a unit beyond it.
func TestThreatAP12(t *testing.T) {
	o := catest.New(t, catest.Options{})
	client := o.Client("vendor")
	issue := func(key string, h pki.Holder) error {
		_, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(client), client, o.Call(key, h))
		return err
	}
	catest.WantCode(t, issue("none", catest.Holder(1)), "grant.none")

	draft, err := o.RA.MakeGrant(t.Context(), catest.Admin, pki.Grant{ClientID: client.ID, PerDay: 2, Total: 3,
		Kinds: []pki.HolderKind{catest.Holder(1).Kind}, Prefectures: []string{catest.Holder(1).Prefecture()}, EndsAt: o.Now().AddDate(0, 0, 30)})
	catest.Must(t, err)
	catest.WantCode(t, issue("draft", catest.Holder(1)), "grant.exhausted")
	catest.WantCode(t, o.RA.ApproveGrant(t.Context(), catest.Admin, draft.ID, draft.Hash()), "grant.same_person")
	o.Refused(`UPDATE issue_grant SET approved_by = made_by WHERE id = $1`, draft.ID)
	o.Refused(`UPDATE issue_grant SET total = 1000000 WHERE id = $1`, draft.ID)
	larger := draft
	larger.Total = 4
	catest.WantCode(t, o.RA.ApproveGrant(t.Context(), catest.Approver, draft.ID, larger.Hash()), "grant.changed")
	catest.WantCode(t, o.RA.ApproveGrant(t.Context(), catest.Approver, draft.ID, ""), "grant.changed")
	catest.Must(t, o.RA.ApproveGrant(t.Context(), catest.Approver, draft.ID, draft.Hash()))

	dental := pki.Holder{Kind: pki.Dental, Code: "013000000" + string(pki.CheckDigit("013000000"))}
	tokyo := pki.Holder{Kind: pki.Medical, Code: "131000000" + string(pki.CheckDigit("131000000"))}
	catest.WantCode(t, issue("kind", dental), "grant.exhausted")
	catest.WantCode(t, issue("prefecture", tokyo), "grant.exhausted")
	catest.Must(t, issue("1", catest.Holder(1)))
	catest.Must(t, issue("2", catest.Holder(1)))
	catest.WantCode(t, issue("3", catest.Holder(1)), "grant.exhausted") // of the day
	o.Advance(24 * time.Hour)

	// The last unit, wanted by eight at once.
	var wait sync.WaitGroup
	var mu sync.Mutex
	var done int
	for n := range 8 {
		wait.Go(func() {
			err := issue("last "+string(rune('a'+n)), catest.Holder(1))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done++
			} else if pki.CodeOf(err) != "grant.exhausted" {
				t.Errorf("got %v", err)
			}
		})
	}
	wait.Wait()
	if done != 1 {
		t.Errorf("the last unit served %d", done)
	}

	second := o.Grant(pki.Grant{ClientID: client.ID, PerDay: 10, Total: 10, EndsAt: o.Now().AddDate(0, 0, 1)})
	catest.Must(t, issue("new grant", catest.Holder(1)))
	catest.Must(t, o.RA.RevokeGrant(t.Context(), catest.Admin, second.ID))
	catest.WantCode(t, issue("revoked", catest.Holder(1)), "grant.exhausted")
	third := o.Grant(pki.Grant{ClientID: client.ID, PerDay: 10, Total: 10, EndsAt: o.Now().AddDate(0, 0, 1)})
	o.Advance(48 * time.Hour)
	catest.WantCode(t, issue("over", catest.Holder(1)), "grant.exhausted")
	o.Refused(`UPDATE issue_grant SET ends_at = 4102444800000000 WHERE id = $1`, third.ID)
}

// TestThreatLE3: a letter's IDs work only after the letter left; used before, nothing
// is handed out and an alarm is raised.
func TestThreatLE3(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	ref := o.Reference(r.ID)
	_, err := o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
	catest.WantCode(t, err, "pickup.not_dispatched")
	if !strings.Contains(o.Log.String(), "alarm") || !strings.Contains(strings.Join(o.Kinds(r.ID), " "), "letter.read_early") {
		t.Error("no alarm, or no record")
	}
	if o.Count("ticket WHERE request = $1", r.ID) != 0 || !o.Request(r.ID).FetchedAt.IsZero() {
		t.Error("a file was laid ready")
	}
	o.Dispatch(r.ID)
	ticket, err := o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
	catest.Must(t, err)
	_, file, err := o.RA.PickupFile(t.Context(), ticket, catest.Pickup(r.ID, ref).CookieHash)
	catest.Must(t, err)
	if len(file) < 1000 {
		t.Errorf("the file has %d bytes", len(file))
	}
}

// TestThreatDL4: before both IDs are right every cause is the same refusal; afterwards
// each state has its own.
func TestThreatDL4(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	ref := o.Reference(r.ID)
	prepare := func(id string, ref pki.Secret, change func(*ra.PickupInput)) error {
		in := catest.Pickup(id, ref)
		if change != nil {
			change(&in)
		}
		_, err := o.RA.PreparePickup(t.Context(), in)
		return err
	}
	for name, err := range map[string]error{
		"unknown request":      prepare("202611240099999", ref, nil),
		"wrong reference":      prepare(r.ID, pki.NewReferenceID(), nil),
		"other case":           prepare(r.ID, pki.Secret(swapCase(ref.Reveal())), nil),
		"malformed":            prepare("x", "y", nil),
		"wrong, and PIN wrong": prepare(r.ID, pki.NewReferenceID(), func(in *ra.PickupInput) { in.PIN = "12" }),
	} {
		if pki.CodeOf(err) != "pickup.wrong_ids" || err.Error() != "pickup.wrong_ids" {
			t.Errorf("%s: %v", name, err)
		}
	}
	catest.WantCode(t, prepare(r.ID, ref, func(in *ra.PickupInput) { in.PIN, in.PINConfirm = "12345", "12345" }), "pickup.pin_form")
	catest.WantCode(t, prepare(r.ID, ref, func(in *ra.PickupInput) { in.PINConfirm = "4321" }), "pickup.pin_differs")
	catest.Must(t, prepare(r.ID, ref, nil))

	cancelled := o.Issued(catest.Application(2))
	cancelledRef := o.Reference(cancelled.ID)
	_, err := o.RA.Cancel(t.Context(), catest.Intake, cancelled.ID, "twice")
	catest.Must(t, err)
	o.Advance(time.Second)
	catest.WantCode(t, prepare(cancelled.ID, cancelledRef, nil), "pickup.cancelled")
	if c := o.Certificate(cancelled.Serial); c.State(o.Now()) != pki.Revoked {
		t.Errorf("the cancelled certificate is %s", c.State(o.Now()))
	}
	_, err = o.RA.Cancel(t.Context(), catest.Intake, r.ID, "late")
	catest.WantCode(t, err, "request.fetched")

	revoked := o.Issued(catest.Application(3))
	revokedRef := o.Reference(revoked.ID)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, revoked.Serial, pki.KeyCompromise, "")
	catest.Must(t, err)
	o.Advance(time.Second)
	catest.WantCode(t, prepare(revoked.ID, revokedRef, nil), "pickup.revoked")

	late := o.Issued(catest.Application(4))
	lateRef := o.Reference(late.ID)
	o.Set(late.Downloads.Add(time.Second))
	catest.WantCode(t, prepare(late.ID, lateRef, nil), "pickup.deadline")
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ToUpper(string(r)) == string(r) {
			return []rune(strings.ToLower(string(r)))[0]
		}
		return []rune(strings.ToUpper(string(r)))[0]
	}, s)
}

// TestThreatDL7 : a ticket works in the browser that asked, ten minutes, three times,
// and not once the certificate is revoked.
func TestThreatDL7(t *testing.T) {
	o := catest.New(t, catest.Options{Activate: true})
	r := o.Issued(catest.Application(1))
	in := catest.Pickup(r.ID, o.Reference(r.ID))
	fetch := func(ticket pki.Secret, cookie [32]byte) error {
		_, _, err := o.RA.PickupFile(t.Context(), ticket, cookie)
		return err
	}
	ticket, err := o.RA.PreparePickup(t.Context(), in)
	catest.Must(t, err)
	catest.WantCode(t, fetch(ticket, [32]byte{9}), "ticket.foreign")
	catest.WantCode(t, fetch(ticket[:len(ticket)-2]+"AA", in.CookieHash), "ticket.unknown")
	for range ra.TicketUses {
		catest.Must(t, fetch(ticket, in.CookieHash))
	}
	catest.WantCode(t, fetch(ticket, in.CookieHash), "ticket.over")
	ticket, err = o.RA.PreparePickup(t.Context(), in)
	catest.Must(t, err)
	o.Advance(ra.TicketLife + time.Second)
	catest.WantCode(t, fetch(ticket, in.CookieHash), "ticket.over")
	ticket, err = o.RA.PreparePickup(t.Context(), in)
	catest.Must(t, err)
	_, err = o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, "")
	catest.Must(t, err)
	catest.WantCode(t, fetch(ticket, in.CookieHash), "pickup.revoked")
	_, err = o.RA.PickupPage(t.Context(), ticket, in.CookieHash)
	catest.WantCode(t, err, "pickup.revoked")
}

// TestThreatCO4: what a role does not permit is refused, for every act.
func TestThreatCO4(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	acts := map[pki.Permission]func(by pki.Actor) error{
		pki.MaySubmit: func(by pki.Actor) error {
			_, err := o.RA.Submit(t.Context(), by, ra.Submission{Source: pki.FromOperator, Application: catest.Application(9)})
			return err
		},
		pki.MayReadRequests: func(by pki.Actor) error { _, err := o.RA.Show(t.Context(), by, r.ID); return err },
		pki.MayApprove: func(by pki.Actor) error {
			r := o.Submit(catest.Application(8))
			_, err := o.RA.Approve(t.Context(), by, r.ID, r.ContentHash)
			return err
		},
		pki.MayReject: func(by pki.Actor) error {
			r := o.Submit(catest.Application(7))
			_, err := o.RA.Reject(t.Context(), by, r.ID, r.ContentHash, "")
			return err
		},
		pki.MayCancel: func(by pki.Actor) error {
			_, err := o.RA.Cancel(t.Context(), by, o.Submit(catest.Application(6)).ID, "")
			return err
		},
		pki.MayDispatch: func(by pki.Actor) error { _, err := o.RA.Dispatch(t.Context(), by, r.ID); return err },
		pki.MayExtend: func(by pki.Actor) error {
			_, err := o.RA.Extend(t.Context(), by, r.ID, r.Downloads.AddDate(0, 0, 9))
			return err
		},
		pki.MayRevoke: func(by pki.Actor) error {
			_, err := o.RA.Revoke(t.Context(), by, o.Issued(catest.Application(5)).Serial, pki.Unspecified, "")
			return err
		},
		pki.MayGrant: func(by pki.Actor) error {
			_, err := o.RA.MakeGrant(t.Context(), by, pki.Grant{ClientID: "vendor", PerDay: 1, Total: 1, EndsAt: o.Now().AddDate(0, 0, 1)})
			return err
		},
	}
	o.Client("vendor")
	for _, role := range append(pki.Roles(), "nobody") {
		by := catest.Actor("someone-"+string(role), role)
		for permission, act := range acts {
			err := act(by)
			if refused := pki.CodeOf(err) == "actor.forbidden" && err != nil; refused == by.May(permission) {
				t.Errorf("%s, %s: %v", role, permission, err)
			}
		}
	}
}
