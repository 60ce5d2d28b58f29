package keystore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"inkan/internal/crash"
	"inkan/internal/pki"
)

const (
	vaultFile   = "vault.age"
	keysDir     = "keys"
	epochsDir   = "epochs"
	journalFile = "journal"

	maxSecretFile = 64 << 10
)

// CheckMode refuses a file or directory that group or others may touch (vault.mode), or
// that belongs to another account than this program's (vault.owner; threat PL2).
func CheckMode(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pki.E(pki.NotFound, "vault.missing").With("File", filepath.Base(path)).Because(err)
	}
	if err != nil {
		return fmt.Errorf("stat secret: %w", err)
	}
	if !info.Mode().IsRegular() && !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return pki.E(pki.Forbidden, "vault.mode").With("File", filepath.Base(path)).With("Mode", info.Mode().String())
	}
	owner, runs, foreign := ForeignOwner(info)
	if foreign {
		return pki.E(pki.Forbidden, "vault.owner").With("File", path).With("Owner", owner).With("User", runs)
	}
	return nil
}

func readSecret(path string) ([]byte, error) {
	err := CheckMode(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if len(data) > maxSecretFile {
		return nil, pki.E(pki.Internal, "vault.broken").With("File", filepath.Base(path))
	}
	return data, nil
}

// writeSecret puts a whole file in place or nothing: a crash leaves the old file or
// the new one. With fresh it refuses to replace one.
func writeSecret(path string, data []byte, fresh bool) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*") // 0600 by itself
	if err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	crash.At("secret.1 before it is in place")
	if fresh {
		err = os.Link(tmp.Name(), path) // fails where the name exists, unlike rename
	} else {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	crash.At("secret.2 in place")
	return SyncDir(dir)
}

// shred overwrites and removes a file. File systems may keep the old blocks; the
// content is wrapped by the KEK, and the signer's journal refuses the name for ever.
func shred(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shred secret: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, info.Size())
	}
	crash.At("shred.1 overwritten")
	err = errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
	if err != nil {
		return fmt.Errorf("shred secret: %w", err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory last: what was created, renamed or removed there.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = errors.Join(d.Sync(), d.Close())
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// ReadPassphrase reads the vault's passphrase from a file, or, where none is named,
// from the service manager's credential "inkan-passphrase". It never comes from a
// flag or the environment itself (threat PL7).
func ReadPassphrase(path string) (pki.Secret, error) {
	if path == "" {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", pki.E(pki.Invalid, "vault.no_passphrase")
		}
		path = filepath.Join(dir, "inkan-passphrase")
	}
	data, err := readSecret(path)
	if err != nil {
		return "", err
	}
	defer clear(data)
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", pki.E(pki.Invalid, "vault.no_passphrase")
	}
	return pki.Secret(text), nil
}
