package ca

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/internal/crash"
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

	mu      sync.RWMutex // never held while the database is asked
	known   known
	crls    map[string]store.CRL // by issuer
	cursor  int64                // records below it are known
	root    [32]byte             // of the audit tree of these records
	horizon time.Time            // everything that bears a time up to it is known
}

// known is the status of certificates in as few octets as it takes: there may be a
// million of them.
type known struct {
	good    map[serial]uint8 // the place of its issuer in the view's list
	revoked map[serial]store.StatusRow
	newest  map[string]time.Time       // newest revocation, or lift of a hold, by issuer
	dated   map[serial]store.StatusRow // those of revoked that are, or were, dated forward: few
}

func newKnown() known {
	return known{map[serial]uint8{}, map[serial]store.StatusRow{}, map[string]time.Time{}, map[serial]store.StatusRow{}}
}

// serial is a serial number, right-aligned. Ours have exactly these octets.
type serial [20]byte

// serialOf gives false for a number that cannot be one of ours.
func serialOf(n *big.Int) (serial, bool) {
	var s serial
	if n.Sign() < 0 || n.BitLen() > 8*len(s) {
		return s, false
	}
	n.FillBytes(s[:])
	return s, true
}

// readSerial reads the hexadecimal form of the database.
func readSerial(text string) (serial, error) {
	var s serial
	if len(text) > 2*len(s) {
		return s, fmt.Errorf("serial of %d digits", len(text))
	}
	if len(text)%2 == 1 {
		text = "0" + text
	}
	_, err := hex.Decode(s[len(s)-len(text)/2:], []byte(text))
	return s, err
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
	return &View{db: db, issuers: issuers, now: now, log: log, known: newKnown(), crls: map[string]store.CRL{}}
}

// Load reads everything once, or what is new since Preload.
func (v *View) Load(ctx context.Context) error {
	v.feed.Lock()
	defer v.feed.Unlock()
	err := v.touch(ctx)
	if err != nil { // the horizon is old then, and what is known by it all the same true
		v.log.Warn("status is loaded as of the last commit", "err", err)
	}
	if v.Horizon().IsZero() {
		return v.reload(ctx)
	}
	return v.read(ctx)
}

// Preload reads everything as it is, and writes nothing: a start does it while the
// signer opens its vault.
func (v *View) Preload(ctx context.Context) error {
	v.feed.Lock()
	defer v.feed.Unlock()
	return v.reload(ctx)
}

func (v *View) reload(ctx context.Context) error {
	return v.db.View(ctx, func(tx *store.Tx) error {
		size, root, err := tx.AuditTree()
		if err != nil {
			return err
		}
		all, err := v.readKnown(tx)
		if err != nil {
			return err
		}
		crls, err := v.readCRLs(tx)
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.known, v.crls, v.cursor, v.root, v.horizon = all, crls, size, root, tx.Committed()
		return nil
	})
}

func (v *View) readKnown(tx *store.Tx) (known, error) {
	all := newKnown()
	for place, issuer := range v.issuers {
		err := tx.EachSerials(issuer, func(serials string) error {
			for text := range strings.SplitSeq(serials, ",") {
				key, err := readSerial(text)
				if err != nil {
					return err
				}
				all.good[key] = uint8(place)
			}
			return nil
		})
		if err != nil {
			return all, err
		}
	}
	err := tx.EachRevoked(func(row store.StatusRow) error { return v.put(all, row) })
	if err != nil {
		return all, err
	}
	// A certificate whose hold was lifted looks as if it had never been on hold, but a
	// CRL of before still holds it: who lifted may have died before the next one.
	lifts, err := tx.LastLifts()
	for issuer, at := range lifts {
		if at.After(all.newest[issuer]) {
			all.newest[issuer] = at
		}
	}
	return all, err
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

// feedPage bounds how many records one read of the feed looks at.
const feedPage = 4000

// catchTime bounds one reading of the feed: from a database that hangs without a word,
// the next reading may get to another one.
const catchTime = 20 * time.Second

// Catch reads the feed up to its end. When the horizon is old because nothing was
// committed, an empty commit moves it; that may fail (another process holds the lock)
// without keeping what is known already from the answers.
func (v *View) Catch(ctx context.Context) error {
	v.feed.Lock()
	defer v.feed.Unlock()
	ctx, cancel := context.WithTimeout(ctx, catchTime)
	defer cancel()
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
		more, other := false, false
		err := v.db.View(ctx, func(tx *store.Tx) error {
			size, root, err := tx.AuditTree()
			if err != nil {
				return err
			}
			other, err = v.another(tx, size, root)
			if err != nil || other {
				return err
			}
			to := min(size, v.cursor+feedPage)
			more = to < size
			if more {
				root, err = tx.AuditTreeAt(to)
				if err != nil {
					return err
				}
			}
			return v.apply(tx, to, root, more)
		})
		if other {
			v.log.Error("the database lacks commits that were known; status is loaded anew", "known", v.cursor)
			return v.reload(ctx)
		}
		if err != nil || !more {
			return err
		}
	}
}

