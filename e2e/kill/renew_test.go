package kill

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
	"inkan/internal/store"
)

// stepRenew: a holder renews with the certificate, and after the death reloads and goes
// on: the same renewal, its IDs, its file. The end of the certificate is set behind the
// program's back and put back before the records are compared with it.
func (p *plant) stepRenew() (act, error) {
	l, err := p.newLetter()
	if err != nil {
		return act{}, err
	}
	var pair tls.Certificate
	err = persist(func() error {
		pair, err = p.fetch(l)
		return err
	})
	if err != nil {
		return act{}, err
	}
	var first string
	apply := func() error {
		id, err := p.apply(pair)
		if first == "" {
			first = id
		}
		if id != first {
			return wrong{fmt.Errorf("the renewal was %s and is %s", first, id)}
		}
		return err
	}
	return act{apply, func() error {
		err := persist(apply)
		if err == nil {
			err = persist(func() error { return p.key(pair, first) })
		}
		return errors.Join(err, p.endsAt(l.Serial, pair.Leaf.NotAfter))
	}}, p.endsAt(l.Serial, time.Now().AddDate(0, 0, 60))
}

// apply presses Submit, unless the renewal stands already, and gives its request ID.
func (p *plant) apply(pair tls.Certificate) (string, error) {
	browser, err := p.browser(pair)
	if err != nil {
		return "", err
	}
	at := "https://" + p.at["auth"] + "/p/ru/apply"
	resp, err := browser.Get(at)
	if err != nil {
		return "", err
	}
	where := resp.Request.URL.Path
	body, err := page(resp, nil)
	if err != nil {
		return "", err
	}
	if where == "/p/ru/apply" {
		seal := portaltest.Seal(string(body))
		if seal == "" {
			return "", wrong{errors.New("no form to renew with")}
		}
		resp, err = browser.PostForm(at, url.Values{"form": {seal}, "action": {"submit"}})
		if err != nil {
			return "", err
		}
		where = resp.Request.URL.Path
		_, err = page(resp, nil)
		if err != nil {
			return "", err
		}
	}
	id, ok := strings.CutPrefix(where, "/p/ru/r/")
	if !ok {
		return "", wrong{fmt.Errorf("submit leads to %s", where)}
	}
	return id, nil
}

// key takes the file of a renewal, once it is issued and shows its IDs.
func (p *plant) key(pair tls.Certificate, id string) error {
	browser, err := p.browser(pair)
	if err != nil {
		return err
	}
	site := "https://" + p.at["auth"]
	body, err := page(browser.Get(site + "/p/ru/r/" + id))
	if err != nil {
		return err
	}
	seal := portaltest.Seal(string(body))
	if seal == "" {
		return errors.New("the renewal is not issued yet")
	}
	if !strings.Contains(string(body), "リファレンス ID") {
		return wrong{errors.New("the page of an issued renewal has no reference ID")}
	}
	body, err = page(browser.PostForm(site+"/p/ru/r/"+id, url.Values{"form": {seal}, "requestId": {id}, "password": {pin}, "passwordConfirm": {pin}}))
	if err != nil {
		return err
	}
	link := portaltest.File(string(body))
	if link == "" {
		return wrong{fmt.Errorf("no file on the page for %s", id)}
	}
	file, err := page(browser.Get(site + link))
	if err != nil {
		return err
	}
	_, cert, _, err := pkcs12.DecodeChain(file, pin)
	if err != nil {
		return wrong{err}
	}
	n, err := p.count(`SELECT COUNT(*) FROM certificate WHERE request = '` + id + `' AND serial = '` + pki.SerialHex(cert.SerialNumber) +
		`' AND predecessor = '` + pki.SerialHex(pair.Leaf.SerialNumber) + `'`)
	if n != 1 {
		return errors.Join(err, wrong{fmt.Errorf("the file of %s holds another certificate", id)})
	}
	return err
}

// endsAt sets the end of a certificate's row.
func (p *plant) endsAt(serial string, end time.Time) error {
	return p.pastGuard("certificate", "certificate_facts_stay", func() error {
		_, err := p.db.Exec(`UPDATE certificate SET not_after = $1 WHERE serial = $2`, end.UnixMicro(), serial)
		return err
	})
}

// pastGuard changes what a trigger of the database keeps, as only its owner could.
func (p *plant) pastGuard(table, guard string, change func() error) error {
	if p.engine == store.PostgreSQL {
		_, err := p.db.Exec(`ALTER TABLE ` + table + ` DISABLE TRIGGER ` + guard)
		if err != nil {
			return err
		}
		err = change()
		_, back := p.db.Exec(`ALTER TABLE ` + table + ` ENABLE TRIGGER ` + guard)
		return errors.Join(err, back)
	}
	var text string
	err := p.db.QueryRow(`SELECT sql FROM sqlite_master WHERE name = $1`, guard).Scan(&text)
	if err != nil {
		return err
	}
	_, err = p.db.Exec(`DROP TRIGGER ` + guard)
	if err != nil {
		return err
	}
	err = change()
	_, back := p.db.Exec(text)
	return errors.Join(err, back)
}
