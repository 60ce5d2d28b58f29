package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// TestUnitsAreHardened holds the units to the figure that docs/OPERATE.md names.
func TestUnitsAreHardened(t *testing.T) {
	for _, unit := range []string{"inkan.service", "inkan-signer.service"} {
		out := testkit.Run(t, "systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", "../deploy/"+unit)
		says(t, out, "Overall exposure level for "+unit)
	}
}

// TestUnits boots a service manager in namespaces of its own, installs an instance in it
// as docs/OPERATE.md says, and looks at what runs: e2e/units/steps.sh.
func TestUnits(t *testing.T) {
	testkit.Long(t, "boots a service manager")
	testkit.Tool(t, "unshare", "curl", "ip", "nft", "/lib/systemd/systemd")
	asRoot := becomeRoot(t)
	bin, err := buildOnce()
	testkit.Must(t, err)
	share := t.TempDir()
	testkit.Run(t, "cp", bin, filepath.Join(share, "inkan"))
	testkit.Run(t, "cp", "-r", "../deploy", "units/boot.sh", "units/steps.sh", "units/live.toml", share)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	line := append(asRoot, "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", "--net",
		"sh", filepath.Join(share, "boot.sh"), share)
	said, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
	code, _ := os.ReadFile(filepath.Join(share, "code"))
	out, _ := os.ReadFile(filepath.Join(share, "out"))
	if err != nil || strings.TrimSpace(string(code)) != "0" || !strings.Contains(string(out), "== done") {
		console, _ := os.ReadFile(filepath.Join(share, "console"))
		t.Errorf("boot: %v, code %q\n%s%s%s", err, code, said, out, console)
	}
}

// becomeRoot gives what goes before a command that only root may run.
func becomeRoot(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() == 0 {
		return nil
	}
	err := exec.Command("sudo", "-n", "true").Run()
	if err == nil {
		return []string{"sudo", "-n"}
	}
	testkit.Missing(t, "root, or a sudo that asks nothing")
	return nil
}
