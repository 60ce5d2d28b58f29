package signer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// disk is a real file that fails as disks do.
type disk struct {
	*os.File
	short    int   // octets that a write still takes; -1: all
	write    error // after those
	sync     error
	truncate error
}

func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	if d.write == nil {
		return d.File.WriteAt(p, at)
	}
	n, err := d.File.WriteAt(p[:min(d.short, len(p))], at)
	return n, errors.Join(d.write, err)
}

func (d *disk) Sync() error { return errors.Join(d.File.Sync(), d.sync) }

func (d *disk) Truncate(size int64) error {
	if d.truncate != nil {
		return d.truncate
	}
	return d.File.Truncate(size)
}

// What the disk refuses is not signed, and nothing of it stays; when the disk is well
// again, the journal goes on. Where not even that can be told, it stays shut until the
// next start, which sees what the disk really holds.
func TestJournalFaults(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault disk
		shut  bool // until the next start
	}{
		{"full", disk{write: syscall.ENOSPC}, false},
		{"full in the middle of a line", disk{short: 40, write: syscall.ENOSPC}, false},
		{"full after a whole line", disk{short: 1 << 20, write: syscall.ENOSPC}, false}, // failed, but took effect
		{"short without a cause", disk{short: 7, write: io.ErrShortWrite}, false},
		{"broken while writing", disk{write: syscall.EIO}, false},
		{"written, and not synced", disk{sync: syscall.EIO}, true}, // failed, but took effect
		{"full, and cannot be cut", disk{short: 40, write: syscall.ENOSPC, truncate: syscall.EROFS}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.WriteFile(filepath.Join(dir, journalName), nil, 0o600))
			j := reopen(t, dir, nil)
			check(t, j.add(treeRecord(time.Time{}, pki.Checkpoint{Number: 1, Size: 1})).wait())

			well := j.file
			row.fault.File = well.(*os.File)
			j.file = &row.fault
			err := j.add(treeRecord(time.Time{}, pki.Checkpoint{Number: 2, Size: 2})).wait()
			if pki.CodeOf(err) != "signer.journal_full" || pki.ClassOf(err) != pki.Busy {
				t.Fatalf("the failed write answers %v", err)
			}
			j.file = well
			err = j.add(treeRecord(time.Time{}, pki.Checkpoint{Number: 3, Size: 3})).wait()
			if (err != nil) != row.shut {
				t.Errorf("on a disk that is well again: %v", err)
			}
			check(t, j.close())

			var sizes []int64
			j = reopen(t, dir, &sizes)
			check(t, j.add(treeRecord(time.Time{}, pki.Checkpoint{Number: 4, Size: 4})).wait())
			check(t, j.close())
			if len(sizes) == 0 || sizes[0] != 1 || !row.shut && sizes[len(sizes)-1] != 3 {
				t.Errorf("the journal holds %v", sizes)
			}
			for _, size := range sizes {
				if size == 2 {
					t.Error("the line that was refused is there")
				}
			}
		})
	}
}

// reopen opens the journal of a directory and lists its trees.
func reopen(t *testing.T, dir string, sizes *[]int64) *journal {
	t.Helper()
	m := newMemory()
	j, err := openJournal(dir, []byte("key"), testkit.Quiet, func(r record) {
		m.apply(r)
		if sizes != nil {
			*sizes = append(*sizes, r.Size)
		}
	}, func() []record { return m.summary(time.Unix(0, 0)) })
	check(t, err)
	return j
}

var check = testkit.Must
