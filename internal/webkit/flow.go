package webkit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"inkan/internal/crash"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// Flows keeps people's ways through sequences of pages. One flow is one row: any number
// of tabs have any number of flows, and none knows of another.
type Flows struct {
	DB *store.DB
	// Idle is the time without a step after which a session has ended (セッション
	// タイムアウト). What was typed stays for Kept, so that one step leads back to it.
	Idle time.Duration
}

// Kept is how long the row of a flow stays after its last step.
const Kept = 24 * time.Hour

// Begin stores a new flow at its first step.
func (f Flows) Begin(ctx context.Context, kind string, owner [32]byte, subject, step string, facts map[string]string) (store.Flow, error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails; see crypto/rand
	flow := store.Flow{ID: hex.EncodeToString(id), Kind: kind, Owner: owner[:], Subject: subject, Step: step, Facts: facts}
	err := f.DB.Update(ctx, func(tx *store.Tx) error {
		flow.SeenAt, flow.Until = tx.Now, tx.Now.Add(Kept)
		err := tx.AddFlow(flow)
		crash.At("flow.1 before commit")
		return err
	})
	crash.At("flow.1 after commit")
	return flow, err
}

// Read gives the flow of an owner as it is now. flow.unknown: it is nobody's, another
// browser's or of another certificate, and nothing tells which. flow.ended comes with
// the flow: the session is over, and Resume goes on.
func (f Flows) Read(ctx context.Context, id, kind string, owner [32]byte) (store.Flow, error) {
	var flow store.Flow
	err := f.DB.View(ctx, func(tx *store.Tx) error {
		var err error
		flow, err = tx.Flow(id)
		if err != nil {
			return err
		}
		if flow.Kind != kind || owner == [32]byte{} || !bytes.Equal(flow.Owner, owner[:]) || tx.Now.After(flow.Until) {
			return pki.ErrNotFound
		}
		if tx.Now.Sub(flow.SeenAt) > f.Idle {
			return pki.E(pki.Gone, "flow.ended").With("Kept", flow.Until)
		}
		return nil
	})
	if errors.Is(err, pki.ErrNotFound) {
		return store.Flow{}, pki.E(pki.NotFound, "flow.unknown")
	}
	return flow, err
}

// Move makes a step from the flow as it was read. When another tab was faster, nothing
// happens: the page of the flow shows what is true now.
func (f Flows) Move(ctx context.Context, flow store.Flow, subject, step string, facts map[string]string) error {
	seen := flow.Step
	flow.Subject, flow.Step, flow.Facts = subject, step, facts
	err := f.DB.Update(ctx, func(tx *store.Tx) error {
		flow.SeenAt, flow.Until = tx.Now, tx.Now.Add(Kept)
		err := tx.MoveFlow(flow, seen)
		crash.At("flow.2 before commit")
		return err
	})
	crash.At("flow.2 after commit")
	if errors.Is(err, pki.ErrConflict) {
		return nil
	}
	return err
}

// Keep stores what was typed in a flow whose session has ended. It stays ended.
func (f Flows) Keep(ctx context.Context, flow store.Flow, facts map[string]string) error {
	flow.Facts = facts
	err := f.DB.Update(ctx, func(tx *store.Tx) error { return tx.MoveFlow(flow, flow.Step) })
	if errors.Is(err, pki.ErrConflict) {
		return nil
	}
	return err
}

// Resume begins the session of a flow anew where it ended, with all that was typed.
func (f Flows) Resume(ctx context.Context, flow store.Flow) error {
	return f.Move(ctx, flow, flow.Subject, flow.Step, flow.Facts)
}
