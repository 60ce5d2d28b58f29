package signer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// logbook is a journal with the memory that its server would have.
type logbook struct {
	*journal
	mu     sync.Mutex
	memory *memory
}

// openLogbook opens the journal of a directory; its memory is what the journal says.
func openLogbook(t testing.TB, dir string) (*logbook, error) {
	t.Helper()
	b := &logbook{memory: newMemory()}
	j, err := openJournal(dir, []byte("key"), testkit.Quiet, b.memory.apply, b.summary)
	b.journal = j
	return b, err
}

func (b *logbook) summary() []record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.memory.summary(time.Unix(1_800_000_000, 0))
}

// newLogbook begins a journal as init does.
func newLogbook(t testing.TB) (*logbook, string) {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, journalName), nil, 0o600))
	b, err := openLogbook(t, dir)
	check(t, err)
	return b, dir
}

func (b *logbook) note(t testing.TB, records ...record) {
	t.Helper()
	check(t, b.enter(records...).wait())
}

// enter adds records without waiting for the disk, as the server does.
func (b *logbook) enter(records ...record) *flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range records {
		b.memory.apply(r)
	}
	return b.add(records...)
}

// turn begins another segment, without waiting for a large one.
func (b *logbook) turn() {
	b.rest()
	b.rotateAt = 0
	b.rotate()
}

func signed(n int64) record {
	return record{At: 1_800_000_000 + n, Kind: kindSign, Issuer: "g1", Profile: "holder", Serial: fmt.Sprintf("%040x", n),
		TBS: hashHex(fmt.Append(nil, "tbs", n)), Index: n, Leaf: hashHex(fmt.Append(nil, "leaf", n))}
}

// some is a piece of a signer's life.
func some(n int64) []record {
	return []record{
		{At: n, Kind: kindStart, Mode: "live"},
		signed(3 * n), signed(3*n + 1), signed(3*n + 2),
		{At: n, Kind: kindCRL, Issuer: "g1", Number: 100 + n, TBS: hashHex([]byte{1})},
		{At: n, Kind: kindCRL, Issuer: "ops", Number: 7, TBS: hashHex([]byte{2})},
		{At: n, Kind: kindTree, Number: 1 + n, Size: 10 + n, Root: hashHex(fmt.Append(nil, n))},
		{At: n, Kind: kindLoss, Loss: &acceptedLoss{pki.Loss{Instance: "i", Kept: n, Next: pki.Checkpoint{Number: 100 + n, Size: 5}, Reason: "r", At: time.Unix(n, 0).UTC()}, []string{"01", "02"}}},
		{At: n, Kind: kindDestroy, Epochs: []string{fmt.Sprintf("20%02d-11", n), fmt.Sprintf("20%02d-12", n)}},
	}
}

// remembers compares what two memories hold, all of it: a field that a head forgot is
// found here.
func remembers(t testing.TB, got, want *memory) {
	t.Helper()
	brief := func(m *memory) string {
		return fmt.Sprintf("%d certificates, %v %+v %v %v", len(m.recent.order), m.crls, m.tree, m.losses, m.destroyed)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the memory differs: %s, want %s", brief(got), brief(want))
	}
}

// A start reads one segment and knows what all of them said.
func TestSegments(t *testing.T) {
	b, dir := newLogbook(t)
	for n := range int64(5) {
		b.note(t, some(n)...)
		b.turn()
		if b.number != n+2 {
			t.Fatalf("segment %d", b.number)
		}
		b.note(t, some(n+10)...)
	}
	before := b.memory
	check(t, b.close())
	for n := range int64(5) {
		check(t, os.Remove(filepath.Join(dir, closedName(n+1)))) // moved to an archive
	}
	b, err := openLogbook(t, dir)
	check(t, err)
	remembers(t, b.memory, before)
	b.turn()
	check(t, b.close())
	b, err = openLogbook(t, dir)
	check(t, err)
	remembers(t, b.memory, before)
	check(t, b.close())
}

// A head of a day with more certificates than fit into a line, and one whose index was
// forgotten.
func TestSegmentOfManyCertificates(t *testing.T) {
	b, dir := newLogbook(t)
	for n := range int64(3000) {
		b.memory.apply(signed(n))
	}
	delete(b.memory.recent.byIndex, 5)
	b.turn()
	check(t, b.close())
	b.memory.recent.order[5].index = noIndex // which is the same
	again, err := openLogbook(t, dir)
	check(t, err)
	defer again.close()
	remembers(t, again.memory, b.memory)
	if lines := again.lineCount(t, dir); lines != 1+(3000*packedSize+maxPast-1)/maxPast {
		t.Errorf("%d lines", lines)
	}
}

