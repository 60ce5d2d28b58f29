package kill

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// act is something that a client, an officer or the program itself does, in two
// halves: the attempt during which somebody dies, and what is done afterwards, until
// it is done. prepare of a step gives both.
type act struct {
	attempt func() error // its error says nothing: somebody may have died
	finish  func() error
}

// steps are what the points are passed by.
var steps = map[string]func(p *plant) (act, error){
	"api":        (*plant).stepAPI,
	"approve":    (*plant).stepApprove,
	"download":   (*plant).stepDownload,
	"renew":      (*plant).stepRenew,
	"mail":       (*plant).stepMail,
	"revoke":     (*plant).stepRevoke,
	"checkpoint": (*plant).stepCheckpoint,
	"pool":       (*plant).stepPool,
	"own":        (*plant).stepOwn,
	"sweep":      (*plant).stepSweep,
	"epochs":     (*plant).stepEpochs,
	"rotate":     (*plant).stepRotate,
	"first":      (*plant).stepFirst,

	"draft":    (*plant).stepDraft,
	"apply":    (*plant).stepApply,
	"withdraw": (*plant).stepWithdraw,
	"report":   (*plant).stepReport,
	"wish":     (*plant).stepWish,
	"final":    (*plant).stepFinal,
	"reject":   (*plant).stepReject,
	"lift":     (*plant).stepLift,
	"timeout":  (*plant).stepTimeout,
	"dated":    (*plant).stepDated,
}

// stepAPI: a program orders a certificate, and again with the same key.
func (p *plant) stepAPI() (act, error) {
	o, err := newOrder()
	post := func() error { return p.post(o) }
	return act{post, func() error { return persist(post) }}, err
}

// stepApprove: the second person approves, which makes the certificate; then the
// letter opens its key.
func (p *plant) stepApprove() (act, error) {
	id, err := p.submit()
	return act{
		func() error {
			_, err := p.decides("approver", "request", "approve", id)
			return err
		},
		func() error {
			err := persist(func() error { return p.issued(id) })
			if err != nil {
				return err
			}
			l, err := p.dispatch(id)
			if err != nil {
				return err
			}
			return persist(func() error { return p.download(l) })
		},
	}, err
}

// stepDownload: the holder fetches the file, and begins anew at the form.
func (p *plant) stepDownload() (act, error) {
	l, err := p.newLetter()
	get := func() error { return p.download(l) }
	return act{get, func() error { return persist(get) }}, err
}

// stepMail: the mail about a first download leaves, or leaves again after the hold.
func (p *plant) stepMail() (act, error) {
	l, err := p.newLetter()
	return act{
		func() error { return p.download(l) },
		func() error {
			row := `outbox WHERE request = '` + l.ID + `' AND kind = 'downloaded'`
			n, err := p.count(`SELECT COUNT(*) FROM ` + row)
			if n != 1 || err != nil {
				return fmt.Errorf("%d mails about the download are to leave: %w", n, err)
			}
			_, err = p.db.Exec(`UPDATE outbox SET next_at = 0 WHERE request = $1`, l.ID) // the hold is over
			if err != nil {
				return err
			}
			return persist(func() error {
				n, err := p.count(`SELECT COUNT(*) FROM ` + row + ` AND sent_at <> 0`)
				if n != 1 {
					return errors.Join(err, errors.New("the mail has not left"))
				}
				return err
			})
		},
	}, err
}

// stepRevoke: the officer revokes, and again; then everybody knows, and the CRL too.
func (p *plant) stepRevoke() (act, error) {
	o, err := newOrder()
	if err != nil {
		return act{}, err
	}
	err = persist(func() error { return p.post(o) })
	revoke := func() error { return p.revoke(o.serial) }
	return act{revoke, func() error {
		err := persist(revoke)
		if err != nil {
			return err
		}
		return persist(func() error { return p.everywhere(o.serial) })
	}}, err
}

// stepCheckpoint: the auditor verifies the tree, which signs its head.
func (p *plant) stepCheckpoint() (act, error) {
	_, err := p.submit() // the tree has grown
	verify := func() error {
		_, err := p.run("audit", "verify")
		return err
	}
	return act{verify, func() error { return persist(verify) }}, err
}

