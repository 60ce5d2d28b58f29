package ra_test

import (
	"maps"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/ra"
)

// TestContactsAreTold: both addresses of a request hear of what is done with its
// certificate, each in a mail of its own, whichever office tells. The IDs of the mails are
// pinned: what an older version has put into the outbox must not leave once more.
func TestContactsAreTold(t *testing.T) {
	const maintenance = "vendor@example.jp"
	for name, row := range map[string]struct {
		maintenance string
		two         bool
	}{"two addresses": {maintenance, true}, "one person": {"clinic@example.jp", false}, "one address": {"", false}} {
		t.Run(name, func(t *testing.T) {
			o := catest.New(t, catest.Options{Activate: true})
			var all []pki.Request
			for n := range 4 {
				a := catest.Application(n + 1)
				a.MaintenanceEmail = row.maintenance
				all = append(all, o.Issued(a))
			}
			o.Advance(time.Minute)
			want := map[string]outboxMail{}
			tells := func(id, kind string, r pki.Request, more map[string]string) {
				args := map[string]string{"HolderCode": r.Application.Holder.Code, "Terminal": "受付1号機", "At": o.Now().Format(time.RFC3339)}
				maps.Copy(args, more)
				want[id] = outboxMail{id, kind, "clinic@example.jp", args}
				if row.two {
					want[id+"/maintenance"] = outboxMail{id + "/maintenance", kind, maintenance, args}
				}
			}
			lift := func(id string) {
				for _, by := range []pki.Actor{otherOfficer, thirdOfficer} {
					_, err := o.RA.LiftRevocation(t.Context(), by, id, o.CaseHash(id), "called back")
					catest.Must(t, err)
				}
			}

			r := all[0]
			v := asked(t, o, ask("1", pki.KeyCompromise, byLetter(r)))
			tells("revoked/"+r.Serial+"/certificateHold/2026-11-23T01:03:03Z", "revoked", r, map[string]string{"Reason": "certificateHold"})
			lift(v.ID)
			tells("lifted/"+v.ID, "lifted", r, nil)

			r = all[1]
			day := o.Now().AddDate(0, 0, 30)
			v = dated(t, o, r.Serial, pki.CessationOfOperation, ahead(day))
			tells("revocation_dated/"+v.ID, "revocation_dated", r, map[string]string{"At": day.Format(time.RFC3339), "Reason": "cessationOfOperation"})
			lift(v.ID)
			tells("revocation_undated/"+v.ID, "revocation_undated", r, nil)

			r = all[2]
			v = asked(t, o, ask("2", pki.CessationOfOperation, byLetter(r)))
			tells("revocation_asked/"+v.ID, "revocation_asked", r, map[string]string{"Number": v.ID, "Reason": "cessationOfOperation"})

			r = all[3]
			o.Set(pki.RenewalOpens(o.Certificate(r.Serial).NotAfter).Add(time.Hour))
			renewal, err := o.RA.Renew(t.Context(), ra.RenewInput{Leaf: o.Leaf(r.Serial), Source: catest.Pickup("", "").Source, Language: "ja"})
			catest.Must(t, err)
			tells("renewed/"+renewal.ID, "renewed", r, map[string]string{"RequestID": renewal.ID, "Source": catest.Pickup("", "").Source.String()})

			for _, m := range waiting(o) {
				if m.Address == "typed@example.jp" { // on the page: it is no contact
					continue
				}
				w, ok := want[m.ID]
				if !ok || m.Kind != w.Kind || m.Address != w.Address || !maps.Equal(m.Args, w.Args) {
					t.Errorf("mail %+v\nwant %+v", m, w)
				}
				delete(want, m.ID)
			}
			for id := range want {
				t.Errorf("no mail %s", id)
			}
		})
	}
}
