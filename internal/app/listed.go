package app

import (
	"context"
	"strings"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
)

// listed is what a command saw of the CRL that is to hold its change. The change itself
// is recorded by then, and counts in OCSP: it waits for no signer.
type listed struct {
	number int64 // of the CRL; 0: none holds it yet
	why    error // not yet
	serves bool  // a serve works here and publishes it
}

// listedJSON is that on the command line's JSON output.
type listedJSON struct {
	CRL     *int64 `json:"crl"`                  // number of the CRL that holds it
	Pending string `json:"crlPending,omitempty"` // code of why none does yet
}

func (l listed) json() listedJSON {
	switch {
	case l.why != nil:
		return listedJSON{Pending: waitCode(l.why)}
	case l.number > 0:
		return listedJSON{CRL: &l.number}
	}
	return listedJSON{} // no list is to hold it
}

const (
	listedIn   = 10 * time.Second // how long a command waits for serve to publish
	listedLook = 100 * time.Millisecond
)

// lists waits until a CRL has regard to what changed at a time. Where a serve works,
// that publishes it; else this command does, with a signer of its own if none answers.
func (c *cli) lists(ctx context.Context, i *instance, issuer string, at time.Time) listed {
	l := listed{serves: serveRuns(i.servePath())}
	if l.serves {
		l.number, l.why = i.awaitCRL(ctx, issuer, at)
	} else {
		l.number, l.why = i.makeCRL(ctx, issuer, at)
	}
	if l.why != nil && ctx.Err() != nil { // somebody has seen enough
		l.why = pki.E(pki.Busy, "crl.waits")
	}
	return l
}

func (i *instance) makeCRL(ctx context.Context, issuer string, at time.Time) (int64, error) {
	stop, err := i.ensureSigner(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	crl, err := i.ca.RenewCRL(ctx, issuer, at)
	return crl.Number, err
}

// awaitCRL waits for a CRL of serve's, and no longer than it may come: not where the
// signer hangs, or is away and nobody here starts it again.
func (i *instance) awaitCRL(ctx context.Context, issuer string, at time.Time) (int64, error) {
	for late := time.After(listedIn); ; {
		away := i.askSigner(ctx)
		number, err := i.ca.InCRL(ctx, issuer, at)
		if err != nil || number > 0 {
			return number, err
		}
		if away != nil && (silent(away) || !i.config.Signer.Child) {
			return 0, away
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-late:
			if away == nil {
				away = pki.E(pki.Busy, "crl.waits")
			}
			return 0, away
		case <-time.After(listedLook):
		}
	}
}

// tell says to a person in which CRL it is, or why in none yet and what happens next.
func (c *cli) tell(l listed) {
	if l.why == nil {
		if l.number > 0 {
			c.say("  in CRL number %d", l.number)
		}
		return
	}
	lang := i18n.Match(c.lang, "")
	why, hint := c.words(l.why)
	next := "crl.next.alone"
	if l.serves {
		next = "crl.next.serve"
	}
	c.say("  %s", oneLine(i18n.Text(lang, "crl.pending", map[string]any{"Why": strings.TrimSpace(why)})))
	c.say("  %s", i18n.Text(lang, next, nil))
	if hint != "" {
		c.say("  %s", oneLine(hint))
	}
}
