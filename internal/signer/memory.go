package signer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"time"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// memory is what the journal's records add up to. Its owner holds the lock.
type memory struct {
	crls      map[string]crlMark
	treeSize  int64
	treeRoot  []byte
	destroyed []string
	recent    recent
}

type crlMark struct {
	number int64
	tbs    string
}

func newMemory() *memory {
	return &memory{crls: map[string]crlMark{}, recent: newRecent()}
}

// apply takes a record that was written by an earlier process or just now.
func (m *memory) apply(r record) {
	switch r.Kind {
	case kindSign:
		m.recent.add(r)
	case kindCRL:
		if r.Number >= m.crls[r.Issuer].number {
			m.crls[r.Issuer] = crlMark{r.Number, r.TBS}
		}
	case kindTree:
		root, err := hex.DecodeString(r.Root)
		if err == nil && r.Size >= m.treeSize {
			m.treeSize, m.treeRoot = r.Size, root
		}
	case kindDestroy:
		m.destroyed = append(m.destroyed, r.Epochs...)
	}
}

func (m *memory) highWater() keystore.HighWater {
	out := keystore.HighWater{TreeSize: m.treeSize, CRLNumbers: map[string]int64{}}
	for id, mark := range maps.All(m.crls) {
		out.CRLNumbers[id] = mark.number
	}
	return out
}

// admitCRL wants a number above all before. The very same CRL may be signed again:
// the answer to the first call may have been lost.
func (m *memory) admitCRL(r record) error {
	high := m.crls[r.Issuer]
	if r.Number > high.number || r.Number == high.number && r.TBS == high.tbs {
		return nil
	}
	return pki.E(pki.Forbidden, "signer.crl_number").With("Issuer", r.Issuer).With("Number", r.Number).With("HighWater", high.number)
}

// admitTree refuses a tree that lost its tail, or that has another past.
func (m *memory) admitTree(size int64, root []byte) error {
	switch {
	case size < m.treeSize:
		return pki.E(pki.Forbidden, "signer.tree_smaller").With("Size", size).With("HighWater", m.treeSize)
	case size == m.treeSize && m.treeRoot != nil && !bytes.Equal(root, m.treeRoot):
		return pki.E(pki.Forbidden, "signer.tree_forked").With("Size", size)
	}
	return nil
}

// recent remembers the certificates of the last day, up to a number, in 16 octets a
// hash. Serials are 159 random bits and unique in the database; this is the second
// line, for the time in which a defect or an attack would repeat one.
type recent struct {
	bySerial map[short]short
	byIndex  map[int64]short
	order    []recentItem
}

type short [16]byte

type recentItem struct {
	serial short
	index  int64
	at     int64
}

const (
	recentAge = 24 * time.Hour
	maxRecent = 250_000
)

func newRecent() recent {
	return recent{bySerial: map[short]short{}, byIndex: map[int64]short{}}
}

func shorten(parts ...string) short {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // never fails; see hash.Hash
		_, _ = h.Write([]byte{0})
	}
	return short(h.Sum(nil)[:16])
}

// admit refuses a serial with other content than before, and an audit index with
// another leaf: a tree has one leaf at an index.
func (m *recent) admit(r record) error {
	tbs, known := m.bySerial[shorten(r.Issuer, r.Serial)]
	if known && tbs != shorten(r.TBS) {
		return pki.E(pki.Forbidden, "signer.serial").With("Serial", r.Serial)
	}
	leaf, known := m.byIndex[r.Index]
	if known && leaf != shorten(r.Leaf) {
		return pki.E(pki.Forbidden, "signer.leaf").With("Index", r.Index)
	}
	return nil
}

func (m *recent) add(r record) {
	serial := shorten(r.Issuer, r.Serial)
	_, known := m.bySerial[serial]
	if known {
		return
	}
	m.bySerial[serial] = shorten(r.TBS)
	m.byIndex[r.Index] = shorten(r.Leaf)
	m.order = append(m.order, recentItem{serial, r.Index, r.At})
	drop := 0
	for drop < len(m.order) && (len(m.order)-drop > maxRecent || m.order[drop].at < r.At-int64(recentAge/time.Second)) {
		delete(m.bySerial, m.order[drop].serial)
		delete(m.byIndex, m.order[drop].index)
		drop++
	}
	m.order = m.order[drop:]
}

// limiter is a bucket of one minute's signatures that fills evenly.
type limiter struct {
	perMinute float64
	left      float64
	last      time.Time
}

func newLimiter(perMinute int) *limiter {
	return &limiter{perMinute: float64(perMinute), left: float64(perMinute)}
}

func (l *limiter) allow(now time.Time) bool {
	passed := now.Sub(l.last)
	if passed > 0 && !l.last.IsZero() {
		l.left = min(l.perMinute, l.left+l.perMinute*passed.Minutes())
	}
	l.last = now // also when a clock was put back
	if l.left < 1 {
		return false
	}
	l.left--
	return true
}