func (b *logbook) lineCount(t *testing.T, dir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, journalName))
	check(t, err)
	for line := range bytes.Lines(data) {
		if len(line) > maxLine {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	return bytes.Count(data, []byte("\n"))
}

// oneFile is a journal as it was before there were segments; the chain was made with
// another program.
const oneFile = `{"at":1800000000,"kind":"start","mode":"live","chain":"979af1e1535626afb0cbce2dd26f7518"}
{"at":1800000001,"kind":"sign","issuer":"g1","profile":"holder","serial":"01ab","tbs":"aa","index":3,"leaf":"bb","chain":"31e0566044674714d84d224a0e3788b6"}
{"at":1800000002,"kind":"crl","issuer":"g1","tbs":"cc","number":5,"chain":"5c90b45b4addf52cf55073109938caca"}
{"at":1800000003,"kind":"tree","number":4,"size":9,"root":"00000000000000000000000000000000000000000000000000000000000000dd","chain":"3162dd07f8607b26fb464f4a1aada60c"}
{"at":1800000004,"kind":"destroy","epochs":["2026-11"],"chain":"08f5b3e30c3d51516c9e7e88bb6c04de"}
`

// A journal of one file goes on as the first segment; a large one becomes it at once.
func TestJournalOfOneFileIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, journalName), []byte(oneFile), 0o600))
	b, err := openLogbook(t, dir)
	check(t, err)
	m := b.memory
	if m.crls["g1"] != (crlMark{5, "cc"}) || m.tree.Number != 4 || m.tree.Size != 9 || m.tree.Root[31] != 0xdd || m.destroyed[0] != "2026-11" || len(m.recent.order) != 1 || b.number != 1 {
		t.Fatalf("segment %d, memory %+v", b.number, m)
	}
	b.rotateAt = 1 << 40 // as the program before
	for n := range int64(segmentSize / 300) {
		b.enter(signed(n))
	}
	b.note(t, signed(1<<20))
	check(t, b.close())

	again, err := openLogbook(t, dir)
	check(t, err)
	if again.number != 2 {
		t.Errorf("segment %d", again.number)
	}
	again.note(t, some(1)...)
	want := again.memory
	check(t, again.close())
	report, err := VerifyJournal(dir, "", []byte("key"))
	check(t, err)
	if report.First != 1 || report.Last != 2 || report.Lines < segmentSize/300 {
		t.Errorf("%+v", report)
	}
	again, err = openLogbook(t, dir)
	check(t, err)
	remembers(t, again.memory, want)
	check(t, again.close())

	// The parts one after the other are a journal of one file still.
	var whole []byte
	for _, name := range []string{closedName(1), journalName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		check(t, err)
		whole = append(whole, data...)
	}
	chain := newChain([]byte("key"), nil)
	for line := range bytes.Lines(whole) {
		chain.link(line[:len(line)-suffixSize])
		if !bytes.HasSuffix(line, chain.suffix()) {
			t.Fatalf("the chain ends before %.80s", line)
		}
	}
}

// broken is a directory whose steps fail: before they take effect, or after.
type broken struct {
	folder
	step  string
	after bool
	fault error
}

func (b *broken) do(step string, work func() error) error {
	if step != b.step {
		return work()
	}
	if !b.after {
		return b.fault
	}
	return errors.Join(work(), b.fault)
}

func (b *broken) create(name string) (file, error) {
	f, err := b.folder.create(name)
	switch {
	case b.step == "create":
		return nil, errors.Join(b.fault, err)
	case b.step == "write":
		return &disk{File: f.(*os.File), short: 100, write: b.fault}, err
	case b.step == "sync":
		return &disk{File: f.(*os.File), sync: b.fault}, err
	}
	return f, err
}
func (b *broken) link(from, to string) error {
	return b.do("link", func() error { return b.folder.link(from, to) })
}
func (b *broken) rename(from, to string) error {
	return b.do("rename", func() error { return b.folder.rename(from, to) })
}
func (b *broken) sync() error { return b.do("sync directory", b.folder.sync) }

