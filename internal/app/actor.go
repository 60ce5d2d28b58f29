package app

import (
	"bufio"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"software.sslmate.com/src/go-pkcs12"

	"inkan/internal/pki"
)

// actorFlags adds the flags that say and prove who acts.
func (c *cli) actorFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.as, "as", "", "operator who acts")
	cmd.Flags().StringVar(&c.key, "key", "", "PKCS#12 file of the operator (its password is asked for); default: the account that you logged in under")
	cmd.Flags().StringVar(&c.keyPIN, "key-password-file", "", "file with the password of --key")
	_ = cmd.MarkFlagRequired("as")
}

// actor proves who acts: with --key a statement about exactly this command is signed
// and checked; without it the account counts that somebody logged in under. In a demo a
// bare name is accepted and audited as asserted (threat CO1).
func (c *cli) actor(ctx context.Context, i *instance, cmd *cobra.Command, content string) (pki.Actor, error) {
	return c.prove(ctx, i, trimRoot(cmd), content)
}

// prove is actor for a command by its name.
func (c *cli) prove(ctx context.Context, i *instance, command, content string) (pki.Actor, error) {
	if c.key == "" && i.ops.Asserted {
		return i.ops.Assert(ctx, c.as, command)
	}
	if c.key == "" {
		return i.ops.ProveAccount(ctx, c.as, command, content)
	}
	key, cert, err := c.openKey()
	if err != nil {
		return pki.Actor{}, err
	}
	statement := i.ops.NewStatement(c.as, command, content)
	signature, err := statement.Sign(key)
	if err != nil {
		return pki.Actor{}, fmt.Errorf("sign statement: %w", err)
	}
	return i.ops.Prove(ctx, statement, cert.Raw, signature)
}

// maxKeyFile bounds the PKCS#12 file of an operator.
const maxKeyFile = 64 << 10

// openKey opens the operator's key, once in a run: its password is asked for once.
func (c *cli) openKey() (crypto.Signer, *x509.Certificate, error) {
	if c.opened == nil {
		key, cert, err := c.readKey()
		if err != nil {
			return nil, nil, err
		}
		c.opened, c.openedBy = key, cert
	}
	return c.opened, c.openedBy, nil
}

func (c *cli) readKey() (crypto.Signer, *x509.Certificate, error) {
	unreadable := pki.E(pki.Invalid, "key.unreadable").With("File", c.key)
	err := checkSecretFile(c.key)
	if err != nil {
		return nil, nil, err
	}
	raw, err := readLimited(c.key, maxKeyFile)
	if err != nil {
		return nil, nil, unreadable.Because(err)
	}
	password, err := c.password()
	if err != nil {
		return nil, nil, err
	}
	return parseKey(c.key, raw, password)
}

// readLimited reads a file that must not be larger than limit, and no more of it.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = errors.New("file is too large")
	}
	return raw, err
}

// parseKey reads the PKCS#12 file of an operator. name is for the words of an error.
func parseKey(name string, raw []byte, password pki.Secret) (crypto.Signer, *x509.Certificate, error) {
	private, cert, _, err := pkcs12.DecodeChain(raw, password.Reveal())
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, nil, pki.E(pki.Forbidden, "key.password").With("File", name).Because(err)
	}
	if err != nil {
		// What the decoder says of a file that is something else helps nobody.
		return nil, nil, pki.E(pki.Forbidden, "key.form").With("File", name).Because(err)
	}
	key, ok := private.(crypto.Signer)
	if !ok || cert == nil {
		return nil, nil, pki.E(pki.Forbidden, "key.form").With("File", name)
	}
	return key, cert, nil
}

// checkSecretFile refuses a key or password that other accounts of the machine can
// read, or that is another's (threat PL2). What cannot be looked at at all is told by who
// opens it.
func checkSecretFile(path string) error {
	err := checkFileMode(path)
	if othersFile(err) {
		return err
	}
	return nil
}

// password reads the password of --key.
func (c *cli) password() (pki.Secret, error) { return c.secret("password of "+c.key, c.keyPIN) }

// secret reads a secret: from a file where one is named, from the terminal without
// echo, or as one line of standard input.
func (c *cli) secret(what, file string) (pki.Secret, error) {
	if file != "" {
		err := checkSecretFile(file)
		if err != nil {
			return "", err
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", pki.E(pki.Invalid, "file.unreadable").With("File", file).Because(err)
		}
		return pki.Secret(strings.TrimRight(string(raw), "\r\n")), nil
	}
	terminal, ok := c.stdin.(*os.File)
	if ok && term.IsTerminal(int(terminal.Fd())) {
		_, _ = fmt.Fprintf(c.stderr, "%s: ", what)
		raw, err := term.ReadPassword(int(terminal.Fd()))
		_, _ = fmt.Fprintln(c.stderr)
		return pki.Secret(raw), err
	}
	line, err := bufio.NewReader(io.LimitReader(c.stdin, 1<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	return pki.Secret(strings.TrimRight(line, "\r\n")), nil
}
