package signer

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// memory is what the journal's records add up to. Its owner holds the lock. Whatever
// is added here goes into summary as well, or the next segment forgets it.
type memory struct {
	crls      map[string]crlMark
	tree      pki.Checkpoint // the newest that was signed; Number 0: none yet
	losses    []acceptedLoss
	destroyed []string
	recent    recent
}

// crlMark is the last CRL of an issuer that was signed.
type crlMark struct {
	Number int64  `json:"number"`
	TBS    string `json:"tbs"` // SHA-256, hex
}

func newMemory() *memory {
	return &memory{crls: map[string]crlMark{}, recent: newRecent(0)}
}

// apply takes a record that was written by an earlier process or just now.
func (m *memory) apply(r record) {
	switch r.Kind {
	case kindSign:
		m.recent.add(r)
	case kindCRL:
		if r.Number >= m.crls[r.Issuer].Number {
			m.crls[r.Issuer] = crlMark{r.Number, r.TBS}
		}
	case kindTree:
		m.tree = r.tree()
	case kindLoss:
		m.losses = append(m.losses, *r.Loss)
		m.tree = r.Loss.Next
	case kindDestroy:
		m.destroy(r.Epochs)
	case kindHead:
		m.tree, m.losses = r.tree(), slices.Clone(r.Losses)
		m.destroy(r.Epochs)
		maps.Copy(m.crls, r.CRLs)
		m.recent = newRecent(r.Pasts * maxPast / packedSize)
	case kindPast:
		m.recent.unpack(r.Past)
	}
}

// destroy names epochs that are gone for ever, once each.
func (m *memory) destroy(epochs []string) {
	for _, month := range epochs {
		if !slices.Contains(m.destroyed, month) {
			m.destroyed = append(m.destroyed, month)
		}
	}
}

// summary gives the records of a head, from which apply makes this memory again.
func (m *memory) summary(now time.Time) []record {
	head := treeRecord(now, m.tree)
	head.Kind, head.Losses = kindHead, slices.Clone(m.losses)
	head.Epochs, head.CRLs = slices.Clone(m.destroyed), maps.Clone(m.crls)
	out := []record{head}
	for part := range slices.Chunk(m.recent.pack(), maxPast) {
		out = append(out, record{Kind: kindPast, Past: part})
	}
	out[0].Pasts = len(out) - 1
	return out
}

func (m *memory) crlNumbers() map[string]int64 {
	out := map[string]int64{}
	for id, mark := range m.crls {
		out[id] = mark.Number
	}
	return out
}

// admitCRL wants a number above all before. The very same CRL may be signed again:
// the answer to the first call may have been lost.
func (m *memory) admitCRL(r record) error {
	high := m.crls[r.Issuer]
	if r.Number > high.Number || r.Number == high.Number && r.TBS == high.TBS {
		return nil
	}
	return pki.E(pki.Forbidden, "signer.crl_number").With("Issuer", r.Issuer).With("Number", r.Number).With("HighWater", high.Number)
}

// admitTree refuses a tree that does not extend the newest one that was signed, by the
// consistency proof of RFC 6962 §2.1.2; the very first has none to extend (threats AU1,
// AU2). The newest itself may be signed again: the answer to the first call may have been
// lost. Where after is not the newest, another caller was faster, and nothing is said
// about the tree.
func (m *memory) admitTree(after int64, next pki.Checkpoint, proof tlog.TreeProof) error {
	last := m.tree
	switch {
	case next.Same(last):
		return nil
	case after != last.Number || next.Number <= last.Number:
		return errMoved.With("Number", last.Number)
	case last.Number == 0:
		return nil
	case next.Size < last.Size:
		return pki.E(pki.Forbidden, "signer.tree_smaller").With("Size", next.Size).With("Signed", last.Size)
	}
	err := tlog.CheckTree(proof, next.Size, next.Root, last.Size, last.Root)
	if err != nil {
		return pki.E(pki.Forbidden, "signer.tree_forked").With("Size", next.Size).With("Signed", last.Size).Because(err)
	}
	return nil
}

// errMoved says that the newest checkpoint is another than the caller believes.
var errMoved = pki.E(pki.Busy, "signer.tree_moved")

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

// packedSize is of a certificate in a head: time, index, and three short hashes.
const packedSize = 8 + 8 + 3*len(short{})

// noIndex packs an index that was forgotten with an older certificate of that index.
const noIndex = -1

const (
	recentAge = 24 * time.Hour
	maxRecent = 250_000
)

// newRecent has room for so many, so that reading a head does not make it bit by bit.
func newRecent(room int) recent {
	return recent{bySerial: make(map[short]short, room), byIndex: make(map[int64]short, room), order: make([]recentItem, 0, room)}
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

// pack gives all certificates, the oldest first.
func (m *recent) pack() []byte {
	out := make([]byte, 0, len(m.order)*packedSize)
	for _, item := range m.order {
		tbs := m.bySerial[item.serial]
		leaf, known := m.byIndex[item.index]
		if !known {
			item.index = noIndex
		}
		out = binary.BigEndian.AppendUint64(out, uint64(item.at))
		out = binary.BigEndian.AppendUint64(out, uint64(item.index))
		out = append(out, item.serial[:]...)
		out = append(out, tbs[:]...)
		out = append(out, leaf[:]...)
	}
	return out
}

// unpack adds what pack gave, or a part of it.
func (m *recent) unpack(packed []byte) {
	for one := range slices.Chunk(packed, packedSize) {
		item := recentItem{
			at:     int64(binary.BigEndian.Uint64(one)),
			index:  int64(binary.BigEndian.Uint64(one[8:])),
			serial: short(one[16:32]),
		}
		m.bySerial[item.serial] = short(one[32:48])
		if item.index != noIndex {
			m.byIndex[item.index] = short(one[48:64])
		}
		m.order = append(m.order, item)
	}
}
