package kill

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"inkan/internal/portal/portaltest"
)

// application is one of the site /p/rcr, with the address of its applicant alone.
type application struct {
	*holder
	email, terminal string
	request         string // as the receipt told it
}

// stepDraft: somebody applies, and confirms what was typed.
func (p *plant) stepDraft() (act, error) {
	a, err := p.newApplication()
	return act{func() error { return p.draft(a) }, func() error {
		err := persist(func() error { return p.draft(a) })
		if err != nil {
			return err
		}
		p.drafts = append(p.drafts, a)
		return p.one(`draft WHERE request = '' AND content LIKE '%"` + a.email + `"%'`)
	}}, err
}

func (p *plant) newApplication() (*application, error) {
	h, err := p.visit("https://" + p.at["portal"] + "/p/rcr")
	n := p.next()
	return &application{holder: h, email: fmt.Sprintf("applicant-%d@example.jp", n), terminal: fmt.Sprintf("申請%d号機", n)}, err
}

// one: exactly one row.
func (p *plant) one(rows string) error {
	n, err := p.count(`SELECT COUNT(*) FROM ` + rows)
	if n != 1 || err != nil {
		return errors.Join(err, wrong{fmt.Errorf("%d of %s", n, rows)})
	}
	return nil
}

// draft goes from the form to the page that says that a mail was sent.
func (p *plant) draft(a *application) error {
	for range 4 {
		err := a.load()
		if err != nil {
			return err
		}
		switch {
		case a.step() == "sent":
			return nil
		case a.step() == "confirm":
			err = a.press(url.Values{"action": {"apply"}})
		case a.step() == "" && strings.Contains(string(a.page), `name="emailConfirm"`):
			err = a.press(url.Values{"holderKind": {"medical"}, "holderCode": {"0110119153"}, "department": {"医事課"}, "phone": {"011-000-0000"},
				"email": {a.email}, "emailConfirm": {a.email}, "terminalName": {a.terminal}, "paymentMethod": {"1"}})
		default:
			return wrong{fmt.Errorf("no way on from %s: %.300s", a.at, a.page)}
		}
		if err != nil {
			return err
		}
	}
	return wrong{fmt.Errorf("the way does not end: %s", a.at)}
}

// stepApply: the applicant opens the mailed link and presses its button: the request is
// there once, and its receipt is mailed.
func (p *plant) stepApply() (act, error) {
	a, err := p.drafted()
	if err != nil {
		return act{}, err
	}
	err = p.follow(a, "/p/rcr/c/")
	confirm := func() error { return p.confirm(a) }
	return act{confirm, func() error {
		err := persist(confirm)
		if err != nil {
			return err
		}
		p.entered = append(p.entered, a)
		return p.one(`request WHERE id = '` + a.request + `' AND state = 'received' AND email = '` + a.email + `'`)
	}}, err
}

// drafted gives an application that waits for its confirmation.
func (p *plant) drafted() (*application, error) {
	if len(p.drafts) > 0 {
		a := p.drafts[0]
		p.drafts = p.drafts[1:]
		return a, nil
	}
	a, err := p.newApplication()
	if err != nil {
		return nil, err
	}
	return a, persist(func() error { return p.draft(a) })
}

// follow opens the link of the newest mail to the applicant that leads to a path. Who
// takes mails from the outbox may die meanwhile, more than once.
func (p *plant) follow(a *application, path string) error {
	link := regexp.MustCompile(`https://\S+` + path + `[A-Za-z0-9_-]{22}`)
	var ended time.Time
	return persist(func() error {
		for _, m := range p.mails.Mails() {
			if m.To[0] != a.email {
				continue
			}
			if found := link.FindString(m.Text); found != "" {
				a.at, a.unsent = found, nil
				return nil
			}
		}
		var err error
		if time.Since(ended) > time.Second {
			ended = time.Now()
			err = p.endHold()
		}
		return errors.Join(err, fmt.Errorf("no mail leads %s to %s", a.email, path))
	})
}

// shownID finds the number of a receipt, which is drawn in groups of digits.
var shownID = regexp.MustCompile(`<span class="id">((?:<span>\d+</span>)+)</span>`)

var notDigits = regexp.MustCompile(`\D`)

// confirm presses the one button behind a mailed link, unless the page says that it was
// pressed, and reads the number.
func (p *plant) confirm(a *application) error {
	err := a.load()
	if err == nil && portaltest.Seal(string(a.page)) != "" {
		err = a.press(url.Values{})
	}
	if err != nil {
		return err
	}
	if portaltest.Seal(string(a.page)) != "" {
		return wrong{errors.New("the button leads to itself")}
	}
	m := shownID.FindSubmatch(a.page)
	if m == nil {
		return wrong{fmt.Errorf("no number on %s", a.at)}
	}
	return once(&a.request, notDigits.ReplaceAllString(string(m[1]), ""))
}

// stepWithdraw: the applicant follows the link of the receipt and withdraws.
func (p *plant) stepWithdraw() (act, error) {
	a, err := p.applied()
	if err != nil {
		return act{}, err
	}
	err = p.follow(a, "/p/status/l/")
	withdraw := func() error { return p.confirm(a) }
	return act{withdraw, func() error {
		err := persist(withdraw)
		if err != nil {
			return err
		}
		return errors.Join(p.one(`request WHERE id = '`+a.request+`' AND state = 'cancelled'`),
			p.one(`audit WHERE kind = 'request.cancelled' AND subject = '`+a.request+`'`))
	}}, err
}

// applied gives an application that was received.
func (p *plant) applied() (*application, error) {
	if len(p.entered) > 0 {
		a := p.entered[0]
		p.entered = p.entered[1:]
		return a, nil
	}
	a, err := p.drafted()
	if err == nil {
		err = p.follow(a, "/p/rcr/c/")
	}
	if err != nil {
		return nil, err
	}
	return a, persist(func() error { return p.confirm(a) })
}
