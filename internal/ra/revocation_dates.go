package ra

import (
	"context"

	"inkan/internal/crash"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// RevokeDated is an officer's decision that says something of the time, always as a case.
// Effective: the certificate is revoked from that day on and good until then; before it,
// two officers take it back (threat RV6). InvalidSince: the certificate is on hold at once,
// and another officer makes that final together with the date, or two lift it (threat
// RV7). One of the two is said; Revoke is for neither. What is said again, for the same
// reason and date, is the case that is there: a command that died does not know of it.
func (s *Service) RevokeDated(ctx context.Context, by pki.Actor, serial string, reason pki.Reason, dates pki.RevocationDates, why string) (RevocationDetail, error) {
	err := by.Need(pki.MayRevoke)
	if err != nil {
		return RevocationDetail{}, err
	}
	dates = dates.Whole()
	d, err := change(ctx, s, func(tx *store.Tx) (RevocationDetail, error) {
		c, err := certificate(tx, serial)
		if err != nil {
			return RevocationDetail{}, err
		}
		v := pki.Revocation{Proof: pki.ByOfficer, Reason: reason, Dates: dates}
		there, err := sameCase(tx, c, v)
		if err != nil {
			return RevocationDetail{}, err
		}
		if there != "" {
			d, err := caseOf(tx, there)
			d.There = true
			return d, err
		}
		err = mayDate(tx, c, v, why)
		if err != nil {
			return RevocationDetail{}, err
		}
		if !dates.InvalidSince.IsZero() && !c.Stopped(tx.Now) {
			v.HeldAt = tx.Now
		}
		v, err = s.Issuer.ReceiveIn(tx, by, c, v, why)
		if err != nil {
			return RevocationDetail{}, err
		}
		crash.At("revocation.5 before commit")
		return caseOf(tx, v.ID)
	})
	crash.At("revocation.5 after commit")
	return d, err
}

// sameCase gives the number of the open case that says the same and still acts on its
// certificate; "" where there is none. A case that acts on nothing, since the hold that it
// found was another's and is lifted, is no reason to leave the certificate in force.
func sameCase(tx *store.Tx, c pki.Certificate, v pki.Revocation) (string, error) {
	acts := c.State(tx.Now) == pki.Suspended
	if !v.Dates.Effective.IsZero() {
		acts = c.Dated(tx.Now)
	}
	if !acts {
		return "", nil
	}
	open, err := tx.Revocations(store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{c.Serial}})
	if err != nil {
		return "", err
	}
	for _, o := range open {
		if o.Proof == v.Proof && o.Reason == v.Reason && o.Dates.Equal(v.Dates) {
			return o.ID, nil
		}
	}
	return "", nil
}

// mayDate says why a certificate cannot be revoked with these dates. What is on hold is
// not dated forward: it would work again until then.
func mayDate(tx *store.Tx, c pki.Certificate, v pki.Revocation, why string) error {
	state, ahead := c.State(tx.Now), !v.Dates.Effective.IsZero()
	switch {
	case state == pki.Revoked:
		return pki.E(pki.Conflict, "certificate.revoked_already").With("Serial", c.Serial)
	case ahead && state == pki.Suspended:
		return pki.E(pki.Conflict, "revocation.ahead_held").With("Serial", c.Serial)
	case ahead && c.Dated(tx.Now):
		return pki.E(pki.Conflict, "revocation.ahead_twice").With("Serial", c.Serial).With("Date", c.EffectiveAt)
	}
	return v.Dates.Check(c, v.Reason, why, tx.Now)
}

// certificate reads a certificate by the serial that a person typed.
func certificate(tx *store.Tx, serial string) (pki.Certificate, error) {
	n, err := pki.ParseSerial(serial)
	if err != nil {
		return pki.Certificate{}, err
	}
	c, err := tx.Certificate(pki.SerialHex(n))
	if pki.ClassOf(err) == pki.NotFound {
		return c, pki.E(pki.NotFound, "certificate.unknown").With("Serial", serial)
	}
	return c, err
}
