package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
)

func (c *cli) checkConfigCommand() *cobra.Command {
	var production bool
	cmd := &cobra.Command{Use: "check-config", Short: "list every problem of the configuration at once", RunE: func(cmd *cobra.Command, _ []string) error {
		if c.json && !production {
			return &usageError{"check-config", errors.New("--json is for --production")}
		}
		if production {
			return c.checkProduction(cmd.Context(), c.spoken(cmd.Flags().Changed("lang")))
		}
		err := c.checkConfig(cmd.Context())
		if err != nil {
			return err
		}
		c.say("configuration of %s is right", c.dir)
		return nil
	}}
	cmd.Flags().BoolVar(&production, "production", false, "go through what a live service should have around it")
	cmd.Flags().BoolVar(&c.json, "json", false, "with --production: the list as JSON")
	return cmd
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
	err = checkFileOwner(dir)
	if err != nil {
		return err // another account's instance is that account's to check
	}
	var found []error
	for _, f := range faults {
		found = append(found, refuse(configFile, f))
	}
	found = append(found, checkModes(dir, config))
	i := newInstance(dir, config, c.logger(false))
	_, mailErr := i.newMailer()
	found = append(found, i.loadCAs(), i.checkHosts(), i.checkPassphrase(), i.checkTokens(), mailErr)
	err = i.openDatabase(ctx)
	if err == nil {
		i.db.Close()
	}
	return errors.Join(append(found, err)...)
}

// checkHosts looks whether the root of the site's TLS may vouch for every host of the
// configuration: it was constrained to those of init (threat ST9).
func (i *instance) checkHosts() error {
	root := i.cas[issuance.TLS]
	if root == nil {
		return nil // told by loadCAs
	}
	var faults []fault
	for _, z := range i.config.https() {
		for _, h := range z.Hosts {
			if !vouches(root, hostOnly(h)) {
				faults = append(faults, fault{key: z.key + ".hosts", text: fmt.Sprintf("%q is outside the names that ca/tls.pem may vouch for", h)})
			}
		}
	}
	return refuse(configFile, faults...)
}

func vouches(root *x509.Certificate, host string) bool {
	ip := net.ParseIP(host)
	if ip != nil {
		return slices.ContainsFunc(root.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return slices.ContainsFunc(root.PermittedDNSDomains, func(d string) bool { return host == d || strings.HasSuffix(host, "."+d) })
}

// checkPassphrase looks for what opens the vault, where this account is the one to
// read it.
func (i *instance) checkPassphrase() error {
	if !i.config.Signer.Child || os.Getenv("CREDENTIALS_DIRECTORY") != "" {
		return nil
	}
	_, err := keystore.ReadPassphrase(inside(i.dir, i.config.Signer.PassphraseFile))
	code := pki.CodeOf(err)
	if code == "vault.mode" || code == "vault.owner" {
		return nil // told with the modes of all files
	}
	return err
}

// checkTokens looks for what opens the tokens, without opening it: the PIN is the
// signer's.
func (i *instance) checkTokens() error {
	if !i.config.Signer.Child {
		return nil
	}
	var found []error
	for _, id := range online {
		err := i.config.place(i.dir, id).CheckToken()
		if !slices.ContainsFunc(found, func(f error) bool { return errors.Is(f, err) }) {
			found = append(found, err) // once, not for each key of a token
		}
	}
	return errors.Join(found...)
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
