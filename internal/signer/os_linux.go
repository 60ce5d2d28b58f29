package signer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// Harden keeps the process's memory to itself: no core file, no other process of the
// same user may read it (threat CK12). Both processes of the service call it first.
func Harden() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("forbid dumps: %w", err)
	}
	return nil
}

// ErrNotLocked says that memory may be written to swap.
var ErrNotLocked = errors.New("memory may go to swap: the limit of locked memory is too low (LimitMEMLOCK=infinity)")

// LockMemory keeps every page of the process out of swap, those to come included, each
// from its first use on (threat CK12). It wants an unlimited RLIMIT_MEMLOCK: under any
// other, the process would die on the day on which it reaches it.
func LockMemory() error {
	endless := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &endless)
	if err != nil {
		return ErrNotLocked
	}
	err = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	if err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}

// takeLock makes sure that one signer alone works in a directory. The kernel frees
// the lock with the process, however that ends.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open signer's lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(pki.E(pki.Conflict, "signer.running").Because(err), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock signer's directory: %w", err), f.Close())
	}
	return f, nil
}

// listen binds the socket; the lock is held, so one that is there is stale. Where
// the edge has a user of its own, the directory's group lets it in.
func listen(path string, edgeUID int) (*net.UnixListener, error) {
	address, done, err := keystore.SocketAddress(path)
	if err != nil {
		return nil, err
	}
	defer done()
	err = os.Remove(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on signer's socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the address may be one that is gone by then
	mode := os.FileMode(0o600)
	if edgeUID != os.Geteuid() {
		mode = 0o660
	}
	err = os.Chmod(path, mode)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restrict signer's socket: %w", err), l.Close())
	}
	return l, nil
}

// peerUID asks the kernel whose process is at the other end.
func peerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask for peer: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	err = errors.Join(err, credErr)
	if err != nil {
		return 0, fmt.Errorf("ask for peer: %w", err)
	}
	return int(cred.Uid), nil
}
