package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

func (c *cli) checkConfigCommand() *cobra.Command {
	return &cobra.Command{Use: "check-config", Short: "list every problem of the configuration at once", RunE: func(cmd *cobra.Command, _ []string) error {
		err := c.checkConfig(cmd.Context())
		if err != nil {
			return err
		}
		c.say("configuration of %s is right", c.dir)
		return nil
	}}
}

// checkConfig goes on after each problem as far as it can, so that one run tells all.
func (c *cli) checkConfig(ctx context.Context) error {
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return err
	}
	config, faults, err := readConfig(filepath.Join(dir, configFile))
	if err != nil {
		_, err = loadConfig(dir)
		return err
	}
	var found []error
	for _, f := range faults {
		found = append(found, refuse(configFile, f))
	}
	found = append(found, checkModes(dir))
	i := &instance{dir: dir, config: config, log: c.logger(false)}
	found = append(found, i.loadCAs(), i.checkPassphrase())
	err = i.openDatabase(ctx)
	if err == nil {
		i.db.Close()
	}
	return errors.Join(append(found, err)...)
}

// checkPassphrase looks for what opens the vault, where this account is the one to
// read it.
func (i *instance) checkPassphrase() error {
	if !i.config.Signer.Child || os.Getenv("CREDENTIALS_DIRECTORY") != "" {
		return nil
	}
	_, err := keystore.ReadPassphrase(inside(i.dir, i.config.Signer.PassphraseFile))
	if pki.CodeOf(err) == "vault.mode" {
		return nil // told with the modes of all files
	}
	return err
}

// checkNames refuses CA certificates that are not those of the configuration. So a
// demo's, which have DEMO in them, never serve a live instance (threat PL1).
func (i *instance) checkNames() error {
	n := i.config.Names
	var found []error
	for _, ca := range []struct{ id, key, name string }{{issuance.Root, "names.root", n.Root}, {issuance.G1, "names.issuer", n.Issuer},
		{issuance.Operations, "names.operations", n.Operations}, {issuance.TLS, "names.site", n.Site}} {
		has := i.cas[ca.id].Subject.CommonName
		if has != ca.name {
			found = append(found, pki.E(pki.Forbidden, "instance.names").With("Key", ca.key).With("Config", ca.name).With("File", "ca/"+ca.id+".pem").With("Certificate", has))
		}
	}
	return errors.Join(found...)
}
