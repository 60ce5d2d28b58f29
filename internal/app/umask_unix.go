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

// lockServe takes the one place of serve on an instance directory; a second serve is
// refused.
func lockServe(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, "serve.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, pki.E(pki.Conflict, "serve.running").With("Dir", dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	return func() { _ = f.Close() }, nil
}
