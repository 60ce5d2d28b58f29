package signer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"inkan/internal/pki"
)

// JournalReport is what VerifyJournal read.
type JournalReport struct {
	First, Last int64 // segments; First is 1 unless older ones are elsewhere
	Lines       int64
	Checkpoints []pki.Checkpoint // that the lines tell of, by number; older ones are in segments before First
	Losses      []pki.Loss       // all that were accepted
}

// take reads a line. Segments come in any order.
func (r *JournalReport) take(rec record) {
	switch rec.Kind {
	case kindTree:
		r.Checkpoints = append(r.Checkpoints, rec.tree())
	case kindLoss:
		r.Losses = append(r.Losses, rec.Loss.Loss)
	}
}

// settle puts what was taken in order, each once: a head repeats losses, and a checkpoint
// may have been signed again.
func (r *JournalReport) settle(head []acceptedLoss) {
	for _, l := range head {
		r.Losses = append(r.Losses, l.Loss)
	}
	slices.SortFunc(r.Losses, func(a, b pki.Loss) int { return cmp.Compare(a.Next.Number, b.Next.Number) })
	r.Losses = slices.CompactFunc(r.Losses, func(a, b pki.Loss) bool { return a.Next.Number == b.Next.Number })
	for _, l := range r.Losses {
		r.Checkpoints = append(r.Checkpoints, l.Next)
	}
	slices.SortFunc(r.Checkpoints, func(a, b pki.Checkpoint) int { return cmp.Compare(a.Number, b.Number) })
	r.Checkpoints = slices.CompactFunc(r.Checkpoints, pki.Checkpoint.Same)
}

// VerifyJournal reads all segments of a journal, those in dir and those that were moved
// to archive (may be empty), and follows the chain from the newest to the oldest. It
// changes nothing, and a signer may work meanwhile. Refusals: signer.journal (a line is
// not the one that was written), signer.journal_gap (a segment is missing between
// others), signer.journal_cut (one is not the whole of what the next goes on from),
// signer.journal_old.
func VerifyJournal(dir, archive string, key []byte) (JournalReport, error) {
	current, err := os.Open(filepath.Join(dir, journalName))
	if errors.Is(err, os.ErrNotExist) {
		return JournalReport{}, pki.E(pki.NotFound, "signer.journal_missing").Because(err)
	}
	if err != nil {
		return JournalReport{}, fmt.Errorf("open journal: %w", err)
	}
	defer current.Close()
	closed, err := closedSegments(dir, archive) // before reading: the signer may close one meanwhile
	if err != nil {
		return JournalReport{}, err
	}
	var report JournalReport
	var head []acceptedLoss // of the newest segment: older ones say no more
	take := func(rec record) {
		report.take(rec)
		if rec.Kind == kindHead && head == nil {
			head = rec.Losses
		}
	}
	next, err := readSegment(current, journalName, key, take)
	if err != nil {
		return JournalReport{}, err
	}
	err = newest(current, next.number, closed)
	if err != nil {
		return JournalReport{}, err
	}
	oldest := next.number
	for number := range closed {
		oldest = min(oldest, number)
	}
	report.First, report.Last, report.Lines = oldest, next.number, int64(next.lines)
	for number := next.number - 1; number >= oldest; number-- {
		path, there := closed[number]
		if !there {
			return report, pki.E(pki.Conflict, "signer.journal_gap").With("File", closedName(number))
		}
		next, err = verifyClosed(path, number, key, next.before, take)
		if err != nil {
			return report, err
		}
		report.Lines += int64(next.lines)
	}
	report.settle(head)
	return report, nil
}

// closedSegments gives the path of each, by number.
func closedSegments(dirs ...string) (map[int64]string, error) {
	out := map[int64]string{}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("list segments: %w", err)
		}
		for _, e := range entries {
			number := closedNumber(e.Name())
			if number > 0 {
				out[number] = filepath.Join(dir, e.Name())
			}
		}
	}
	return out, nil
}

// verifyClosed reads a segment that has to end, in a whole line, at a chain value.
func verifyClosed(path string, number int64, key, end []byte, take func(record)) (*segment, error) {
	name := filepath.Base(path)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat segment: %w", err)
	}
	s, err := readSegment(f, name, key, take)
	if err != nil {
		return nil, err
	}
	if s.number != number || s.size != info.Size() || !bytes.Equal(s.chain.value, end) {
		return nil, pki.E(pki.Conflict, "signer.journal_cut").With("File", name)
	}
	return s, nil
}
