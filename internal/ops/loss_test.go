package ops_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// keyed is somebody with a key of the Operations CA.
type keyed struct {
	id   string
	key  crypto.Signer
	cert *x509.Certificate
}

func (k keyed) sign(text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	return k.key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func newKeyed(t *testing.T, o *catest.Office, id, profile string, roles ...pki.Role) keyed {
	t.Helper()
	k := keyed{id: id, key: o.Keyed(pki.P256)}
	var err error
	k.cert, err = o.CA.IssueOwn(t.Context(), profile, id+" operator", k.key.Public(), nil, nil)
	catest.Must(t, err)
	if len(roles) > 0 {
		catest.Must(t, o.Ops.AddOperator(t.Context(), pki.System("test"), pki.Operator{ID: id, Name: id,
			CertSHA256: o.Certificate(pki.SerialHex(k.cert.SerialNumber)).SHA256, Roles: roles}))
	}
	return k
}

// lostOffice is an office with two administrators and others, whose database was put back
// to the second checkpoint.
type lostOffice struct {
	*catest.Office
	admin, second, officer, gone, client, holder keyed

	signed pki.Checkpoint // what the signer remembers
	kept   int64          // number of the newest checkpoint that holds
	here   int64          // records
}

func newLostOffice(t *testing.T, engine string) *lostOffice {
	t.Helper()
	o := &lostOffice{Office: catest.New(t, catest.Options{Engine: engine})}
	o.admin = newKeyed(t, o.Office, "admin", issuance.ProfileOperator, pki.RoleAdmin)
	o.second = newKeyed(t, o.Office, "admin-2", issuance.ProfileOperator, pki.RoleAdmin)
	o.officer = newKeyed(t, o.Office, "officer", issuance.ProfileOperator, pki.RoleOfficer)
	o.gone = newKeyed(t, o.Office, "gone", issuance.ProfileOperator, pki.RoleAdmin)
	o.client = newKeyed(t, o.Office, "vendor", issuance.ProfileAPIClient)
	held := o.Keeping(catest.Application(1))
	o.holder = keyed{id: "holder", key: held.Pair.PrivateKey.(crypto.Signer), cert: held.Pair.Leaf}
	catest.Must(t, o.Ops.DisableOperator(t.Context(), catest.Admin, "gone"))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	catest.Must(t, things(o.Office, 3))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	older := o.AuditRows()
	o.kept, o.here = remembered(t, o.Office).Number, int64(len(older))
	for range 3 {
		catest.Must(t, things(o.Office, 4))
		catest.Must(t, o.Ops.Checkpoint(t.Context()))
	}
	o.signed = remembered(t, o.Office)
	o.Disarm()
	o.SQL(`DELETE FROM checkpoint WHERE number > 2`)
	o.Rebuild(older)
	return o
}

func (o *lostOffice) statement(t *testing.T, by ...keyed) ops.LossStatement {
	t.Helper()
	l, err := o.Ops.DraftLoss(t.Context(), "restored from the backup of yesterday")
	catest.Must(t, err)
	for _, k := range by {
		l = add(t, l, k)
	}
	return l
}

// add signs beside the office, which would refuse some.
func add(t *testing.T, l ops.LossStatement, k keyed) ops.LossStatement {
	t.Helper()
	signature, err := k.sign(l.Loss.Statement())
	catest.Must(t, err)
	l.Operators = append(l.Operators, k.id)
	l.Signatures = append(l.Signatures, pki.LossSignature{Certificate: k.cert.Raw, Signature: signature})
	return l
}

// TestThreatAU2Loss: the way on from records that are lost is the word of two
// administrators, and afterwards verify still tells of it.
func TestThreatAU2Loss(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		o := newLostOffice(t, engine)
		contradicts(t, o.Office, o.here)
		ctx := t.Context()
		l := o.statement(t)
		if l.Loss.Kept != o.kept || !l.Loss.Lost.Same(o.signed) || l.Loss.Next.Size != o.here || l.Loss.Next.Number != o.signed.Number+1 {
			t.Errorf("drafted %+v", l.Loss)
		}
		_, err := o.Ops.SignLoss(ctx, l, o.officer.id, o.officer.cert.Raw, o.officer.sign)
		catest.WantCode(t, err, "actor.forbidden")
		_, err = o.Ops.SignLoss(ctx, l, o.gone.id, o.gone.cert.Raw, o.gone.sign)
		catest.WantCode(t, err, "actor.unproved")
		_, err = o.Ops.SignLoss(ctx, l, o.admin.id, o.second.cert.Raw, o.second.sign)
		catest.WantCode(t, err, "actor.unproved")
		_, err = o.Ops.SignLoss(ctx, l, o.client.id, o.client.cert.Raw, o.client.sign)
		catest.WantCode(t, err, "actor.unproved")
		l, err = o.Ops.SignLoss(ctx, l, o.admin.id, o.admin.cert.Raw, o.admin.sign)
		catest.Must(t, err)
		catest.WantCode(t, o.Ops.AcceptLoss(ctx, l), "audit.loss_second")
		_, err = o.Ops.SignLoss(ctx, l, o.admin.id, o.admin.cert.Raw, o.admin.sign)
		catest.WantCode(t, err, "audit.loss_second")
		contradicts(t, o.Office, o.here) // nothing has changed yet
		l, err = o.Ops.SignLoss(ctx, l, o.second.id, o.second.cert.Raw, o.second.sign)
		catest.Must(t, err)
		catest.Must(t, o.Ops.AcceptLoss(ctx, l))
		catest.Must(t, o.Ops.AcceptLoss(ctx, l)) // a second press

		catest.Must(t, things(o.Office, 4))
		catest.Must(t, things(o.Node(t, o.DSN), 1))
		catest.Must(t, o.Ops.Checkpoint(ctx))
		lossIsTold(t, o, 1)
		if n := o.Count(`audit WHERE kind = 'audit.loss_accepted' AND actor = 'admin-2' AND auth = 'key'`); n != 1 {
			t.Errorf("%d records of the loss", n)
		}
		_, err = o.Ops.DraftLoss(ctx, "again")
		catest.WantCode(t, err, "audit.no_loss")

		// What is here now is followed as before.
		rows := o.AuditRows()
		rows[o.here-1].Actor = "somebody"
		o.Rebuild(rows)
		contradicts(t, o.Office, o.here-1)
	})
}

