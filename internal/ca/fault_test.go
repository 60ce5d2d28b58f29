package ca_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// work is one piece of an office's work, with a subject of its own.
type work struct {
	do    func() error // what fails
	again func() error // what its caller, or the background worker, does then
	// check checks what must be true once again has worked, and at once where do says
	// that it has.
	check func()
}

// works make a piece of work ready; n is another one each time.
var works = map[string]func(t *testing.T, o *catest.Office, n int) work{
	"issue": func(t *testing.T, o *catest.Office, n int) work {
		r := o.Approved(catest.Application(n))
		return work{
			do: func() error {
				_, err := o.CA.Issue(t.Context(), r.ID)
				return err
			},
			again: func() error {
				o.Advance(time.Minute)
				return o.CA.Recover(t.Context(), 15*time.Second)
			},
			check: func() { whole(t, o, r.ID) },
		}
	},
	"API": func(t *testing.T, o *catest.Office, n int) work {
		client := o.Client(fmt.Sprint("vendor-", n))
		grant := o.Grant(pki.Grant{ClientID: client.ID})
		call := o.Call("one", catest.Holder(n))
		do := func() error {
			_, err := o.RA.IssueByGrant(t.Context(), catest.ByClient(client), client, call)
			return err
		}
		return work{do: do, again: do, check: func() {
			want(t, o, 1, "certificate c JOIN request r ON r.id = c.request WHERE r.client_id = $1", client.ID)
			want(t, o, 1, "issue_grant WHERE id = $1 AND used = 1", grant.ID)
			want(t, o, 0, "intent WHERE state <> 'done'")
		}}
	},
	"own certificate": func(t *testing.T, o *catest.Office, n int) work {
		name := fmt.Sprint("operator ", n)
		do := func() error {
			_, err := o.CA.IssueOwn(t.Context(), issuance.ProfileOperator, name, o.Keyed(pki.P256).Public(), nil, nil)
			return err
		}
		return work{do: do,
			again: func() error {
				o.Advance(time.Minute)
				return errors.Join(o.CA.Recover(t.Context(), 15*time.Second), do())
			},
			check: func() {
				want(t, o, 0, "intent WHERE state <> 'done'")
				want(t, o, 0, "intent i WHERE NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = i.serial)")
			}}
	},
	"download": func(t *testing.T, o *catest.Office, n int) work {
		r := o.Issued(catest.Application(n))
		ref := o.Reference(r.ID)
		o.Dispatch(r.ID)
		do := func() error {
			ticket, err := o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
			if err != nil {
				return err
			}
			_, file, err := o.RA.PickupFile(t.Context(), ticket, catest.Cookie)
			if err == nil && len(file) == 0 {
				t.Error("the file is empty")
			}
			return err
		}
		return work{do: do, again: do, check: func() {
			want(t, o, 1, "outbox WHERE request = $1 AND kind = 'downloaded'", r.ID)
			want(t, o, 1, "sealed_key WHERE request = $1 AND stage = 'held'", r.ID)
		}}
	},
	"revocation": func(t *testing.T, o *catest.Office, n int) work {
		r := o.Issued(catest.Application(n))
		do := func() error {
			_, err := o.RA.Revoke(t.Context(), catest.Officer, r.Serial, pki.KeyCompromise, "test")
			return err
		}
		return work{do: do,
			again: func() error {
				err := do()
				if pki.CodeOf(err) == "certificate.revoked_already" {
					return nil
				}
				return err
			},
			check: func() { revokedOnce(t, o, r) }}
	},
	"CRL": func(t *testing.T, o *catest.Office, n int) work {
		r := o.Issued(catest.Application(n))
		revoke(t, o, r.Serial, pki.KeyCompromise)
		before := len(publishedNumbers(o))
		o.Advance(time.Second)
		do := func() error {
			_, err := o.CA.PublishCRL(t.Context(), issuance.G1)
			return err
		}
		return work{do: do, again: do, check: func() {
			numbers := publishedNumbers(o)
			if len(numbers) == before {
				t.Error("no CRL was published")
			}
			for i := 1; i < len(numbers); i++ {
				if numbers[i] <= numbers[i-1] {
					t.Errorf("published in this order: %v", numbers)
				}
			}
			want(t, o, 1, "crl WHERE issuer = 'g1' AND number = $1", numbers[len(numbers)-1])
		}}
	},
	"sweep": func(t *testing.T, o *catest.Office, n int) work {
		r := o.Issued(catest.Application(n))
		o.Set(r.Downloads.Add(time.Second))
		do := func() error {
			_, err := o.CA.Sweep(t.Context())
			return err
		}
		return work{do: do, again: do, check: func() { revokedOnce(t, o, r) }}
	},
	"pool": func(t *testing.T, o *catest.Office, _ int) work {
		o.CA.PoolSize += 2
		do := func() error { return o.CA.FillPool(t.Context()) }
		return work{do: do, again: do, check: func() {
			want(t, o, o.CA.PoolSize, "sealed_key WHERE stage = 'pool'")
			want(t, o, 0, "sealed_key k WHERE NOT EXISTS (SELECT 1 FROM public_key p WHERE p.spki_sha256 = k.spki_sha256 AND p.owner = 'key/' || k.id)")
		}}
	},
	"checkpoint": func(t *testing.T, o *catest.Office, n int) work {
		o.Submit(catest.Application(n))
		do := func() error { return o.Ops.Checkpoint(t.Context()) }
		return work{do: do, again: do, check: func() {
			want(t, o, 1, "checkpoint c JOIN audit_tree a ON a.size = c.size")
		}}
	},
}

