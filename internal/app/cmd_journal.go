package app

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/signer"
)

// signerPassphrase reads what opens the vault: the credential where there are
// credentials, else the file of the configuration.
func (i *instance) signerPassphrase() (pki.Secret, error) {
	path := inside(i.dir, i.config.Signer.PassphraseFile)
	if os.Getenv("CREDENTIALS_DIRECTORY") != "" {
		path = "" // ReadPassphrase finds it
	}
	return keystore.ReadPassphrase(path)
}

// verifyJournalCommand needs the vault, and so is for the signer's account. A signer may
// run meanwhile.
func (c *cli) verifyJournalCommand() *cobra.Command {
	var archive string
	cmd := &cobra.Command{Use: "verify-journal", Short: "check every line of the signer's journal, in all its parts, and its checkpoints against the database"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log := c.logger(false)
		harden(log)
		dir, err := filepath.Abs(c.dir)
		if err != nil {
			return err
		}
		config, err := loadConfig(dir)
		if err != nil {
			return err
		}
		passphrase, err := newInstance(dir, config, log).signerPassphrase()
		if err != nil {
			return err
		}
		home := inside(dir, config.Signer.Dir)
		vault, err := keystore.OpenVault(home, passphrase)
		if err != nil {
			return err
		}
		report, err := signer.VerifyJournal(home, archive, vault.JournalKey())
		if err != nil {
			return err
		}
		c.say("%d lines in parts %d to %d, each as it was written", report.Lines, report.First, report.Last)
		if report.First > 1 {
			c.say("parts before %d are not here; --archive names the directory that they were moved to", report.First)
		}
		if !config.Signer.Child {
			c.say("not compared with the database, which is the edge's: inkan audit verify does that")
			return nil
		}
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			err := i.ops.CompareJournal(ctx, report.Checkpoints, report.Losses)
			if err == nil {
				c.say("%d checkpoints, as the database has them", len(report.Checkpoints))
			}
			return err
		})
	}
	cmd.Flags().StringVar(&archive, "archive", "", "directory with the parts that were moved away")
	return cmd
}
