package e2e

import (
	"context"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Need wants programs to be there. In CI a missing one is a failure, never a skip.
func Need(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		if err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not here; scripts/setup-tests.sh installs it", name)
		}
		t.Skipf("%s is not here; scripts/setup-tests.sh installs it", name)
	}
}

// Tool runs somebody else's program, which has to work, and gives what it says.
func Tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs somebody else's program that may refuse.
func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	Need(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// says wants a line of a tool's output to be there.
func says(t *testing.T, out, want string) {
	t.Helper()
	if !strings.Contains(out, want) {
		t.Errorf("want %q in what the tool says:\n%s", want, out)
	}
}

// write makes a file in the test's own directory.
func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	err := os.WriteFile(path, data, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bundle puts certificate files into one, as tools want their trust anchors.
func bundle(t *testing.T, dir, name string, files ...string) string {
	t.Helper()
	var all []byte
	for _, f := range files {
		all = append(all, read(t, f)...)
	}
	return write(t, dir, name, all)
}

// derOf gives the first certificate of a PEM file.
func derOf(t *testing.T, path string) []byte {
	t.Helper()
	block, _ := pem.Decode(read(t, path))
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	return block.Bytes
}
