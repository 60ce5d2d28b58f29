package kill

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/internal/pki"
)

// beforehand is no point: the signer is away before the officer begins.
const beforehand = "beforehand"

// signerless are the points of a revocation, and what the officer does. At each, the
// signer is stopped (SIGSTOP) or killed, and nobody else: the officer's command succeeds
// all the same. While the signer is away, OCSP answers by what was committed, and by
// nothing else; when it is back, the CRL holds that by itself (threat RV2).
var signerless = []row{
	{beforehand, "revoke"},
	{beforehand, "final"},
	{beforehand, "lift"},
	{beforehand, "dated"},
	{"revoke before commit", "revoke"},
	{"revoke after commit", "revoke"},
	{"crl.1 before the signer", "revoke"},
	{"signer.crl admitted", "revoke"},
	{"signer.crl journaled", "revoke"},
	{"signer.crl signed", "revoke"},
	{"crl.1 after the signer", "revoke"},
	{"crl.2 before commit", "revoke"},
	{"crl.2 after commit", "revoke"},
	{"revocation.2 before commit", "final"},
	{"revocation.2 after commit", "final"},
	{"revocation.3 before commit", "lift"},
	{"revocation.3 after commit", "lift"},
	{"revocation.5 before commit", "dated"},
	{"revocation.5 after commit", "dated"},
}

// withoutSigner goes through the rows. Each engine stops the signer at every second one and
// kills it at the others.
func (p *plant) withoutSigner(t *testing.T, turn int) {
	began := time.Now()
	for n, r := range signerless {
		how := []string{"stop", "kill"}[(n+turn)%2]
		if !t.Run("signer "+how+" at "+r.name(false), func(t *testing.T) { p.without(t, r, how) }) {
			return
		}
	}
	t.Logf("%d decisions without the signer in %v", len(signerless), time.Since(began).Round(time.Second))
	must(t, p.check())
}

// decision is something that an officer does about a certificate.
type decision struct {
	serial        string
	before, after pki.Reason // as responder and list have it
	do            func() error
}

// decisions prepare what the steps of that name do.
var decisions = map[string]func(p *plant) (decision, error){
	"revoke": func(p *plant) (decision, error) {
		o, err := p.ordered()
		return decision{o.serial, works, pki.KeyCompromise, func() error {
			_, err := p.as("officer", "revoke", o.serial, "--reason", "keyCompromise")
			return err
		}}, err
	},
	"dated": func(p *plant) (decision, error) {
		o, err := p.ordered()
		since := time.Now().UTC().Format(time.RFC3339)
		return decision{o.serial, works, pki.CertificateHold, func() error {
			_, err := p.as("officer", "revoke", o.serial, "--reason", "keyCompromise", "--invalid-since", since, "--why", "stolen")
			return err
		}}, err
	},
	"final": func(p *plant) (decision, error) {
		r, err := p.undecided(pki.KeyCompromise)
		if err != nil {
			return decision{}, err
		}
		return decision{r.Serial, pki.CertificateHold, pki.KeyCompromise, func() error {
			_, err := p.decides("officer", "revocation", "approve", r.number)
			return err
		}}, nil
	},
	"lift": func(p *plant) (decision, error) {
		r, err := p.undecided(pki.KeyCompromise)
		if err != nil {
			return decision{}, err
		}
		_, err = p.decides("officer", "revocation", "lift", r.number)
		return decision{r.Serial, pki.CertificateHold, works, func() error {
			_, err := p.decides("deputy", "revocation", "lift", r.number)
			return err
		}}, err
	},
}

// ordered gives a certificate of a program's.
func (p *plant) ordered() (*order, error) {
	o, err := newOrder()
	if err != nil {
		return o, err
	}
	return o, p.post(o)
}

// without lets a decision be made while the signer is stopped or killed at a point of it.
func (p *plant) without(t *testing.T, r row, how string) {
	p.note("row %s", t.Name())
	bystander, err := p.ordered()
	must(t, err)
	d, err := decisions[r.step](p)
	must(t, err)
	must(t, persist(func() error { return p.shows(d.serial, d.before) }))
	switch {
	case r.point != beforehand:
		must(t, p.armFor(r.point, fmt.Sprintf("%s %d", how, p.signer.cmd.Process.Pid)))
	case how == "kill":
		p.signer.kill()
	default:
		must(t, p.signer.cmd.Process.Signal(syscall.SIGSTOP))
		must(t, p.away(how))
	}
	err = d.do()
	if err != nil {
		t.Errorf("the officer's command needs the signer: %v", err)
	}
	if d.after != works {
		p.Lock()
		p.revoked[d.serial] = time.Now()
		p.Unlock()
	}
	must(t, p.away(how))
	must(t, eventually(10*time.Second, func() error { return p.says(d.serial, d.after) }))
	must(t, p.says(bystander.serial, works))
	if p.serve.gone() {
		t.Fatal("serve has ended")
	}
	p.back(t, how)
	must(t, p.becomes(d.serial, d.after))
	must(t, p.becomes(bystander.serial, works))
}

// says asks the responder alone.
func (p *plant) says(serial string, reason pki.Reason) error {
	answer, err := p.answer(serial)
	if err != nil {
		return err
	}
	said := works
	if answer.Status == ocsp.Revoked {
		said = pki.Reason(answer.RevocationReason)
	}
	if said != reason || answer.Status == ocsp.Unknown {
		return fmt.Errorf("%s: reason %d is due, OCSP says %d", serial, reason, said)
	}
	return nil
}

// away waits until the signer is: the point may be one that serve passes.
func (p *plant) away(how string) error {
	return eventually(20*time.Second, func() error {
		if how == "kill" && p.signer.gone() || how == "stop" && p.signer.stopped() {
			return nil
		}
		return errors.New("the signer is still there")
	})
}

// stopped says whether a process does not run on.
func (s *process) stopped() bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	_, state, _ := strings.Cut(string(raw), ") ") // its name may hold anything
	return err == nil && strings.HasPrefix(state, "T")
}

// back brings the signer back.
func (p *plant) back(t *testing.T, how string) {
	t.Helper()
	if how == "stop" {
		must(t, p.signer.cmd.Process.Signal(syscall.SIGCONT))
	}
	must(t, p.revive())
}
