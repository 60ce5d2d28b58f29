package kill

import (
	"errors"
	"fmt"
	"strings"

	"inkan/internal/mail"
)

// neverOfHolders is never for what holders and applicants do: what a page answered is
// there, once, and everybody who is to hear of it does.
var neverOfHolders = []struct{ what, count string }{
	{"flows that say that a revocation was asked for without its case", `SELECT COUNT(*) FROM flow f WHERE kind = 'rx' AND step = 'done'
		AND NOT EXISTS (SELECT 1 FROM revocation v WHERE v.flow = f.id)`},
	{"cases that were not recorded once, or not decided once", `SELECT COUNT(*) FROM revocation v
		WHERE (SELECT COUNT(*) FROM audit a WHERE a.subject = v.id AND a.kind = 'revocation.received') <> 1
		OR (SELECT COUNT(*) FROM audit a WHERE a.subject = v.id AND a.kind IN ('revocation.revoked', 'revocation.rejected', 'revocation.lifted')) <>
			CASE WHEN v.state = 'received' THEN 0 ELSE 1 END`},
	{"cases with a hold whose certificate is in force", `SELECT COUNT(*) FROM revocation v JOIN certificate c ON c.serial = v.serial
		WHERE v.state = 'received' AND v.held_at <> 0 AND c.revoked_at = 0`},
	{"certificates on hold without a case that holds them", `SELECT COUNT(*) FROM certificate c WHERE revoked_at <> 0 AND reason = 6
		AND NOT EXISTS (SELECT 1 FROM revocation v WHERE v.serial = c.serial AND v.state = 'received' AND v.held_at <> 0)`},
	{"cases that are final of certificates that are not", `SELECT COUNT(*) FROM revocation v JOIN certificate c ON c.serial = v.serial
		WHERE v.state = 'revoked' AND (c.revoked_at = 0 OR c.reason = 6)`},
	{"open cases of certificates that are revoked for good", `SELECT COUNT(*) FROM revocation v JOIN certificate c ON c.serial = v.serial
		WHERE v.state = 'received' AND c.revoked_at <> 0 AND c.reason <> 6 AND c.effective_at <= c.revoked_at`},
	{"cases whose holder hears nothing of their receipt", `SELECT COUNT(*) FROM revocation v WHERE v.proof = 'letter'
		AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = 'revocation_received/' || v.id AND o.address = v.email)`},
	{"cases whose holder hears nothing of their end", `SELECT COUNT(*) FROM revocation v WHERE v.email <> '' AND v.state <> 'received'
		AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.address = v.email AND o.id =
			CASE WHEN v.state = 'revoked' THEN 'revocation_done/' ELSE 'revocation_refused/' END || v.id)`},
	{"holds and wishes of which the contacts hear nothing", `SELECT COUNT(*) FROM revocation v JOIN request r ON r.id = v.request WHERE r.email <> ''
		AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.request = v.request AND o.kind IN ('revocation_asked', 'revoked'))`},
	{"lifted holds of which the contacts hear nothing", `SELECT COUNT(*) FROM revocation v WHERE v.state = 'lifted'
		AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = 'lifted/' || v.id)`},

	{"flows that say that a mail was sent without a draft", `SELECT COUNT(*) FROM flow f WHERE kind = 'apply' AND step = 'sent'
		AND NOT EXISTS (SELECT 1 FROM draft d WHERE d.flow = f.id)`},
	{"drafts whose link nobody is mailed", `SELECT COUNT(*) FROM draft d
		WHERE NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = 'confirm/' || d.flow || '/' || d.round)`},
	{"requests of the site that are not of one draft", `SELECT COUNT(*) FROM request r WHERE source = 'site' AND kind = 'new'
		AND (SELECT COUNT(*) FROM draft d WHERE d.request = r.id) <> 1`},
	{"requests of the site without a receipt or its link", `SELECT COUNT(*) FROM request r WHERE source = 'site' AND kind = 'new'
		AND (NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = 'receipt/' || r.id AND o.address = r.email)
			OR (SELECT COUNT(*) FROM status_link l WHERE l.request = r.id) <> 1)`},
}

// endHold makes every mail due that a dead process had taken: it would leave after ten
// minutes.
func (p *plant) endHold() error {
	_, err := p.db.Exec(`UPDATE outbox SET next_at = 0 WHERE sent_at = 0`)
	return err
}

// catch remembers which mails came; the sink forgets old ones.
func (p *plant) catch() {
	for _, m := range p.mails.Mails() {
		id, _, _ := strings.Cut(m.MessageID, "@")
		p.caught[id] = true
	}
}

// checkMails: every mail that was committed leaves, and came at least once.
func (p *plant) checkMails() error {
	err := p.endHold()
	if err != nil {
		return err
	}
	err = persist(func() error {
		n, err := p.count(`SELECT COUNT(*) FROM outbox WHERE sent_at = 0`)
		if n != 0 {
			return errors.Join(err, fmt.Errorf("%d mails have not left", n))
		}
		return err
	})
	if err != nil {
		return err
	}
	p.catch()
	rows, err := p.db.Query(`SELECT id FROM outbox`)
	if err != nil {
		return err
	}
	defer rows.Close()
	mails := 0
	var found []error
	for rows.Next() {
		var id string
		err = rows.Scan(&id)
		if err != nil {
			return err
		}
		mails++
		if !p.caught[mail.MessageID(id)] {
			found = append(found, fmt.Errorf("mail %s never came", id))
		}
	}
	if mails < 20 {
		found = append(found, fmt.Errorf("%d mails only: this proves little", mails))
	}
	return errors.Join(append(found, rows.Err())...)
}
