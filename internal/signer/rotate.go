package signer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"inkan/internal/crash"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

const (
	journalName = "journal"     // the segment that is written
	nextName    = "journal.new" // one whose head is not whole yet
)

// segmentSize bounds the lines after a head, and so what a start reads: about 0.1 s.
const segmentSize = 4 << 20 / crash.Haste

// closedName is the file of a segment that is written no more.
func closedName(number int64) string { return fmt.Sprintf("%s.%06d", journalName, number) }

var closedForm = regexp.MustCompile(`^journal\.([0-9]{6,18})$`)

// closedNumber gives the number in the name of a closed segment, 0 for other names.
func closedNumber(name string) int64 {
	m := closedForm.FindStringSubmatch(name)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // digits, and few enough
	return n
}

// folder is what rotating needs of a directory.
type folder interface {
	create(name string) (file, error)
	link(from, to string) error
	rename(from, to string) error
	remove(name string) error
	sync() error
}

// rotate begins another segment when this one is large. The head is on the disk before
// anything else happens; then the segment gets its name as a closed one, and the new one
// takes its place, in one step. Until that step the old one is the journal, whatever
// fails: it goes on growing, and this is tried again later. Where the step itself, or
// making it last, is not known to have succeeded, the journal stays shut until the next
// start, which sees what the disk really holds.
func (j *journal) rotate() {
	if j.size < j.rotateAt || j.broken != nil {
		return
	}
	next, err := j.begin()
	if err == nil {
		err = j.folder.link(journalName, closedName(j.number))
		crash.At("signer.rotate closed")
		if err != nil {
			err = errors.Join(err, next.file.Close(), j.folder.remove(nextName))
		}
	}
	if err != nil {
		j.log.Error("signer journal: no new segment, the old one goes on", "segment", j.number, "error", err)
		j.rotateAt = j.size + segmentSize/4
		return
	}
	err = j.folder.rename(nextName, journalName)
	crash.At("signer.rotate in place")
	err = errors.Join(err, j.folder.sync())
	if err != nil {
		j.log.Error("signer journal: shut, a new segment may be in place or not", "segment", j.number, "error", err)
		j.broken = errors.Join(err, next.file.Close())
		return
	}
	old := j.file
	j.file, j.number, j.chain, j.size, j.rotateAt = next.file, next.number, next.chain, next.size, next.size+segmentSize
	j.log.Info("signer journal: a new segment", "segment", j.number, "head", j.size)
	err = old.Close() // all its lines are synced
	if err != nil {
		j.log.Warn("signer journal: close the old segment", "error", err)
	}
}

// begun is a segment whose head is on the disk.
type begun struct {
	file   file
	number int64
	chain  *chain
	size   int64
}

// begin writes the next segment's head under a name that nobody reads.
func (j *journal) begin() (*begun, error) {
	file, err := j.folder.create(nextName)
	if err != nil {
		return nil, err
	}
	next := &begun{file: file, number: j.number + 1, chain: newChain(j.key, j.chain.value)}
	err = next.write(j.summary())
	if err == nil {
		err = file.Sync()
	}
	crash.At("signer.rotate head written")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write head: %w", err), file.Close(), j.folder.remove(nextName))
	}
	return next, nil
}

func (b *begun) write(summary []record) error {
	summary[0].Segment, summary[0].Before = b.number, bytes.Clone(b.chain.value)
	out := io.NewOffsetWriter(b.file, 0)
	buffer := bufio.NewWriterSize(out, maxLine)
	for _, rec := range summary {
		err := b.chain.write(buffer, rec)
		if err != nil {
			return err
		}
	}
	err := buffer.Flush()
	if err != nil {
		return err
	}
	b.size, err = out.Seek(0, io.SeekCurrent)
	return err
}

// tidy puts right what a crash during rotate left, and refuses a journal that is older
// than a segment which was closed.
func (j *journal) tidy(current *os.File) error {
	closed, err := closedSegments(filepath.Dir(current.Name()))
	if err != nil {
		return err
	}
	err = newest(current, j.number, closed)
	if err != nil {
		return err
	}
	_, twice := closed[j.number]
	if twice { // closed, but for the last step
		err = j.folder.remove(closedName(j.number))
		if err != nil {
			return err
		}
	}
	return j.folder.sync() // the step that a crash may have made in memory only
}

// newest refuses a segment in the place of the one that is written, if a later one was
// closed, or another of its number: somebody put it there.
func newest(current *os.File, number int64, closed map[int64]string) error {
	for _, n := range slices.Sorted(maps.Keys(closed)) {
		if n < number {
			continue
		}
		same, err := sameFile(current, closed[n])
		if err != nil {
			return err
		}
		if !same || n > number {
			return pki.E(pki.Conflict, "signer.journal_old").With("File", filepath.Base(closed[n]))
		}
	}
	return nil
}

func sameFile(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("stat segment: %w", err)
	}
	b, err := os.Lstat(path)
	if err != nil {
		return false, fmt.Errorf("stat segment: %w", err)
	}
	return os.SameFile(a, b), nil
}

// osFolder is a directory of the operating system.
type osFolder string

func (d osFolder) create(name string) (file, error) {
	err := d.remove(name) // what a crash left
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	return f, nil
}

func (d osFolder) link(from, to string) error {
	err := os.Link(filepath.Join(string(d), from), filepath.Join(string(d), to))
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

func (d osFolder) rename(from, to string) error {
	err := os.Rename(filepath.Join(string(d), from), filepath.Join(string(d), to))
	if err != nil {
		return fmt.Errorf("put segment in place: %w", err)
	}
	return nil
}

func (d osFolder) remove(name string) error {
	err := os.Remove(filepath.Join(string(d), name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove segment: %w", err)
	}
	return nil
}

func (d osFolder) sync() error { return keystore.SyncDir(string(d)) }
