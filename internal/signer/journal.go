package signer

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// record is one line of the journal.
type record struct {
	At      int64    `json:"at"` // unix seconds
	Kind    string   `json:"kind"`
	Issuer  string   `json:"issuer,omitempty"`
	Profile string   `json:"profile,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	TBS     string   `json:"tbs,omitempty"` // SHA-256, hex
	Index   int64    `json:"index,omitempty"`
	Leaf    string   `json:"leaf,omitempty"`   // hex
	Number  int64    `json:"number,omitempty"` // of a CRL
	Size    int64    `json:"size,omitempty"`   // of the audit tree
	Root    string   `json:"root,omitempty"`   // hex
	Epochs  []string `json:"epochs,omitempty"`
	Mode    string   `json:"mode,omitempty"`
}

const (
	kindStart   = "start"
	kindSign    = "sign"
	kindCRL     = "crl"
	kindTree    = "tree"
	kindDestroy = "destroy"
)

const (
	journalName = "journal"
	maxLine     = 64 << 10
	chainSize   = 16 // octets of the chain value in a line
)

// journal is an append-only file of JSON lines. Each line ends in a member "chain",
// an HMAC over the line and the one before under a key of the vault: nobody without
// the vault can lower a high-water by editing. Lines of calls that come together are
// written and synced together; no caller goes on before its lines are on disk.
type journal struct {
	file file
	key  []byte
	log  *slog.Logger

	mu       sync.Mutex
	next     *flight // gathers lines for the next write
	flushing bool
	idle     sync.Cond

	// The rest belongs to whoever flushes.
	chain  []byte // after the last durable line
	size   int64  // of the durable lines
	broken error
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

// openJournal reads the journal, hands every record to replay and repairs a torn
// last line. Anything else that is not as it was written is a refusal.
func openJournal(dir string, key []byte, log *slog.Logger, replay func(record)) (*journal, error) {
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
	j := &journal{file: file, key: key, log: log, chain: make([]byte, sha256.Size), next: newFlight()}
	j.idle.L = &j.mu
	err = j.load(replay)
	if err == nil {
		err = j.repair()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

func newFlight() *flight { return &flight{done: make(chan struct{})} }

func (j *journal) load(replay func(record)) error {
	r := bufio.NewReaderSize(j.file, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) { // not a line of ours; torn only if it is the end
			line, err = r.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return nil // what follows the last newline is torn; repair cuts it
		}
		broken := pki.E(pki.Internal, "signer.journal").With("Line", n)
		if err != nil {
			return broken.Because(err)
		}
		body, ok := j.verify(line)
		if !ok {
			return broken.Because(errors.New("the line is not the one that was written"))
		}
		var rec record
		err = json.Unmarshal(body, &rec)
		if err != nil {
			return broken.Because(err)
		}
		j.size += int64(len(line))
		replay(rec)
	}
}

// verify splits a line into body and chain value, compares that, and moves on.
func (j *journal) verify(line []byte) ([]byte, bool) {
	at := len(line) - len(chainSuffix(make([]byte, chainSize)))
	if at < 1 {
		return nil, false
	}
	body := append(bytes.Clone(line[:at]), '}')
	next := j.link(j.chain, body)
	if !hmac.Equal(line[at:], chainSuffix(next)) {
		return nil, false
	}
	j.chain = next
	return body, true
}

func (j *journal) link(chain, body []byte) []byte {
	h := hmac.New(sha256.New, j.key)
	_, _ = h.Write(chain) // never fails; see hash.Hash
	_, _ = h.Write(body)
	return h.Sum(nil)
}

func chainSuffix(chain []byte) []byte {
	return []byte(`,"chain":"` + hex.EncodeToString(chain[:chainSize]) + "\"}\n")
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
	chain := j.chain
	for _, rec := range records {
		body, err := json.Marshal(rec)
		if err != nil {
			return fmt.Errorf("encode journal: %w", err)
		}
		chain = j.link(chain, body)
		out.Write(body[:len(body)-1])
		out.Write(chainSuffix(chain))
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

// close waits for the lines under way.
func (j *journal) close() error {
	j.mu.Lock()
	for j.flushing {
		j.idle.Wait()
	}
	j.mu.Unlock()
	err := j.file.Close()
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
