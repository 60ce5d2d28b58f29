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

// serveRuns says whether a serve has its place.
func serveRuns(path string) bool {
	f, err := os.Open(path + "-serve")
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// lockServe takes the one place of serve on a database or directory, by whatever name
// that is called; a second serve is refused.
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
