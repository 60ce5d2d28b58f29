package app

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"inkan/internal/pki"
)

// recoverOperatorCommand makes an administrator with the root key, where none can act any
// more (docs/OPERATE.md).
func (c *cli) recoverOperatorCommand() *cobra.Command {
	var file, passphraseFile, name, account string
	cmd := &cobra.Command{Use: "recover ID", Short: "make an administrator with the root key, where no administrator can act", Args: cobra.ExactArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := newOperator{ID: args[0], Name: name, Roles: []pki.Role{pki.RoleAdmin}, File: "operator-" + args[0] + ".p12", Password: newPassword(20)}
		if o.Name == "" {
			o.Name = o.ID
		}
		var err error
		o.Account, err = accountOf(account)
		if err != nil {
			return err
		}
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			if i.config.Mode == "demo" {
				return pki.E(pki.Forbidden, "recovery.demo")
			}
			root, err := c.openRoot(file, passphraseFile)
			if err != nil {
				return err
			}
			stop, err := i.ensureSigner(ctx)
			if err != nil {
				return err
			}
			defer stop()
			err = i.recoverOperator(ctx, root, o)
			if err != nil {
				return err
			}
			c.say("%s  certificate in %s", o.ID, inside(i.dir, o.File))
			c.say("password, shown once: %s", o.Password.Reveal())
			c.say("")
			c.say("Carry the root key away again. Then disable the operator whose key is lost: %s", c.commandLine("operator disable --as "+o.ID+" OPERATOR"))
			return nil
		})
	}
	cmd.Flags().StringVar(&file, "root-key", "", "offline/root.key.age of init; its passphrase is asked for")
	cmd.Flags().StringVar(&passphraseFile, "root-key-password-file", "", "file with the passphrase of --root-key")
	cmd.Flags().StringVar(&name, "name", "", "name of the person")
	osUserFlag(cmd, &account)
	_ = cmd.MarkFlagRequired("root-key")
	return cmd
}

// recoverOperator makes an administrator at the word of the root key. The office checks
// the word before a certificate is made, and again when it registers.
func (i *instance) recoverOperator(ctx context.Context, root crypto.Signer, o newOperator) error {
	statement, err := i.ops.NewRecovery(ctx, o.ID)
	if err != nil {
		return err
	}
	signature, err := statement.Sign(root)
	if err != nil {
		return err
	}
	err = i.mayAddOperator(ctx, pki.Operator{ID: o.ID, Name: o.Name, Roles: o.Roles, Account: o.Account})
	if err != nil {
		return err
	}
	err = i.ops.CheckRecovery(ctx, statement, signature, pki.Operator{ID: o.ID})
	if err != nil {
		return err
	}
	return i.makeOperator(ctx, o, func(operator pki.Operator) error { return i.ops.Recover(ctx, statement, signature, operator) })
}

// openRoot decrypts the root key that init carried away.
func (c *cli) openRoot(file, passphraseFile string) (crypto.Signer, error) {
	err := checkSecretFile(file)
	if err != nil {
		return nil, err
	}
	sealed, err := readLimited(file, maxKeyFile)
	if err != nil {
		return nil, pki.E(pki.Invalid, "key.unreadable").With("File", file).Because(err)
	}
	passphrase, err := c.secret("passphrase of "+file, passphraseFile)
	if err != nil {
		return nil, err
	}
	wrong := pki.E(pki.Forbidden, "recovery.password").With("File", file)
	identity, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return nil, wrong.Because(err) // an empty one
	}
	form := pki.E(pki.Invalid, "recovery.form").With("File", file)
	plain, err := age.Decrypt(bytes.NewReader(sealed), identity)
	_, other := errors.AsType[*age.NoIdentityMatchError](err)
	if other {
		return nil, wrong.Because(err)
	}
	if err != nil {
		return nil, form.Because(err)
	}
	der, err := io.ReadAll(io.LimitReader(plain, maxKeyFile))
	if err != nil {
		return nil, form.Because(err)
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, form.Because(err)
	}
	root, ok := key.(crypto.Signer)
	if !ok {
		return nil, form
	}
	return root, nil
}
