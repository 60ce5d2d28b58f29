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

	feed sync.Mutex // one reader of the feed: an older snapshot must not come in after a newer one

	mu      sync.RWMutex               // never held while the database is asked
	rows    map[string]store.StatusRow // by serial
	crls    map[string]store.CRL       // by issuer
	newest  map[string]time.Time       // newest revocation by issuer
	cursor  int64                      // records below it are known
	horizon time.Time                  // everything that bears a time up to it is known
}

// Poll is how often a view asks the change feed. A revocation is in the answers of
// every node within a second.
const Poll = 200 * time.Millisecond

// beat is the age of the horizon at which a view commits something empty itself: the
// horizon is the time of a commit, not of a clock, because a revocation that is on its
// way to the disk, or made by a node whose clock runs behind, bears an earlier time
// than now (threat ST6).
const beat = time.Second

// NewView makes an empty view; Run fills it.
func NewView(db *store.DB, issuers []string, now func() time.Time, log *slog.Logger) *View {
	return &View{db: db, issuers: issuers, now: now, log: log,
		rows: map[string]store.StatusRow{}, crls: map[string]store.CRL{}, newest: map[string]time.Time{}}
}

// Load reads everything once.
func (v *View) Load(ctx context.Context) error {
	v.feed.Lock()
	defer v.feed.Unlock()
	err := v.touch(ctx)
	if err != nil {
		return err
	}
	return v.db.View(ctx, func(tx *store.Tx) error {
		size, _, err := tx.AuditTree()
		if err != nil {
			return err
		}
		all := &View{rows: map[string]store.StatusRow{}, newest: map[string]time.Time{}}
		err = tx.EachStatus(all.put)
		if err != nil {
			return err
		}
		all.crls, err = v.readCRLs(tx)
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.rows, v.newest, v.crls, v.cursor, v.horizon = all.rows, all.newest, all.crls, size, tx.Committed()
		return nil
	})
}

// touch makes an empty commit.
func (v *View) touch(ctx context.Context) error {
	return v.db.Update(ctx, func(*store.Tx) error { return nil })
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

// Catch reads the feed up to its end. When the horizon is old because nothing was
// committed, an empty commit moves it; that may fail (another process holds the lock)
// without keeping what is known already from the answers.
func (v *View) Catch(ctx context.Context) error {
	v.feed.Lock()
	defer v.feed.Unlock()
	err := v.read(ctx)
	if err != nil || v.now().Sub(v.Horizon()) < beat {
		return err
	}
	err = v.touch(ctx)
	if err != nil {
		return err
	}
	return v.read(ctx)
}

func (v *View) read(ctx context.Context) error {
	for {
		more := false
		err := v.db.View(ctx, func(tx *store.Tx) error {
			records, err := tx.AuditAfter(v.cursor-1, feedPage)
			if err != nil {
				return err
			}
			more = len(records) == feedPage
			return v.apply(tx, records, more)
		})
		if err != nil || !more {
			return err
		}
	}
}

func (v *View) apply(tx *store.Tx, records []store.AuditRecord, more bool) error {
	var changed []store.StatusRow
	var crls map[string]store.CRL
	cursor, horizon, published := v.cursor, time.Time{}, false
	for _, r := range records {
		cursor = r.Index + 1
		switch r.Kind {
		case "crl.published":
			published = true
		case "certificate.issued", "certificate.revoked", "certificate.lifted":
			row, err := tx.Status(r.Subject)
			if err != nil && !errors.Is(err, pki.ErrNotFound) {
				return err
			}
			if err == nil {
				changed = append(changed, row)
			}
		}
	}
	if published {
		var err error
		crls, err = v.readCRLs(tx)
		if err != nil {
			return err
		}
	}
	if !more {
		horizon = tx.Committed()
	}
	v.learn(changed, crls, cursor, horizon)
	return nil
}

// learn takes over what one snapshot says. A zero horizon: there is more to read.
func (v *View) learn(rows []store.StatusRow, crls map[string]store.CRL, cursor int64, horizon time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, row := range rows {
		v.put(row)
	}
	for issuer, crl := range crls {
		v.crls[issuer] = crl
	}
	v.cursor = cursor
	if !horizon.IsZero() {
		v.horizon = horizon
	}
}

// put stores a row; the caller holds the lock.
func (v *View) put(row store.StatusRow) {
	v.rows[row.Serial] = row
	if row.Revoked.After(v.newest[row.Issuer]) {
		v.newest[row.Issuer] = row.Revoked
	}
}

func (v *View) readCRLs(tx *store.Tx) (map[string]store.CRL, error) {
	crls := map[string]store.CRL{}
	for _, issuer := range v.issuers {
		crl, err := tx.LastCRL(issuer)
		if errors.Is(err, pki.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		crls[issuer] = crl
	}
	return crls, nil
}

// Status gives the facts of a serial under an issuer, and the horizon of the answer.
func (v *View) Status(issuer, serial string) (store.StatusRow, bool, time.Time) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	row, ok := v.rows[strings.ToLower(serial)]
	return row, ok && row.Issuer == issuer, v.horizon
}

// Horizon is the time up to which this node knows everything; zero until loaded.
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
