package kill

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/internal/pki"
)

// report is a revocation that the holder of a letter asks for on /p/rx.
type report struct {
	letter
	*holder
	reason pki.Reason
	email  string // typed in this one alone
	number string // as the receipt told it
}

// stepReport: the holder reports a leak, and the certificate is on hold at once.
func (p *plant) stepReport() (act, error) { return p.asking(pki.KeyCompromise) }

// stepWish: the holder gives a terminal up, and the certificate works until somebody
// decides.
func (p *plant) stepWish() (act, error) { return p.asking(pki.CessationOfOperation) }

func (p *plant) asking(reason pki.Reason) (act, error) {
	r, err := p.newReport(reason)
	return act{func() error { return p.ask(r) }, func() error {
		err := persist(func() error { return p.ask(r) })
		if err != nil {
			return err
		}
		p.reports = append(p.reports, r)
		return p.isReceived(r)
	}}, err
}

// newReport takes a letter whose certificate is in force and not renewed.
func (p *plant) newReport(reason pki.Reason) (*report, error) {
	l, err := p.unreported()
	if err != nil {
		return nil, err
	}
	h, err := p.visit("https://" + p.at["portal"] + "/p/rx")
	return &report{letter: l, holder: h, reason: reason, email: fmt.Sprintf("typed-%d@example.jp", p.next())}, err
}

func (p *plant) unreported() (letter, error) {
	l, found, err := p.reportable()
	if err != nil || found {
		return l, err
	}
	return p.newLetter()
}

// reportable gives a letter that was fetched, whose certificate is in force and not
// renewed, and that no open case is about; false where there is none.
func (p *plant) reportable() (letter, bool, error) {
	p.Lock()
	letters := slices.Clone(p.letters)
	p.Unlock()
	for _, l := range slices.Backward(letters) { // the early ones were renewed
		n, err := p.count(`SELECT COUNT(*) FROM certificate c WHERE serial = '` + l.Serial + `' AND revoked_at = 0
			AND NOT EXISTS (SELECT 1 FROM certificate s WHERE s.predecessor = c.serial)
			AND NOT EXISTS (SELECT 1 FROM revocation v WHERE v.serial = c.serial AND v.state = 'received')`)
		if n == 1 || err != nil {
			return l, err == nil, err
		}
	}
	return letter{}, false, nil
}

var caseNumber = regexp.MustCompile(`R-\d{8}-\d{6}`)

// ask goes the whole way, from wherever the holder is on it.
func (p *plant) ask(r *report) error {
	for range 6 {
		err := r.load()
		if err != nil {
			return err
		}
		number := string(caseNumber.Find(r.page))
		switch {
		case number != "":
			return once(&r.number, number)
		case r.step() == "contact":
			err = r.press(url.Values{"email": {r.email}, "emailConfirm": {r.email}, "reason": {r.reason.String()}})
		case r.step() == "confirm":
			err = r.press(url.Values{"action": {"apply"}})
		case strings.Contains(string(r.page), `name="referenceId"`):
			err = r.press(url.Values{"requestId": {r.ID}, "referenceId": {r.Reference}})
		default:
			return wrong{fmt.Errorf("no way on from %s: %.300s", r.at, r.page)}
		}
		if err != nil {
			return err
		}
	}
	return wrong{fmt.Errorf("the way does not end: %s", r.at)}
}

// isReceived: there is one case, the one that was told, and its certificate is as the
// case says.
func (p *plant) isReceived(r *report) error {
	n, err := p.count(`SELECT COUNT(*) FROM revocation WHERE email = '` + r.email + `'`)
	if n != 1 || err != nil {
		return errors.Join(err, fmt.Errorf("%d cases of one wish", n))
	}
	n, err = p.count(`SELECT COUNT(*) FROM revocation WHERE id = '` + r.number + `' AND state = 'received' AND serial = '` + r.Serial + `'`)
	if n != 1 || err != nil {
		return errors.Join(err, fmt.Errorf("case %s is not as it was told", r.number))
	}
	shown := pki.CertificateHold
	if r.reason != pki.KeyCompromise {
		shown = works
	}
	return p.becomes(r.Serial, shown)
}

// works is no reason: the certificate is in force.
const works = pki.Reason(-1)

// becomes waits until the responder and the published list show a certificate as
// revoked for a reason, or as good, and keeps that as a promise.
func (p *plant) becomes(serial string, reason pki.Reason) error {
	p.Lock()
	p.standing[serial] = reason
	p.Unlock()
	return persist(func() error { return p.shows(serial, reason) })
}

func (p *plant) shows(serial string, reason pki.Reason) error {
	answer, err := p.answer(serial)
	if err != nil {
		return err
	}
	said, listed := works, works
	if answer.Status == ocsp.Revoked {
		said = pki.Reason(answer.RevocationReason)
	}
	list, err := p.crl()
	if err != nil {
		return err
	}
	n := slices.IndexFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return pki.SerialHex(e.SerialNumber) == serial })
	if n >= 0 {
		listed = pki.Reason(list.RevokedCertificateEntries[n].ReasonCode)
	}
	if said != reason || listed != reason {
		return fmt.Errorf("%s: reason %d is due, OCSP says %d, CRL %s says %d", serial, reason, said, list.Number, listed)
	}
	return nil
}

