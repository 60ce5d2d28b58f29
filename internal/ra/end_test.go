package ra_test

import (
	"slices"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
)

// TestThreatDL9EndedByItsHolder: at the holder's wish the key is destroyed, for good and
// on the record; the certificate stays good, and at the deadline nothing is revoked.
func TestThreatDL9EndedByItsHolder(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := catest.New(t, catest.Options{Engine: engine, Activate: true})
			r := o.Issued(catest.Application(1))
			ref := o.Reference(r.ID)
			ticket, err := o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
			catest.Must(t, err)
			catest.WantCode(t, o.RA.EndPickup(t.Context(), ticket, catest.Cookie), "pickup.not_saved")
			_, _, err = o.RA.PickupFile(t.Context(), ticket, catest.Cookie)
			catest.Must(t, err)
			catest.WantCode(t, o.RA.EndPickup(t.Context(), ticket, [32]byte{1}), "ticket.foreign")
			page, err := o.RA.PickupPage(t.Context(), ticket, catest.Cookie)
			catest.Must(t, err)
			if !page.KeyHere || o.Count("sealed_key WHERE request = $1 AND stage = 'held'", r.ID) != 1 {
				t.Fatal("the key went before anybody wished it")
			}
			for range 2 {
				catest.Must(t, o.RA.EndPickup(t.Context(), ticket, catest.Cookie))
			}
			kinds := o.Kinds(r.ID)
			destroyed := slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k != "key.destroyed" })
			if len(destroyed) != 1 || o.Count("sealed_key WHERE request = $1 AND blob IS NOT NULL", r.ID) != 0 {
				t.Errorf("records %v", kinds)
			}
			page, err = o.RA.PickupPage(t.Context(), ticket, catest.Cookie)
			if err != nil || page.KeyHere {
				t.Errorf("the page says that the key is here: %v", err)
			}
			_, err = o.RA.PreparePickup(t.Context(), catest.Pickup(r.ID, ref))
			catest.WantCode(t, err, "pickup.key_destroyed")

			o.Set(o.Request(r.ID).Downloads.Add(time.Second))
			_, err = o.CA.Sweep(t.Context())
			catest.Must(t, err)
			if c := o.Certificate(r.Serial); c.State(o.Now()) != pki.Valid {
				t.Errorf("the certificate is %s after the deadline", c.State(o.Now()))
			}
		})
	}
}