func want(t *testing.T, o *catest.Office, n int, from string, args ...any) {
	t.Helper()
	got := o.Count(from, args...)
	if got != n {
		t.Errorf("%d of %s, want %d", got, from, n)
	}
}

// revokedOnce: the certificate is revoked, its key is gone, its holder hears of it, and
// all that once.
func revokedOnce(t *testing.T, o *catest.Office, r pki.Request) {
	t.Helper()
	want(t, o, 1, "certificate WHERE serial = $1 AND revoked_at <> 0 AND crl_entry IS NOT NULL", r.Serial)
	want(t, o, 1, "audit WHERE subject = $1 AND kind = 'certificate.revoked'", r.Serial)
	want(t, o, 1, "audit WHERE subject = $1 AND kind = 'key.destroyed'", r.ID)
	want(t, o, 1, "sealed_key WHERE request = $1 AND stage = 'destroyed'", r.ID)
	want(t, o, 1, "outbox WHERE request = $1 AND kind = 'revoked'", r.ID)
}

// Invariant 2 at every outside step of every piece of work: the COMMIT, or the call of
// the signer, fails, or its answer is lost though it took effect. The steps are those
// that the work is seen to take, so that a new one is in the table by itself.
func TestFailedButTookEffect(t *testing.T) {
	testkit.Long(t, "half a minute: the whole suite runs it")
	for _, engine := range storetest.Engines {
		for name, prepare := range works {
			t.Run(engine+"/"+name, func(t *testing.T) {
				o := catest.New(t, catest.Options{Engine: engine})
				n := 1
				w := prepare(t, o, n)
				o.Steps.Taken() // forget what came before
				must(t, w.do())
				steps, _ := o.Steps.Taken()
				if len(steps) == 0 {
					t.Fatal("the work takes no steps: the table is empty")
				}
				w.check()
				for at, step := range steps {
					for _, when := range []catest.When{catest.Before, catest.After} {
						n++
						t.Run(fmt.Sprintf("%d %s/%s", at+1, step, when), func(t *testing.T) { fault(t, o, prepare, n, at, when) })
					}
				}
				verify(t, o)
			})
		}
	}
}

// fault lets one step of a piece of work fail.
func fault(t *testing.T, o *catest.Office, prepare func(*testing.T, *catest.Office, int) work, n, at int, when catest.When) {
	w := prepare(t, o, n)
	o.Steps.Fail(at, when)
	err := w.do()
	_, pending := o.Steps.Taken()
	if pending {
		t.Fatal("the step did not come")
	}
	if err == nil {
		w.check() // who says that it worked must be right
	}
	must(t, w.again())
	w.check()
	must(t, w.again()) // and once more changes nothing
	w.check()
}

// verify checks the audit tree.
func verify(t *testing.T, o *catest.Office) {
	t.Helper()
	info, err := o.Signer.Info(t.Context())
	must(t, err)
	report, err := o.DB.VerifyAudit(t.Context(), ops.Head(info), nil)
	must(t, err)
	if !report.OK() {
		t.Errorf("the audit tree is broken: %+v", report.Findings)
	}
}