// Whatever step of a new segment fails, or takes effect and says that it failed: nothing
// that was written is lost. Either the old segment goes on, or nothing is written until
// the next start. A death at the step leaves the same files.
func TestRotationFaults(t *testing.T) {
	for _, row := range []struct {
		step  string
		after bool
		shut  bool
	}{
		{"create", false, false},
		{"create", true, false},
		{"write", false, false}, // a full disk (AU12)
		{"sync", true, false},
		{"link", false, false},
		{"link", true, false},
		{"rename", false, true},
		{"rename", true, true},
		{"sync directory", false, true},
		{"sync directory", true, true},
	} {
		t.Run(fmt.Sprint(row.step, ", took effect: ", row.after), func(t *testing.T) {
			b, dir := newLogbook(t)
			b.note(t, some(1)...)
			well := b.folder
			b.folder = &broken{folder: well, step: row.step, after: row.after, fault: syscall.ENOSPC}
			b.turn()
			b.folder = well
			if b.number != 1 {
				t.Errorf("segment %d", b.number)
			}
			more := signed(70)
			err := b.add(more).wait()
			if (err != nil) != row.shut {
				t.Errorf("afterwards: %v", err)
			}
			want := b.memory
			if err == nil {
				want.apply(more)
			}
			check(t, b.close())

			b, err = openLogbook(t, dir)
			check(t, err)
			remembers(t, b.memory, want)
			b.note(t, some(2)...)
			number := b.number
			b.turn()
			if b.number != number+1 {
				t.Errorf("segment %d after %d", b.number, number)
			}
			want = b.memory
			check(t, b.close())
			_, err = VerifyJournal(dir, "", []byte("key"))
			check(t, err)
			b, err = openLogbook(t, dir)
			check(t, err)
			remembers(t, b.memory, want)
			check(t, b.close())
		})
	}
}

// A segment that cannot begin is tried again when more was written.
func TestRotationIsTriedAgain(t *testing.T) {
	b, _ := newLogbook(t)
	well := b.folder
	b.folder = &broken{folder: well, step: "write", fault: syscall.ENOSPC}
	b.turn()
	b.folder = well
	b.note(t, signed(1))
	if b.number != 1 {
		t.Fatal("tried again at once")
	}
	for n := range int64(segmentSize / 4 / 300) {
		b.enter(signed(n))
	}
	b.note(t, signed(1<<20))
	check(t, b.close())
	if b.number != 2 {
		t.Errorf("segment %d", b.number)
	}
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return pki.CodeOf(err)
}

