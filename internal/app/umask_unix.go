//go:build unix

package app

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"inkan/internal/pki"
)

// setUmask makes every file of the program its owner's alone (threat PL2).
func setUmask() { unix.Umask(0o077) }

// lockServe takes the one place of serve on an SQLite database, whatever directory it
// is named from; a second serve is refused.
func lockServe(database string) (func(), error) {
	path, err := filepath.EvalSymlinks(database)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", database).Because(err)
	}
	f, err := os.OpenFile(path+"-serve", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, pki.E(pki.Conflict, "serve.running").With("Dir", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	return func() { _ = f.Close() }, nil
}
