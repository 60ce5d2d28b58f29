package app

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"inkan/internal/ops"
	"inkan/internal/store"
)

// migrateCommand brings the database of an instance to the schema of this program,
// after an upgrade. Nothing else does so by itself: a backup comes first.
func (c *cli) migrateCommand() *cobra.Command {
	return &cobra.Command{Use: "migrate", Short: "bring the database to this program's version", RunE: func(cmd *cobra.Command, _ []string) error {
		dir, err := filepath.Abs(c.dir)
		if err != nil {
			return fmt.Errorf("resolve directory: %w", err)
		}
		config, err := loadConfig(dir)
		if err != nil {
			return err
		}
		err = checkModes(dir, config)
		if err != nil {
			return err
		}
		i := newInstance(dir, config, c.logger(false))
		err = i.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer i.db.Close()
		err = i.db.Migrate(cmd.Context())
		if err != nil {
			return err
		}
		err = i.checkMode(cmd.Context())
		if err != nil {
			return err
		}
		guards, err := ops.New(ops.Config{DB: i.db, Log: i.log}).RestoreGuards(cmd.Context())
		if errors.Is(err, store.ErrNoScratch) { // the schema is up to date all the same
			c.say("definitions %s", definitionWords[ops.Unchecked])
			err = nil
		}
		if err != nil {
			return err
		}
		for _, name := range guards {
			c.say("made anew: %s", name)
		}
		c.say("the database is up to date")
		return nil
	}}
}