// lossIsTold wants a verdict without findings that names the losses.
func lossIsTold(t *testing.T, o *lostOffice, losses int) {
	t.Helper()
	v, err := o.Ops.Verify(t.Context())
	catest.Must(t, err)
	if !v.Tree.OK() || len(v.Tree.Losses) != losses || v.Tree.Losses[0].Lost.Size != o.signed.Size || v.Tree.Losses[0].Reason == "" {
		t.Errorf("afterwards: %+v", v.Tree)
	}
}

// TestThreatAU2LossRefused: what the signer itself refuses, whoever runs the edge.
func TestThreatAU2LossRefused(t *testing.T) {
	o := newLostOffice(t, store.SQLite)
	stranger := o.admin
	stranger.key = o.Keyed(pki.P256)
	for _, row := range []struct {
		name string
		make func() ops.LossStatement
		code string
	}{
		{"nobody", func() ops.LossStatement { return o.statement(t) }, "signer.loss"},
		{"one", func() ops.LossStatement { return o.statement(t, o.admin) }, "signer.loss"},
		{"one twice", func() ops.LossStatement { return o.statement(t, o.admin, o.admin) }, "signer.loss"},
		{"a holder", func() ops.LossStatement { return o.statement(t, o.admin, o.holder) }, "signer.loss"},
		{"another key", func() ops.LossStatement { return o.statement(t, o.second, stranger) }, "signer.loss"},
		{"a certificate that is none", func() ops.LossStatement {
			l := o.statement(t, o.admin, o.second)
			l.Signatures[1].Certificate = []byte("none")
			return l
		}, "signer.loss"},
		{"another reason than was signed", func() ops.LossStatement {
			l := o.statement(t, o.admin, o.second)
			l.Loss.Reason = "another"
			return l
		}, "signer.loss"},
		{"another tree than was signed", func() ops.LossStatement {
			l := o.statement(t, o.admin, o.second)
			l.Loss.Next.Root[0] ^= 1
			return l
		}, "signer.loss"},
		{"no reason", func() ops.LossStatement {
			l := o.statement(t)
			l.Loss.Reason = ""
			return add(t, add(t, l, o.admin), o.second)
		}, "signer.loss"},
		{"another instance", func() ops.LossStatement {
			l := o.statement(t)
			l.Loss.Instance = "other"
			return add(t, add(t, l, o.admin), o.second)
		}, "signer.loss"},
		{"of another day", func() ops.LossStatement {
			l := o.statement(t)
			l.Loss.At = l.Loss.At.Add(-25 * time.Hour)
			return add(t, add(t, l, o.admin), o.second)
		}, "signer.loss"},
		{"what the signer does not remember", func() ops.LossStatement {
			l := o.statement(t)
			l.Loss.Lost.Size++
			return add(t, add(t, l, o.admin), o.second)
		}, "signer.tree_moved"},
		{"a number that is used", func() ops.LossStatement {
			l := o.statement(t)
			l.Loss.Next.Number = l.Loss.Lost.Number
			return add(t, add(t, l, o.admin), o.second)
		}, "signer.tree_moved"},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := row.make()
			catest.WantCode(t, o.Signer.Client.AcceptLoss(t.Context(), l.Loss, l.Signatures), row.code)
			if now := remembered(t, o.Office); !now.Same(o.signed) {
				t.Errorf("the signer remembers %+v", now)
			}
		})
	}
	_, err := o.Ops.DraftLoss(t.Context(), strings.Repeat("理", 200))
	catest.WantCode(t, err, "audit.loss_reason")
	for _, raw := range []string{"", "{", "{}", `{"operators":["a"],"loss":{"next":{"number":1}}}`, `{"loss":{"lost":{"number":1,"size":1,"root":"AA=="}}}`} {
		_, err = ops.ReadLossStatement([]byte(raw))
		catest.WantCode(t, err, "audit.loss_file")
	}
}