// undecided gives a case that waits for a decision, and nobody else gets it.
func (p *plant) undecided(reason pki.Reason) (*report, error) {
	n := slices.IndexFunc(p.reports, func(r *report) bool { return r.reason == reason })
	if n >= 0 {
		r := p.reports[n]
		p.reports = slices.Delete(p.reports, n, n+1)
		return r, nil
	}
	r, err := p.newReport(reason)
	if err != nil {
		return nil, err
	}
	err = persist(func() error { return p.ask(r) })
	if err != nil {
		return nil, err
	}
	return r, p.isReceived(r)
}

// decide is an officer's command, which is said again after a death: decided already, or
// said already, is as good.
func (p *plant) decide(who, what string, r *report, done string) func() error {
	return func() error {
		out, err := p.decides(who, "revocation", what, r.number)
		if err != nil && strings.Contains(out, done) {
			return nil
		}
		return err
	}
}

// ended waits until a case is decided; its holder looks again, and everybody knows.
func (p *plant) ended(r *report, state pki.RevocationState, shown pki.Reason) error {
	err := persist(func() error {
		n, err := p.count(`SELECT COUNT(*) FROM revocation WHERE id = '` + r.number + `' AND state = '` + string(state) + `'`)
		if n != 1 {
			return errors.Join(err, fmt.Errorf("case %s is not %s", r.number, state))
		}
		return err
	})
	if err == nil {
		err = persist(func() error { return p.ask(r) })
	}
	if err != nil {
		return err
	}
	return p.becomes(r.Serial, shown)
}

// stepFinal: one officer makes it final.
func (p *plant) stepFinal() (act, error) {
	r, err := p.undecided(pki.KeyCompromise)
	if err != nil {
		return act{}, err
	}
	approve := p.decide("officer", "approve", r, "decided already (revoked)")
	return act{approve, func() error {
		err := persist(approve)
		if err != nil {
			return err
		}
		p.Lock()
		p.revoked[r.Serial] = time.Now()
		p.Unlock()
		return p.ended(r, pki.RevocationDone, pki.KeyCompromise)
	}}, nil
}

// stepReject: the first of the two who reject dies, or the program under him.
func (p *plant) stepReject() (act, error) {
	r, err := p.undecided(pki.CessationOfOperation)
	if err != nil {
		return act{}, err
	}
	first := p.decide("officer", "reject", r, "was the first to speak against it")
	return act{first, func() error {
		err := persist(first)
		if err == nil {
			err = persist(p.decide("deputy", "reject", r, "decided already (rejected)"))
		}
		if err != nil {
			return err
		}
		return p.ended(r, pki.RevocationRejected, works)
	}}, nil
}

// stepLift: the second of the two who lift a hold does.
func (p *plant) stepLift() (act, error) {
	r, err := p.undecided(pki.KeyCompromise)
	if err != nil {
		return act{}, err
	}
	second := p.decide("deputy", "lift", r, "decided already (lifted)")
	return act{second, func() error {
		err := persist(second)
		if err != nil {
			return err
		}
		return p.ended(r, pki.RevocationLifted, works)
	}}, persist(p.decide("officer", "lift", r, "was the first to speak against it"))
}

// stepTimeout: serve starts a day after a wish that nobody decided. The time is set
// behind the program's back and put back before the records are compared with it.
func (p *plant) stepTimeout() (act, error) {
	r, err := p.undecided(pki.CessationOfOperation)
	if err != nil {
		return act{}, err
	}
	p.reports = slices.DeleteFunc(p.reports, func(other *report) bool { return other.Serial == r.Serial }) // they end with it
	p.serve.kill()
	received, err := p.count(`SELECT received_at FROM revocation WHERE id = '` + r.number + `'`)
	if err != nil {
		return act{}, err
	}
	set := func(at int) error {
		return p.pastGuard("revocation", "revocation_stays", func() error {
			_, err := p.db.Exec(`UPDATE revocation SET received_at = $1 WHERE id = $2`, at, r.number)
			return err
		})
	}
	return act{p.restart, func() error {
		err := p.ended(r, pki.RevocationDone, pki.CessationOfOperation)
		return errors.Join(err, set(received))
	}}, set(received - int((pki.Undecided + time.Hour).Microseconds()))
}

// stepDated: an officer revokes with the date since when nothing is to be believed, which
// holds the certificate. Who does not know whether that counted says it again, and there
// is one case.
func (p *plant) stepDated() (act, error) {
	o, err := newOrder()
	if err != nil {
		return act{}, err
	}
	err = persist(func() error { return p.post(o) })
	since := time.Now().UTC().Format(time.RFC3339)
	revoke := func() error {
		_, err := p.as("officer", "revoke", o.serial, "--reason", "keyCompromise", "--invalid-since", since, "--why", "stolen")
		return err
	}
	return act{revoke, func() error {
		err := persist(revoke)
		if err == nil {
			err = p.one(`revocation WHERE serial = '` + o.serial + `' AND state = 'received'`)
		}
		if err != nil {
			return err
		}
		return p.becomes(o.serial, pki.CertificateHold)
	}}, err
}
