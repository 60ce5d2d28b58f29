package signer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"inkan/internal/crash"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// journal is append-only: JSON lines in a file, and closed files beside it (segments).
// Each line ends in a member "chain", an HMAC over the line and the one before under a
// key of the vault: nobody without the vault can lower a high-water by editing. Lines of
// calls that come together are written and synced together; no caller goes on before its
// lines are on disk.
type journal struct {
	folder  folder
	file    file // the segment that is written
	key     []byte
	log     *slog.Logger
	summary func() []record // what the lines so far add up to; more does no harm

	mu       sync.Mutex
	next     *flight // gathers lines for the next write
	flushing bool
	idle     sync.Cond

	// The rest belongs to whoever flushes.
	number   int64  // of the segment
	chain    *chain // after the last durable line
	size     int64  // of the durable lines
	rotateAt int64  // the size at which another segment begins
	broken   error
}

// file is what a journal needs of an *os.File.
type file interface {
	io.ReadSeekCloser
	io.WriterAt
	Truncate(size int64) error
	Sync() error
}

// flight is a group of lines that reach the disk together.
type flight struct {
	records []record
	done    chan struct{}
	err     error
}

// wait gives nil once the lines are on disk.
func (f *flight) wait() error {
	<-f.done
	return f.err
}

// openJournal reads the segment that was written last, hands every record to replay and
// repairs a torn last line. Anything else that is not as it was written is a refusal.
func openJournal(dir string, key []byte, log *slog.Logger, replay func(record), summary func() []record) (*journal, error) {
	path := filepath.Join(dir, journalName)
	err := keystore.CheckMode(path)
	if pki.CodeOf(err) == "vault.missing" {
		return nil, pki.E(pki.NotFound, "signer.journal_missing").Because(err)
	}
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &journal{folder: osFolder(dir), file: file, key: key, log: log, summary: summary, next: newFlight()}
	j.idle.L = &j.mu
	err = j.load(replay)
	if err == nil {
		err = j.tidy(file)
	}
	if err == nil {
		err = j.repair()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	j.rotate() // a journal of one file, from before there were segments, is large
	return j, nil
}

func newFlight() *flight { return &flight{done: make(chan struct{})} }

func (j *journal) load(replay func(record)) error {
	s, err := readSegment(j.file, journalName, j.key, replay)
	if err != nil {
		return err
	}
	j.number, j.chain, j.size, j.rotateAt = s.number, s.chain, s.size, s.head+segmentSize
	return nil
}

// repair cuts what a crash left of a write whose caller was never answered.
func (j *journal) repair() error {
	end, err := j.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("repair journal: %w", err)
	}
	if end == j.size {
		return nil
	}
	j.log.Warn("signer journal: cut a torn last line", "octets", end-j.size)
	return j.truncate()
}

func (j *journal) truncate() error {
	err := errors.Join(j.file.Truncate(j.size), j.file.Sync())
	if err != nil {
		return fmt.Errorf("truncate journal: %w", err)
	}
	return nil
}

// add takes lines for the next write; the caller waits for the flight before it lets
// anything out. Lines are written in the order of the calls of add.
func (j *journal) add(records ...record) *flight {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.next
	f.records = append(f.records, records...)
	if !j.flushing {
		j.flushing = true
		go j.flush()
	}
	return f
}

// flush writes flights until there is none. Those that come during a sync go
// together into the next.
func (j *journal) flush() {
	for {
		j.mu.Lock()
		f := j.next
		if len(f.records) == 0 {
			j.flushing = false
			j.idle.Broadcast()
			j.mu.Unlock()
			return
		}
		j.next = newFlight()
		j.mu.Unlock()
		f.err = j.write(f.records)
		close(f.done)
		j.rotate()
	}
}

var errJournal = pki.E(pki.Busy, "signer.journal_full")

// write appends lines and syncs. After a failure the file is as it was before, so
// that the journal goes on when the disk has room again.
func (j *journal) write(records []record) error {
	if j.broken != nil {
		return errJournal.Because(j.broken)
	}
	var out bytes.Buffer
	chain := newChain(j.key, j.chain.value)
	for _, rec := range records {
		err := chain.write(&out, rec)
		if err != nil {
			return err
		}
	}
	_, err := j.file.WriteAt(out.Bytes(), j.size)
	crash.At("signer.journal before sync")
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.log.Error("signer journal: write failed", "error", err)
		j.broken = j.truncate()
		return errJournal.Because(err)
	}
	j.chain = chain
	j.size += int64(out.Len())
	return nil
}

// rest waits for the lines under way.
func (j *journal) rest() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.flushing {
		j.idle.Wait()
	}
}

// close waits for the lines under way.
func (j *journal) close() error {
	j.rest()
	err := j.file.Close()
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