// A signer that accepted and whose answer was lost, an office that died before it
// recorded: the next one who looks records it, and repeating does no harm.
func TestLossFaults(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for n := range 8 {
			for _, when := range []catest.When{catest.Before, catest.After} {
				o := newLostOffice(t, engine)
				l := o.statement(t, o.admin, o.second)
				o.Steps.Fail(n, when)
				err := o.Ops.AcceptLoss(t.Context(), l)
				steps, pending := o.Steps.Taken()
				if err == nil && !pending && n < len(steps) {
					t.Errorf("step %d of %v failed (%s), and nobody heard", n, steps, when)
				}
				if when == catest.After && errors.Is(err, pki.ErrConflict) {
					t.Errorf("step %d: %v", n, err)
				}
				catest.Must(t, o.Ops.AcceptLoss(t.Context(), l))
				catest.Must(t, o.Ops.Checkpoint(t.Context()))
				lossIsTold(t, o, 1)
				if n := o.Count(`audit WHERE kind = 'audit.loss_accepted'`); n != 1 {
					t.Errorf("%d records of the loss", n)
				}
			}
			if testing.Short() {
				break
			}
		}
	})
}

// What is lost twice is told twice.
func TestLostTwice(t *testing.T) {
	o := newLostOffice(t, store.SQLite)
	catest.Must(t, o.Ops.AcceptLoss(t.Context(), o.statement(t, o.admin, o.second)))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	older := o.AuditRows()
	catest.Must(t, things(o.Office, 4))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	catest.Must(t, things(o.Office, 4))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	o.Rebuild(older)
	contradicts(t, o.Office, int64(len(older)))
	catest.Must(t, o.Ops.AcceptLoss(t.Context(), o.statement(t, o.admin, o.second)))
	catest.Must(t, things(o.Office, 1))
	catest.Must(t, o.Ops.Checkpoint(t.Context()))
	lossIsTold(t, o, 2)
}
