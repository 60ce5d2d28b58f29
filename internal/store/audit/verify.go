package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Finding is one thing that is wrong with the audit tree.
type Finding struct {
	Index      int64  // the record, or the first of those that are meant
	Count      int64  // how many records are meant
	What       string // a word of the list below
	Checkpoint int64  // number of the checkpoint that is meant; 0: none
}

// What can be found.
const (
	RecordChanged     = "changed"            // header, salt, body or digest do not give the leaf
	RecordMissing     = "missing"            // removed, or cut off at the end
	RecordInserted    = "inserted"           // an index the tree does not have
	RecordErased      = "erased"             // without a record that says who erased it
	HashDiffers       = "hash"               // stored node and leaves disagree: leaves were rewritten
	HashMissing       = "hash_gone"          // a stored node is missing
	HashExtra         = "hash_extra"         // a stored node the tree does not have
	RootDiffers       = "root"               // stored root and records disagree
	CheckpointForged  = "signature"          // the note is not signed by the key, is not readable, or is in another's row
	CheckpointBroken  = "checkpoint"         // the records are not those that were signed
	CheckpointMissing = "checkpoint_missing" // the signer signed it, and it is not there; Count: how many from it on
	SignerBehind      = "signer_behind"      // the signer does not remember the newest checkpoint: its journal is older
	Unverifiable      = "unverified"         // the next checkpoint is behind a missing record
	maxFindings       = 100                  // the rest is only counted
)

// Report is the outcome of VerifyAudit.
type Report struct {
	Size        int64
	Root        tlog.Hash
	Erased      int64 // records whose body was erased, by a record that says so
	Checkpoints int   // signed ones that hold
	Protected   int64 // size of the largest of them: records behind it are not yet signed
	Losses      []pki.Loss
	Findings    []Finding
	More        int // findings that were not listed
}

// OK says whether nothing was found. Losses that were accepted are told and are no
// findings.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// First gives the first record that something was found about; false where nothing was
// found.
func (r Report) First() (int64, bool) {
	if len(r.Findings) == 0 {
		return 0, false
	}
	first := r.Findings[0].Index
	for _, f := range r.Findings {
		first = min(first, f.Index)
	}
	return first, true
}

func (r *Report) find(what string, index, count int64) { r.findCheckpoint(what, index, count, 0) }

func (r *Report) findCheckpoint(what string, index, count, checkpoint int64) {
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, Finding{index, count, what, checkpoint})
}

// known says whether a finding already explains what is wrong in a range.
func (r *Report) known(index, count int64) bool {
	for _, f := range r.Findings {
		if f.What != CheckpointMissing && f.Index < index+count && index < f.Index+f.Count {
			return true
		}
	}
	return r.More > 0
}

// VerifyAudit reads everything: each record's leaf is computed again from header,
// salt and body, the tree is built again from the leaves and compared with the
// stored nodes, the stored root, every saved checkpoint and the newest one that the signer
// remembers. The numbers of checkpoints have no gap but for losses that the signer
// accepted. progress may be nil. The error says that verifying failed, not that
// something was found.
func VerifyAudit(ctx context.Context, db *engine.DB, head Head, progress func(done, total int64)) (Report, error) {
	key, err := note.NewVerifier(head.VerifierKey)
	if err != nil {
		return Report{}, pki.E(pki.Invalid, "audit.verifier_key").Because(err)
	}
	v := &verification{head: head, erasures: map[int64]bool{}, progress: progress}
	v.report.Losses = head.Losses
	if progress == nil {
		v.progress = func(int64, int64) {}
	}
	err = db.View(ctx, func(tx *engine.Tx) error {
		v.tx = Of(tx)
		err := v.readCheckpoints(note.VerifierList(key))
		if err != nil {
			return err
		}
		err = v.readRecords(ctx)
		if err != nil {
			return err
		}
		return v.finish()
	})
	return v.report, err
}

type verification struct {
	tx          *Tx
	head        Head
	report      Report
	progress    func(done, total int64)
	tree        tree
	extra       bool // a stored node belongs to no record
	broken      bool // a record is missing: the tree cannot be built any further
	next        int64
	checkpoints []pki.Checkpoint // still to be reached, by size
	numbered    int64            // the highest number of a saved one
	erased      []int64
	erasures    map[int64]bool // indexes that records of KindErased name
	nodes       []node         // stored nodes read ahead
	nodeCursor  int64
}

const verifyPage = 1000