// What people and faults do to the files of a journal: a start refuses it, or
// VerifyJournal does, or neither can know.
func TestSegmentsDamage(t *testing.T) {
	at := func(dir string, number int64) string {
		if number == 4 {
			return filepath.Join(dir, journalName)
		}
		return filepath.Join(dir, closedName(number))
	}
	edit := func(number int64, change func([]byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			data, err := os.ReadFile(at(dir, number))
			check(t, err)
			check(t, os.WriteFile(at(dir, number), change(data), 0o600))
		}
	}
	flip := func(part int) func([]byte) []byte {
		return func(b []byte) []byte { b[len(b)*part/8] ^= 4; return b }
	}
	lastLine := func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }
	firstLine := func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }
	swap := func(a, b int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			aside := filepath.Join(dir, "aside")
			check(t, os.Rename(at(dir, a), aside))
			check(t, os.Rename(at(dir, b), at(dir, a)))
			check(t, os.Rename(aside, at(dir, b)))
		}
	}
	put := func(from, to int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			data, err := os.ReadFile(at(dir, from))
			check(t, err)
			check(t, os.WriteFile(at(dir, to), data, 0o600))
		}
	}
	drop := func(number int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { check(t, os.Remove(at(dir, number))) }
	}
	for _, row := range []struct {
		name         string
		damage       func(t *testing.T, dir string)
		start, audit string
	}{
		{"none", func(*testing.T, string) {}, "", ""},
		{"a bit of the head", edit(4, flip(0)), "signer.journal", "signer.journal"},
		{"a bit of the past", edit(4, flip(3)), "signer.journal", "signer.journal"},
		{"a bit of the newest lines", edit(4, flip(7)), "signer.journal", "signer.journal"},
		{"the head cut off", edit(4, firstLine), "signer.journal", "signer.journal"},
		{"the newest ends in its head", edit(4, func(b []byte) []byte { return b[:len(b)-len(firstLine(b))+30] }), "signer.journal", "signer.journal"},
		{"nothing in the newest", edit(4, func([]byte) []byte { return nil }), "signer.journal_old", "signer.journal_old"},
		{"the newest is missing", drop(4), "signer.journal_missing", "signer.journal_missing"},
		{"an older one in its place", put(3, 4), "signer.journal_old", "signer.journal_old"},
		{"the oldest in its place", put(1, 4), "signer.journal_old", "signer.journal_old"},
		{"exchanged with an older one", swap(2, 4), "signer.journal_old", "signer.journal_old"},
		{"a bit of a closed one", edit(2, flip(4)), "", "signer.journal"},
		{"a bit of the first", edit(1, flip(4)), "", "signer.journal"},
		{"a closed one without its last line", edit(2, lastLine), "", "signer.journal_cut"},
		{"a closed one torn", edit(3, func(b []byte) []byte { return b[:len(b)-5] }), "", "signer.journal_cut"},
		{"more at the end of a closed one", edit(3, func(b []byte) []byte { return append(b, '{') }), "", "signer.journal_cut"},
		{"the first without its first line", edit(1, firstLine), "", "signer.journal"},
		{"closed ones exchanged", swap(2, 3), "", "signer.journal_cut"},
		{"a closed one twice", put(1, 2), "", "signer.journal_cut"},
		{"a closed one is missing", drop(2), "", "signer.journal_gap"},
		{"the one before the newest is missing", drop(3), "", "signer.journal_gap"},
		{"the oldest is elsewhere", drop(1), "", ""},
		// The whole end of it: what only the database can know, and serve compares.
		{"the newest lines cut off", edit(4, lastLine), "", ""},
		{"the newest is gone, the one before in its place", func(t *testing.T, dir string) {
			check(t, os.Rename(at(dir, 3), at(dir, 4)))
		}, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, dir := newLogbook(t)
			for n := range int64(3) {
				b.note(t, some(n)...)
				b.turn()
			}
			b.note(t, some(3)...)
			check(t, b.close())
			row.damage(t, dir)
			_, err := VerifyJournal(dir, "", []byte("key"))
			if codeOf(err) != row.audit {
				t.Errorf("verified: %v, want %q", err, row.audit)
			}
			b, err = openLogbook(t, dir)
			if codeOf(err) != row.start {
				t.Errorf("started: %v, want %q", err, row.start)
			}
			if err == nil {
				check(t, b.close())
			}
		})
	}
}

// Segments may be moved to an archive, and are verified from there.
func TestVerifyJournalWithArchive(t *testing.T) {
	b, dir := newLogbook(t)
	archive := t.TempDir()
	for n := range int64(4) {
		b.note(t, some(n)...)
		b.turn()
	}
	for n := range int64(2) {
		check(t, os.Rename(filepath.Join(dir, closedName(n+1)), filepath.Join(archive, closedName(n+1))))
	}
	for _, tt := range []struct {
		archive     string
		first       int64
		checkpoints []int64 // by number; those with which a tree went on after a loss are in every head
	}{{"", 3, []int64{3, 4, 100, 101, 102, 103}}, {archive, 1, []int64{1, 2, 3, 4, 100, 101, 102, 103}}} {
		report, err := VerifyJournal(dir, tt.archive, []byte("key")) // while it is open
		check(t, err)
		var numbers []int64
		for _, c := range report.Checkpoints {
			numbers = append(numbers, c.Number)
		}
		if report.First != tt.first || report.Last != 5 || !slices.Equal(numbers, tt.checkpoints) || len(report.Losses) != 4 {
			t.Errorf("%+v", report)
		}
	}
	check(t, os.WriteFile(filepath.Join(archive, closedName(2)), []byte(strings.Repeat("x", 300)+"\n"), 0o600))
	_, err := VerifyJournal(dir, archive, []byte("key"))
	if pki.CodeOf(err) != "signer.journal" {
		t.Errorf("an archive that was changed: %v", err)
	}
	_, err = VerifyJournal(dir, "", []byte("another key"))
	if pki.CodeOf(err) != "signer.journal" {
		t.Errorf("under another key: %v", err)
	}
	check(t, b.close())
}
