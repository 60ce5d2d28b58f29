package testkit

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// WriteFile makes a file that only its owner reads, and gives its path.
func WriteFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	Must(t, os.WriteFile(path, data, 0o600))
	return path
}

// ReadFile reads a whole file; the parts of its path are joined.
func ReadFile(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	Must(t, err)
	return data
}

// DecodePEM gives the bytes of the first block.
func DecodePEM(t testing.TB, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("no PEM in %.100q", data)
	}
	return block.Bytes
}

// ShortDir makes a directory with a short path: the path of a socket has at most 107
// bytes. It is removed with the test.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "t")
	Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
