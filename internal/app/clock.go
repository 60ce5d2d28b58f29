package app

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
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
			// Who proves who they are makes a commit, and that is what moves the time: so
			// that it is an administrator is looked up before.
			err := i.mayAccept(ctx, c.as)
			if err != nil {
				return err
			}
			i.clock.Accept()
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

func (i *instance) mayAccept(ctx context.Context, operator string) error {
	all, err := i.ops.Operators(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(all, func(o pki.Operator) bool { return o.ID == operator })
	if n < 0 {
		return pki.E(pki.NotFound, "operator.unknown").With("Operator", operator)
	}
	return pki.Actor{ID: operator, Auth: pki.AuthKey, Roles: all[n].Roles}.Need(pki.MayManage)
}