// another says whether the records below the cursor are not those that the view knows:
// so it is after a failover to a standby that lacked the last commits, or a restore. To
// go on from the cursor would then be to miss what others took its place.
func (v *View) another(tx *store.Tx, size int64, root [32]byte) (bool, error) {
	if size < v.cursor {
		return true, nil
	}
	if size > v.cursor {
		before, err := tx.AuditTreeAt(v.cursor)
		if err != nil {
			return false, err
		}
		root = before
	}
	return root != v.root && v.cursor > 0, nil
}

// apply takes over what the records up to an index tell; root is the tree's of them.
func (v *View) apply(tx *store.Tx, to int64, root [32]byte, more bool) error {
	rows, published, err := tx.StatusFeed(v.cursor, to)
	if err != nil {
		return err
	}
	var crls map[string]store.CRL
	if published {
		crls, err = v.readCRLs(tx)
		if err != nil {
			return err
		}
	}
	crash.At("issue.9 before the view learns")
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, row := range rows {
		held, err := v.known.revokedBefore(row)
		if err != nil {
			return err
		}
		err = v.put(v.known, row)
		if err != nil {
			return err
		}
		if held && row.Revoked.IsZero() { // lifted: the CRL that still holds it is due
			v.known.newest[row.Issuer] = tx.Committed()
		}
	}
	for issuer, crl := range crls {
		if crl.Number > v.crls[issuer].Number {
			v.crls[issuer] = crl
		}
	}
	v.cursor, v.root = to, root
	if !more {
		v.horizon = tx.Committed()
	}
	return nil
}

// put takes over the status of one certificate. Of an issuer that the view does not
// serve it keeps nothing.
func (v *View) put(k known, row store.StatusRow) error {
	key, err := readSerial(row.Serial)
	if err != nil {
		return fmt.Errorf("status of %s: %w", row.Serial, err)
	}
	place := slices.Index(v.issuers, row.Issuer)
	if place < 0 {
		return nil
	}
	delete(k.dated, key)
	if row.Revoked.IsZero() {
		k.good[key] = uint8(place)
		delete(k.revoked, key)
		return nil
	}
	delete(k.good, key)
	k.revoked[key] = row
	if row.Effective.After(row.Revoked) {
		k.dated[key] = row
	}
	if row.Revoked.After(k.newest[row.Issuer]) {
		k.newest[row.Issuer] = row.Revoked
	}
	return nil
}

func (k known) revokedBefore(row store.StatusRow) (bool, error) {
	key, err := readSerial(row.Serial)
	_, was := k.revoked[key]
	return was, err
}

func (v *View) readCRLs(tx *store.Tx) (map[string]store.CRL, error) {
	crls := map[string]store.CRL{}
	for _, issuer := range v.issuers {
		crl, err := tx.LastCRL(issuer, v.have(issuer))
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

// have gives the newest CRL of an issuer that is in memory; a zero one where none is.
func (v *View) have(issuer string) store.CRL {
	if v == nil {
		return store.CRL{}
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.crls[issuer]
}

// take is told of a CRL that this process published, so that it need not be read.
func (v *View) take(crl store.CRL) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if crl.Number > v.crls[crl.Issuer].Number {
		v.crls[crl.Issuer] = crl
	}
}

// Status gives the facts of a serial under an issuer; false where there is none.
func (v *View) Status(issuer string, number *big.Int) (store.StatusRow, bool) {
	key, ok := serialOf(number)
	if !ok {
		return store.StatusRow{}, false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	row, ok := v.known.revoked[key]
	if ok {
		return row, row.Issuer == issuer
	}
	place, ok := v.known.good[key]
	return store.StatusRow{Issuer: issuer}, ok && v.issuers[place] == issuer
}

// Horizon is the time up to which this node knows everything; zero until loaded.
func (v *View) Horizon() time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.horizon
}

// Counts gives how many certificates this node knows, and how many of them are revoked
// or suspended.
func (v *View) Counts() (issued, revoked int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.known.good) + len(v.known.revoked), len(v.known.revoked)
}

// CRL gives the newest CRL of an issuer and when the newest revocation was, or began to
// count (threat RV6).
func (v *View) CRL(issuer string) (store.CRL, time.Time) {
	now := v.now()
	v.mu.RLock()
	defer v.mu.RUnlock()
	newest := v.known.newest[issuer]
	for _, row := range v.known.dated {
		if row.Issuer == issuer && row.Effective.After(newest) && !now.Before(row.Effective) {
			newest = row.Effective
		}
	}
	return v.crls[issuer], newest
}
