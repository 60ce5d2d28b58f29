package ca

import (
	"context"
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
	issued  []serials // of each issuer in the view's list, good ones and others
	revoked map[serial]revocation
	dated   map[serial]struct{}  // those of revoked that are, or were, dated forward: few
	newest  map[string]time.Time // newest revocation, or lift of a hold, by issuer
}

// revocation is what a certificate is revoked with, in 32 octets: 56 with the number, where
// a store.StatusRow takes 200. Times are µs since 1970, also the zero time.
type revocation struct {
	revoked, effective, invalid int64
	place                       uint8 // of the issuer in the view's list
	reason                      uint8
}

func newKnown(issuers int) known {
	k := known{make([]serials, issuers), map[serial]revocation{}, map[serial]struct{}{}, map[string]time.Time{}}
	for place := range k.issued {
		k.issued[place] = packSerials()
	}
	return k
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
	return &View{db: db, issuers: issuers, now: now, log: log, known: newKnown(len(issuers)), crls: map[string]store.CRL{}}
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
	all := newKnown(len(v.issuers))
	lists := make([][][]serial, len(v.issuers))
	err := tx.EachSerials(v.issuers, func(place int, text string) error {
		list := make([]serial, 0, len(text)/(2*len(serial{})+1)+1)
		for one := range strings.SplitSeq(text, ",") {
			number, err := readSerial(one)
			if err != nil {
				return fmt.Errorf("serial %s: %w", one, err)
			}
			list = append(list, number)
		}
		lists[place] = append(lists[place], list)
		return nil
	})
	if err != nil {
		return all, err
	}
	for place := range lists {
		all.issued[place] = packSerials(lists[place]...)
	}
	err = tx.EachRevoked(v.issuers, func(row store.StatusRow) error { return v.put(all, row) })
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
		v.pack()
		if err != nil || !more {
			return err
		}
	}
}

// pack packs the sets that many came to. Nobody else changes them meanwhile: the caller
// reads the feed.
func (v *View) pack() {
	for place := range v.known.issued {
		set := &v.known.issued[place]
		if !set.loose() {
			continue
		}
		packed := set.repacked()
		v.mu.Lock()
		*set = packed
		v.mu.Unlock()
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
	k.issued[place].add(key)
	delete(k.dated, key)
	if row.Revoked.IsZero() {
		delete(k.revoked, key)
		return nil
	}
	k.revoked[key] = revocation{row.Revoked.UnixMicro(), row.Effective.UnixMicro(), row.Invalid.UnixMicro(), uint8(place), uint8(row.Reason)}
	if row.Effective.After(row.Revoked) {
		k.dated[key] = struct{}{}
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
	r, ok := v.known.revoked[key]
	if ok {
		return store.StatusRow{Issuer: v.issuers[r.place], Revoked: time.UnixMicro(r.revoked).UTC(), Effective: time.UnixMicro(r.effective).UTC(),
			Reason: pki.Reason(r.reason), Invalid: time.UnixMicro(r.invalid).UTC()}, v.issuers[r.place] == issuer
	}
	place := slices.Index(v.issuers, issuer)
	return store.StatusRow{Issuer: issuer}, place >= 0 && v.known.issued[place].has(key)
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
	for place := range v.known.issued {
		issued += v.known.issued[place].count()
	}
	return issued, len(v.known.revoked)
}

// CRL gives the newest CRL of an issuer and when the newest revocation was, or began to
// count (threat RV6).
func (v *View) CRL(issuer string) (store.CRL, time.Time) {
	now := v.now()
	v.mu.RLock()
	defer v.mu.RUnlock()
	newest := v.known.newest[issuer]
	for number := range v.known.dated {
		r := v.known.revoked[number]
		effective := time.UnixMicro(r.effective).UTC()
		if v.issuers[r.place] == issuer && effective.After(newest) && !now.Before(effective) {
			newest = effective
		}
	}
	return v.crls[issuer], newest
}

// Unlisted says since when the oldest revocation, or lift of a hold, of an issuer has been
// waiting for a CRL; zero where none does. This node answers OCSP by all of them.
func (v *View) Unlisted(issuer string) time.Time {
	crl, newest := v.CRL(issuer)
	if !newest.After(crl.ThisUpdate) {
		return time.Time{}
	}
	oldest, now := newest, v.now()
	place := slices.Index(v.issuers, issuer)
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, r := range v.known.revoked {
		at := time.UnixMicro(max(r.revoked, r.effective)).UTC()
		if int(r.place) == place && at.After(crl.ThisUpdate) && at.Before(oldest) && !now.Before(at) {
			oldest = at
		}
	}
	return oldest
}