// stepPool: serve starts with a pool that is too small.
func (p *plant) stepPool() (act, error) {
	p.serve.kill()
	err := p.edit(fmt.Sprintf("pool_size = %d\n", p.pool), fmt.Sprintf("pool_size = %d\n", p.pool+1))
	p.pool++
	return act{p.restart, func() error {
		return persist(func() error {
			n, err := p.count(`SELECT COUNT(*) FROM sealed_key WHERE stage = 'pool'`)
			if n != p.pool {
				return errors.Join(err, fmt.Errorf("the pool holds %d keys of %d", n, p.pool))
			}
			return err
		})
	}}, err
}

// stepFirst: an instance starts for the first time.
func (p *plant) stepFirst() (act, error) {
	signer, err := p.start(0, "signer")
	p.signer = signer
	if err == nil {
		err = p.await(signer, p.answers)
	}
	pool := func() error {
		n, err := p.count(`SELECT COUNT(*) FROM sealed_key WHERE stage = 'pool'`)
		if n != p.pool {
			return errors.Join(err, fmt.Errorf("the pool holds %d keys of %d", n, p.pool))
		}
		return err
	}
	return act{p.startServe, func() error { return persist(pool) }}, err
}

// stepOwn: serve starts without its OCSP responder's key.
func (p *plant) stepOwn() (act, error) {
	p.serve.kill()
	path := filepath.Join(p.dir, "edge", "ocsp.pem")
	err := os.Remove(path)
	return act{p.restart, func() error {
		_, err := os.Lstat(path)
		return err
	}}, err
}

// stepSweep: serve starts after the download deadline of a letter. The deadline is set
// behind the program's back and put back before the records are compared with it.
func (p *plant) stepSweep() (act, error) {
	l, err := p.newLetter()
	if err != nil {
		return act{}, err
	}
	p.serve.kill()
	deadline, err := p.count(`SELECT downloads_until FROM request WHERE id = '` + l.ID + `'`)
	if err != nil {
		return act{}, err
	}
	set := func(until int) error {
		_, err := p.db.Exec(`UPDATE request SET downloads_until = $1 WHERE id = $2`, until, l.ID)
		return err
	}
	return act{p.restart, func() error {
		err := persist(func() error {
			n, err := p.count(`SELECT COUNT(*) FROM sealed_key WHERE stage = 'destroyed' AND request = '` + l.ID + `'`)
			if n != 1 {
				return errors.Join(err, errors.New("the key that nobody fetched is still here"))
			}
			return errors.Join(err, p.everywhere(l.Serial))
		})
		return errors.Join(err, set(deadline))
	}}, set(1)
}

// stepEpochs: serve starts with a vault that has the key of a month long past. Keys
// sealed under it must not open any more when it is gone.
func (p *plant) stepEpochs() (act, error) {
	p.serve.kill()
	p.month++
	month := pki.Month(time.Date(2020, time.Month(p.month), 15, 0, 0, 0, 0, pki.JST))
	err := p.sealUnder(month)
	path := filepath.Join(p.dir, "signer", "epochs", month+".key")
	if err == nil {
		_, err = os.Lstat(path)
	}
	return act{p.restart, func() error {
		return persist(func() error {
			_, err := os.Lstat(path)
			if err == nil {
				return fmt.Errorf("the key of %s is still here", month)
			}
			return nil
		})
	}}, err
}

// stepRotate: a program orders until the signer's journal begins another segment, which
// it does every 8 KiB in this build, and orders the same again.
func (p *plant) stepRotate() (act, error) {
	orders := make([]*order, 100)
	for n := range orders {
		o, err := newOrder()
		if err != nil {
			return act{}, err
		}
		orders[n] = o
	}
	sent := 0
	return act{
		func() error {
			for _, o := range orders {
				sent++
				err := p.post(o)
				if err != nil {
					return err
				}
				_, err = os.Lstat(p.armed)
				if err != nil {
					return nil // somebody dies
				}
			}
			return errors.New("the journal has not begun another segment")
		},
		func() error {
			for _, o := range orders[:sent] {
				err := persist(func() error { return p.post(o) })
				if err != nil {
					return err
				}
			}
			return nil
		},
	}, nil
}

// sealUnder makes the epoch key of a month, as the vault did in that month.
func (p *plant) sealUnder(month string) error {
	dir := filepath.Join(p.dir, "signer")
	if p.vault == nil {
		pass, err := keystore.ReadPassphrase(filepath.Join(dir, "passphrase"))
		if err != nil {
			return err
		}
		p.vault, err = keystore.OpenVault(dir, pass)
		if err != nil {
			return err
		}
	}
	key, err := issuance.GenerateKey(pki.P256)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	_, err = p.vault.SealPool(keystore.PoolKey{KeyID: month, PKCS8: pkcs8}, month)
	return err
}
