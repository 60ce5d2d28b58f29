package ca

import (
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// supersede names the successor of a certificate in the transaction that stores it, and
// gives the end of the time in which the successor may be downloaded. The old
// certificate goes on working until its end (更新済み).
func (s *Service) supersede(tx *store.Tx, serial, successor string) (time.Time, error) {
	old, err := tx.Certificate(serial)
	if err != nil {
		return time.Time{}, err
	}
	err = setSuccessor(tx, old, successor)
	return pki.DayEnd(old.NotAfter.AddDate(0, 0, s.RenewalGrace)), err
}

// reopen lets the predecessor of a revoked certificate be renewed again.
func reopen(tx *store.Tx, revoked pki.Certificate) error {
	if revoked.Predecessor == "" {
		return nil
	}
	_, _, err := tx.Audit(actor, "renewal.closed", revoked.RequestID, map[string]any{"revoked": revoked.Serial})
	if err != nil {
		return err
	}
	err = tx.CloseRenewal(revoked.RequestID)
	if err != nil {
		return err
	}
	old, err := tx.Certificate(revoked.Predecessor)
	if err != nil || old.Successor != revoked.Serial {
		return err
	}
	return setSuccessor(tx, old, "")
}

func setSuccessor(tx *store.Tx, c pki.Certificate, successor string) error {
	_, _, err := tx.Audit(actor, "certificate.successor", c.Serial, map[string]any{"successor": successor})
	if err != nil {
		return err
	}
	return tx.SetSuccessor(c.Serial, c.Successor, successor)
}
