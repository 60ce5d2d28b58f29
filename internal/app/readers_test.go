package app

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

// needsSigner are the commands of the instance that have something signed or opened; each
// asks for the signer before it begins. Those of the audit sign the tree first.
var needsSigner = []string{"audit accept-loss", "audit proof", "audit verify", "client add", "client renew", "crl", "letter extend", "operator add", "operator recover",
	"request approve"}

// apart are the commands that do not open an instance as the others do.
var apart = []string{"check-config", "demo", "init", "migrate", "release key", "release sign", "release verify", "serve", "signer", "signer verify-journal", "version"}

// TestEveryCommandWithoutASigner: every command that needs no signer is tried in a script
// while there is none, or one that hangs. A new command has to be in one of the lists.
func TestEveryCommandWithoutASigner(t *testing.T) {
	var tried []byte
	for _, script := range []string{"signer_silent", "signer_alone"} {
		raw, err := os.ReadFile("testdata/script/" + script + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		away := regexp.MustCompile(`(?ms)^signal STOP signer$.*?^signal CONT signer$|^signal TERM signer$.*`)
		for _, part := range away.FindAll(raw, -1) {
			tried = append(tried, part...)
		}
	}
	seen := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		name := trimRoot(cmd)
		if cmd.Hidden || cmd.HasSubCommands() || name == "" || slices.Contains(needsSigner, name) || slices.Contains(apart, name) {
			return
		}
		seen++
		line := regexp.MustCompile(`(?m)^(?:as \w+|exec inkan) ` + name + `(?: |$)`)
		if !line.Match(tried) {
			t.Errorf("inkan %s is not tried without a signer", name)
		}
	}
	walk((&cli{}).root())
	if seen < 20 {
		t.Errorf("%d commands seen: the test is blind", seen)
	}
}
