package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"inkan/internal/pki"
)

// An epoch key seals everything of one calendar month. Destroying it destroys the
// keys of that month in every backup, too (threat CK10).

// ErrDestroyed answers every attempt to open what a destroyed epoch sealed.
var ErrDestroyed = pki.E(pki.Gone, "pickup.key_destroyed")

const epochLength = len("2026-11")

var epochForm = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)

func (v *Vault) epochPath(month string) string {
	return filepath.Join(v.dir, epochsDir, month+".key")
}

func (v *Vault) wrapper() (cipher.AEAD, error) {
	block, err := aes.NewCipher(v.content.KEK)
	if err != nil {
		return nil, fmt.Errorf("prepare KEK: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (v *Vault) epochAAD(month string) []byte {
	return joined("inkan/epoch/v1", []byte(month), []byte(v.content.Instance))
}

// epoch gives the key of a month. Only sealing may make a new one: an opener that
// made keys would turn a lost file into a wrong answer.
func (v *Vault) epoch(month string, create bool) ([]byte, error) {
	if !epochForm.MatchString(month) {
		return nil, pki.E(pki.Invalid, "seal.epoch").With("Epoch", month)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.destroyed[month] {
		return nil, ErrDestroyed.With("Epoch", month)
	}
	key := v.epochs[month]
	if key != nil {
		return slices.Clone(key), nil // Destroy wipes the original
	}
	key, err := v.loadEpoch(month)
	if pki.CodeOf(err) == "vault.missing" && create {
		key, err = v.createEpoch(month)
	}
	if pki.CodeOf(err) == "vault.missing" {
		return nil, ErrDestroyed.With("Epoch", month).Because(err)
	}
	if err != nil {
		return nil, err
	}
	v.epochs[month] = key
	return slices.Clone(key), nil
}

func (v *Vault) loadEpoch(month string) ([]byte, error) {
	wrapped, err := readSecret(v.epochPath(month))
	if err != nil {
		return nil, err
	}
	aead, err := v.wrapper()
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, wrapped, v.epochAAD(month))
	if err != nil || len(key) != 32 {
		return nil, pki.E(pki.Internal, "vault.broken").With("File", month+".key").Because(err)
	}
	return key, nil
}

func (v *Vault) createEpoch(month string) ([]byte, error) {
	aead, err := v.wrapper()
	if err != nil {
		return nil, err
	}
	key := random(32)
	err = writeSecret(v.epochPath(month), aead.Seal(nil, nil, key, v.epochAAD(month)), true)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// EpochsBefore lists the living epochs strictly before a month.
func (v *Vault) EpochsBefore(month string) ([]string, error) {
	if !epochForm.MatchString(month) {
		return nil, pki.E(pki.Invalid, "seal.epoch").With("Epoch", month)
	}
	entries, err := os.ReadDir(filepath.Join(v.dir, epochsDir))
	if err != nil {
		return nil, fmt.Errorf("list epochs: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for _, e := range entries { // sorted by name
		name, ok := strings.CutSuffix(e.Name(), ".key")
		if ok && epochForm.MatchString(name) && name < month && !v.destroyed[name] {
			out = append(out, name)
		}
	}
	return out, nil
}

// DestroyEpochs shreds epoch keys and refuses their names for as long as the vault
// is open. The caller journals first and calls it with everything that was ever
// destroyed when it starts, so that a key file from an old backup comes to nothing.
func (v *Vault) DestroyEpochs(months []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, month := range months {
		if !epochForm.MatchString(month) {
			return pki.E(pki.Invalid, "seal.epoch").With("Epoch", month)
		}
		v.destroyed[month] = true
		clear(v.epochs[month])
		delete(v.epochs, month)
		err := shred(v.epochPath(month))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
