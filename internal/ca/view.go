package ca

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// View is what this node knows of the status of every certificate, in memory, so
// that status is answered with the database down. It follows the change feed, whose
// cursor is the index of the audit tree: gap-free and in commit order (threat ST7).
type View struct {
	db      *store.DB
	issuers []string
	now     func() time.Time
	log     *slog.Logger

	mu      sync.RWMutex
	rows    map[string]store.StatusRow // by serial
	crls    map[string]store.CRL       // by issuer
	newest  map[string]time.Time       // newest revocation by issuer
	cursor  int64                      // records below it are known
	horizon time.Time                  // everything committed before it is known
	ready   bool
}

// Poll is how often a view asks the change feed. A revocation is in the answers of
// every node within a second.
const Poll = 200 * time.Millisecond

// NewView makes an empty view; Run fills it.
func NewView(db *store.DB, issuers []string, now func() time.Time, log *slog.Logger) *View {
	return &View{db: db, issuers: issuers, now: now, log: log,
		rows: map[string]store.StatusRow{}, crls: map[string]store.CRL{}, newest: map[string]time.Time{}}
}

// Load reads everything once.
func (v *View) Load(ctx context.Context) error {
	began := v.now()
	return v.db.View(ctx, func(tx *store.Tx) error {
		size, _, err := tx.AuditTree()
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		err = tx.EachStatus(v.put)
		if err != nil {
			return err
		}
		err = v.loadCRLs(tx)
		if err != nil {
			return err
		}
		v.cursor, v.horizon, v.ready = size, began, true
		return nil
	})
}

// Run follows the feed until the context ends. When the database is away the view
// goes on answering with the horizon it has.
func (v *View) Run(ctx context.Context) {
	ticker := time.NewTicker(Poll)
	defer ticker.Stop()
	healthy := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := v.Catch(ctx)
		if err != nil && healthy && ctx.Err() == nil {
			v.log.Warn("status feed stopped; answering from memory", "err", err)
		}
		if err == nil && !healthy {
			v.log.Info("status feed is back")
		}
		healthy = err == nil
	}
}

// feedPage bounds one read of the feed.
const feedPage = 1000

// Catch reads the feed up to its end.
func (v *View) Catch(ctx context.Context) error {
	for {
		began := v.now()
		more := false
		err := v.db.View(ctx, func(tx *store.Tx) error {
			v.mu.RLock()
			cursor := v.cursor
			v.mu.RUnlock()
			records, err := tx.AuditAfter(cursor-1, feedPage)
			if err != nil {
				return err
			}
			more = len(records) == feedPage
			return v.apply(tx, records, began, more)
		})
		if err != nil || !more {
			return err
		}
	}
}

func (v *View) apply(tx *store.Tx, records []store.AuditRecord, began time.Time, more bool) error {
	var changed []store.StatusRow
	crl := false
	for _, r := range records {
		switch {
		case r.Kind == "crl.published":
			crl = true
		case r.Kind == "certificate.issued" || r.Kind == "certificate.revoked" || r.Kind == "certificate.lifted":
			row, err := tx.Status(r.Subject)
			if err != nil && !errors.Is(err, pki.ErrNotFound) {
				return err
			}
			if err == nil {
				changed = append(changed, row)
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, row := range changed {
		v.put(row)
	}
	if crl {
		err := v.loadCRLs(tx)
		if err != nil {
			return err
		}
	}
	if len(records) > 0 {
		v.cursor = records[len(records)-1].Index + 1
	}
	if !more {
		v.horizon, v.ready = began, true
	}
	return nil
}

// put stores a row; the caller holds the lock.
func (v *View) put(row store.StatusRow) {
	v.rows[row.Serial] = row
	if row.Revoked.After(v.newest[row.Issuer]) {
		v.newest[row.Issuer] = row.Revoked
	}
}

func (v *View) loadCRLs(tx *store.Tx) error {
	for _, issuer := range v.issuers {
		crl, err := tx.LastCRL(issuer)
		if errors.Is(err, pki.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		v.crls[issuer] = crl
	}
	return nil
}

// Status gives the facts of a serial under an issuer, and the horizon of the answer.
func (v *View) Status(issuer, serial string) (store.StatusRow, bool, time.Time) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	row, ok := v.rows[strings.ToLower(serial)]
	return row, ok && row.Issuer == issuer, v.horizon
}

// Horizon is the time before which this node knows everything; zero until loaded.
func (v *View) Horizon() time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.horizon
}

// CRL gives the newest CRL of an issuer and when the newest revocation was.
func (v *View) CRL(issuer string) (store.CRL, time.Time) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.crls[issuer], v.newest[issuer]
}
