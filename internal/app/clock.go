package app

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// now is what the machine's clock says. It is the time of an instance only as far as
// that believes it: see instance.clock.
func now() time.Time { return time.Now() }

// servePath is the file beside which serve leaves its lock: of the SQLite database,
// which may be named from several directories, or of this directory.
func (i *instance) servePath() string {
	path := i.config.sqliteFile(i.dir)
	if path == "" {
		path = filepath.Join(i.dir, configFile)
	}
	return path
}

func (c *cli) clockCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "clock", Short: "the time (時計)"}
	accept := &cobra.Command{Use: "accept", Short: "believe the clock of this machine as it is now, though much time seems to have passed", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, "")
			if err != nil {
				return err
			}
			at, err := i.ops.AcceptClock(ctx, by)
			if err != nil {
				return err
			}
			c.say("the time is %s", at.Format(time.RFC3339))
			return nil
		})
	}}
	c.actorFlags(accept)
	cmd.AddCommand(accept)
	return cmd
}
