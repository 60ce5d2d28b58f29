package app

import (
	"regexp"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestNoFlagTakesASecret: what stands on a command line can be read by every account of
// the machine (threat PL7). Secrets come from a file, a credential or a terminal.
func TestNoFlagTakesASecret(t *testing.T) {
	secret := regexp.MustCompile(`pass|pin|secret|token|phrase|reference|key|credential`)
	harmless := map[string]bool{"key": true, "key-password-file": true, "root-key": true, "root-key-password-file": true} // names of files
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		look := func(f *pflag.Flag) {
			seen++
			if secret.MatchString(f.Name) && !harmless[f.Name] {
				t.Errorf("%s: --%s looks like a secret; take the name of a file", cmd.CommandPath(), f.Name)
			}
		}
		cmd.Flags().VisitAll(look)
		cmd.PersistentFlags().VisitAll(look)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&cli{}).root())
	if seen < 50 {
		t.Errorf("only %d flags seen: the walk is blind", seen)
	}
}
