package ca

import (
	"encoding/json"
	"errors"
	"fmt"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// proveIntent refuses an intent that was not stored by line 4: an intent read from the
// database is signed only where its audit record says the very same of it. A hand-made
// row would otherwise be taken up by the next start (threat CO12). It is left as it is,
// for the auditor.
func proveIntent(tx *store.Tx, i store.Intent) error {
	forged := func(why error) error {
		return pki.E(pki.Internal, "intent.unproved").With("Serial", i.Serial).Because(why)
	}
	r, err := tx.AuditRecord(i.AuditIndex)
	if errors.Is(err, pki.ErrNotFound) {
		return forged(fmt.Errorf("no audit record %d", i.AuditIndex))
	}
	if err != nil {
		return err
	}
	var said struct{ Request, Issuer, Profile, TBSSHA256 string }
	err = json.Unmarshal(r.Body, &said)
	if err != nil {
		return forged(err)
	}
	same := r.Kind == "certificate.intent" && r.Subject == i.Serial && said.Request == i.Request &&
		said.Issuer == i.Issuer && said.Profile == i.Profile && said.TBSSHA256 == hashHex(i.TBS)
	if !same {
		return forged(fmt.Errorf("audit record %d is of another intent", i.AuditIndex))
	}
	return nil
}