func (v *verification) readCheckpoints(keys note.Verifiers) error {
	rows, err := v.tx.sql.Query(`SELECT number, size, note FROM checkpoint ORDER BY number`)
	if err != nil {
		return engine.Error("read checkpoints", err)
	}
	type saved struct {
		number, size int64
		note         []byte
	}
	all, err := engine.Collect(rows, func(row engine.Scanner) (saved, error) {
		var s saved
		err := row.Scan(&s.number, &s.size, &s.note)
		return s, err
	})
	if err != nil {
		return err
	}
	for _, s := range all {
		c, err := openCheckpoint(s.note, keys)
		if err != nil || c.Number != s.number || c.Size != s.size || c.Size < 1 {
			v.report.findCheckpoint(CheckpointForged, s.size, 0, s.number)
			continue
		}
		v.noGap(c.Number)
		v.numbered = c.Number
		if !v.lost(c.Number) {
			v.checkpoints = append(v.checkpoints, c)
		}
	}
	// The newest may not be saved yet: between the signer and the database somebody died.
	v.noGap(v.head.Number)
	if v.numbered > v.head.Number {
		v.report.findCheckpoint(SignerBehind, v.head.Size, 0, v.numbered)
	}
	if v.head.Number > 0 && !v.lost(v.head.Number) && !slices.ContainsFunc(v.checkpoints, v.head.Same) {
		v.checkpoints = append(v.checkpoints, v.head.Checkpoint)
	}
	slices.SortStableFunc(v.checkpoints, func(a, b pki.Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

// noGap tells of the checkpoints that are missing between the last one and a number.
func (v *verification) noGap(until int64) {
	for number := v.numbered + 1; number < until; number++ {
		if v.lost(number) {
			continue
		}
		first := number
		for number+1 < until && !v.lost(number+1) {
			number++
		}
		v.report.findCheckpoint(CheckpointMissing, v.size(first-1), number-first+1, first)
	}
}

// size is that of the checkpoint with a number; 0 where it is not there.
func (v *verification) size(number int64) int64 {
	for _, c := range v.checkpoints {
		if c.Number == number {
			return c.Size
		}
	}
	return 0
}

// lost says whether a checkpoint is of a tree whose loss was accepted.
func (v *verification) lost(number int64) bool {
	return slices.ContainsFunc(v.report.Losses, func(l pki.Loss) bool { return l.Kept < number && number < l.Next.Number })
}

func (v *verification) readRecords(ctx context.Context) error {
	v.report.Size = v.tx.page().size
	v.nodeCursor = -1
	var cursor int64 = -1 << 62
	for {
		page, err := v.page(cursor)
		if err != nil {
			return err
		}
		for _, r := range page {
			err = v.record(r)
			if err != nil {
				return err
			}
			cursor = r.header.Index
		}
		v.progress(min(v.next, v.tx.page().size), v.tx.page().size)
		if len(page) < verifyPage {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (v *verification) page(after int64) ([]fullRecord, error) {
	rows, err := v.tx.sql.Query(`SELECT `+fullColumns+` FROM audit WHERE idx > $1 ORDER BY idx LIMIT $2`, after, verifyPage)
	if err != nil {
		return nil, engine.Error("read audit records", err)
	}
	return engine.Collect(rows, scanFull)
}

func (v *verification) record(r fullRecord) error {
	index := r.header.Index
	if index < 0 || index >= v.tx.page().size {
		v.report.find(RecordInserted, index, 1)
		return nil
	}
	err := v.missing(index)
	if err != nil {
		return err
	}
	v.next = index + 1
	if !r.intact() {
		v.report.find(RecordChanged, index, 1)
	}
	if r.salt == nil && r.body == nil {
		v.erased = append(v.erased, index)
	}
	if r.header.Kind == KindErased {
		named, err := strconv.ParseInt(r.header.Subject, 10, 64)
		if err == nil {
			v.erasures[named] = true
		}
	}
	if v.broken {
		return nil
	}
	if len(r.leaf) != len([32]byte{}) {
		v.broken = true
		return nil
	}
	// The stored leaf, also where the record does not give it: so one changed record
	// is one finding, and the nodes above it are still checked.
	v.tree.append([32]byte(r.leaf))
	err = v.compareNodes()
	if err != nil {
		return err
	}
	v.compareCheckpoints()
	return nil
}

func (v *verification) missing(until int64) error {
	if until > v.next {
		v.report.find(RecordMissing, v.next, until-v.next)
		v.broken = true
	}
	return nil
}

// compareNodes compares the nodes that the last record completed with those stored.
func (v *verification) compareNodes() error {
	made := v.tree.pending
	v.tree.pending = nil
	for _, want := range made {
		level, n := tlog.SplitStoredHashIndex(want.index)
		first, count := n<<level, int64(1)<<level
		got, ok, err := v.storedNode(want.index)
		if err != nil {
			return err
		}
		switch {
		case v.report.known(first, count): // a parent of what is known to be wrong
		case !ok:
			v.report.find(HashMissing, first, count)
		case got != want.hash:
			v.report.find(HashDiffers, first, count)
		}
	}
	return nil
}

// storedNode reads the stored nodes in order, a page at a time; those before the
// index belong to no record.
func (v *verification) storedNode(index int64) (tlog.Hash, bool, error) {
	for {
		for len(v.nodes) > 0 && v.nodes[0].index < index {
			v.extraNode(v.nodes[0].index)
			v.nodes = v.nodes[1:]
		}
		if len(v.nodes) > 0 {
			if v.nodes[0].index != index {
				return tlog.Hash{}, false, nil
			}
			h := v.nodes[0].hash
			v.nodes = v.nodes[1:]
			return h, true, nil
		}
		more, err := v.readNodes()
		if err != nil || !more {
			return tlog.Hash{}, false, err
		}
	}
}

// extraNode lists the first only: a cut tree leaves many.
func (v *verification) extraNode(index int64) {
	if v.extra {
		return
	}
	v.extra = true
	level, n := tlog.SplitStoredHashIndex(max(index, 0))
	v.report.find(HashExtra, n<<level, 0)
}

func (v *verification) readNodes() (bool, error) {
	rows, err := v.tx.sql.Query(`SELECT idx, hash FROM audit_hash WHERE idx > $1 ORDER BY idx LIMIT $2`, v.nodeCursor, verifyPage)
	if err != nil {
		return false, engine.Error("read tree hashes", err)
	}
	v.nodes, err = engine.Collect(rows, func(row engine.Scanner) (node, error) {
		var n node
		var raw []byte
		err := row.Scan(&n.index, &raw)
		copy(n.hash[:], raw)
		return n, err
	})
	if err != nil {
		return false, err
	}
	if len(v.nodes) > 0 {
		v.nodeCursor = v.nodes[len(v.nodes)-1].index
	}
	return len(v.nodes) > 0, nil
}

func (v *verification) compareCheckpoints() {
	for len(v.checkpoints) > 0 && v.checkpoints[0].Size <= v.tree.size {
		c := v.checkpoints[0]
		v.checkpoints = v.checkpoints[1:]
		if v.tree.root() != c.Root {
			v.broke(c)
			continue
		}
		v.report.Protected = c.Size
		if c.Number <= v.numbered {
			v.report.Checkpoints++
		}
	}
}

// broke tells of a checkpoint that does not hold; those that follow it are of one finding.
func (v *verification) broke(c pki.Checkpoint) {
	count := c.Size - v.report.Protected
	for i := range v.report.Findings {
		f := &v.report.Findings[i]
		if f.What == CheckpointBroken && f.Index == v.report.Protected {
			f.Count = count
			return
		}
	}
	v.report.findCheckpoint(CheckpointBroken, v.report.Protected, count, c.Number)
}

func (v *verification) finish() error {
	err := v.missing(v.tx.page().size)
	if err != nil {
		return err
	}
	if !v.broken {
		v.compareCheckpoints()
		v.report.Root = v.tree.root()
		if !bytes.Equal(v.report.Root[:], v.tx.page().root) {
			v.report.find(RootDiffers, v.tx.page().size, 0)
		}
		_, _, err = v.storedNode(1 << 62) // what is left belongs to no record
		if err != nil {
			return err
		}
	}
	if len(v.checkpoints) > 0 {
		next, largest := v.checkpoints[0].Size, v.checkpoints[len(v.checkpoints)-1].Size
		if largest > v.tx.page().size {
			v.report.find(RecordMissing, v.tx.page().size, largest-v.tx.page().size) // signed once, gone now
		}
		v.report.find(Unverifiable, v.report.Protected, next-v.report.Protected)
	}
	for _, index := range v.erased {
		if v.erasures[index] {
			v.report.Erased++
			continue
		}
		v.report.find(RecordErased, index, 1)
	}
	return nil
}

var errNoCheckpoint = pki.E(pki.NotYet, "audit.no_checkpoint")

// ProveAudit makes a proof that a record is in the tree of the newest checkpoint.
// pki.ErrNotFound where there is no such record; audit.no_checkpoint (NotYet) while
// it is not covered by a checkpoint.
func ProveAudit(ctx context.Context, db *engine.DB, index int64) (Proof, error) {
	var p Proof
	err := db.View(ctx, func(sql *engine.Tx) error {
		tx := Of(sql)
		r, err := scanFull(tx.sql.QueryRow(`SELECT `+fullColumns+` FROM audit WHERE idx = $1`, index))
		if err != nil {
			return engine.Error("read audit record", err)
		}
		c, err := tx.LastCheckpoint()
		if errors.Is(err, pki.ErrNotFound) || err == nil && c.Size <= index {
			return errNoCheckpoint
		}
		if err != nil {
			return err
		}
		hashes, err := tlog.ProveRecord(c.Size, index, tlog.HashReaderFunc(tx.storedHashes))
		if err != nil {
			return fmt.Errorf("prove audit record: %w", err)
		}
		p = Proof{
			Format: proofFormat, Index: index, Header: string(r.header.bytes()),
			Digest: r.digest, Salt: r.salt, Body: r.body, Path: hashes, Checkpoint: string(c.Note),
		}
		return nil
	})
	return p, err
}
