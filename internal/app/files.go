package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// putInPlace writes a whole file, for this account alone, in the place of another or of
// none: a crash leaves the old one or the new one.
func putInPlace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600 by itself
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
