package app

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"inkan/internal/i18n"
	"inkan/internal/pki"
)

// Version is the program's version; releases set it with -ldflags.
var Version = "0.1.0-dev"

// Exit codes of the contract.
const (
	exitOK      = 0
	exitRefused = 1
	exitUsage   = 2
)

// cli is one run of the program.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	dir      string
	json     bool
	as       string
	key      string
	keyPIN   string        // file with the password of --key
	opened   crypto.Signer // of --key, and its certificate
	openedBy *x509.Certificate
	lang     string
	level    slog.Level // of the log of services
}

// Main runs inkan and gives its exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	setUmask()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	usage, isUsage := errors.AsType[*usageError](err)
	if isUsage {
		c.complain(usage.Error(), "inkan "+usage.command+" --help")
		return exitUsage
	}
	c.fail(err)
	return exitRefused
}

// usageError is a command line that cannot be understood.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "inkan",
		Short:         "a managed PKI for client certificates",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&c.dir, "dir", "./inkan-data", "instance directory")
	flags.StringVar(&c.lang, "lang", "en", "language of messages: en or ja")
	flags.TextVar(&c.level, "log-level", slog.LevelInfo, "least level of a service's log: debug, info, warn or error")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(i18n.Languages, c.lang) {
			return &usageError{trimRoot(cmd), fmt.Errorf("--lang %q: en or ja", c.lang)}
		}
		return nil
	}
	root.AddCommand(c.initCommand(), c.serveCommand(), c.demoCommand(), c.signerCommand(), c.checkConfigCommand(),
		c.requestCommand(), c.certCommand(), c.revokeCommand(), c.revocationCommand(), c.letterCommand(), c.crlCommand(), c.ocspCheckCommand(),
		c.auditCommand(), c.clockCommand(), c.operatorCommand(), c.clientCommand(), c.grantCommand(),
		c.migrateCommand(), c.releaseCommand(), c.versionCommand())
	mark(root)
	return root
}

// mark makes wrong flags and arguments usage errors, so that they exit with 2.
func mark(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{trimRoot(cmd), err} })
	args := cmd.Args
	if args == nil && cmd.Runnable() {
		args = cobra.NoArgs
	}
	if args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			err := cmd.ValidateRequiredFlags()
			if args(cmd, given) != nil {
				err = errors.New("usage: " + cmd.UseLine())
			}
			if err != nil {
				return &usageError{trimRoot(cmd), err}
			}
			return nil
		}
	}
	if !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return cmd.Help()
			}
			return &usageError{trimRoot(cmd), fmt.Errorf("unknown command %q", given[0])}
		}
	}
	for _, sub := range cmd.Commands() {
		mark(sub)
	}
}

func trimRoot(cmd *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), "inkan"))
}

// fail tells a person what happened and what to do: one line, and a hint where one
// helps. Several errors are several lines, and what is to be done is said once. The
// private half goes only to the log of serve, or here when it is the operator's own
// machine that is wrong.
func (c *cli) fail(err error) {
	all := flatten(err)
	for n, one := range all {
		text, hint := c.words(one)
		if n+1 < len(all) {
			_, next := c.words(all[n+1])
			if next == hint {
				hint = ""
			}
		}
		c.complain(text, hint)
	}
}

// flatten gives the errors that were joined.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, one := range joined.Unwrap() {
		out = append(out, flatten(one)...)
	}
	return out
}

// words are an error as a person is told it.
func (c *cli) words(err error) (text, hint string) {
	signer, ok := errors.AsType[*childError](err)
	if ok {
		return signer.text, signer.hint
	}
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		return err.Error(), ""
	}
	text, hint = i18n.Error(i18n.Match(c.lang, ""), err)
	if cause := errors.Unwrap(e); cause != nil && tells(e.Class, cause) {
		text += " (" + oneLine(cause.Error()) + ")"
	}
	return text, hint
}

// tells says whether the cause of an error helps the person at the command line: what
// the system says does, what a decoder says of wrong input does not.
func tells(class pki.Class, cause error) bool {
	_, ofFile := errors.AsType[*fs.PathError](cause)
	return ofFile || class == pki.Busy || class == pki.Conflict || class == pki.Internal
}

func (c *cli) complain(text, hint string) {
	_, _ = fmt.Fprintf(c.stderr, "inkan: %s\n", oneLine(text))
	if hint != "" {
		_, _ = fmt.Fprintf(c.stderr, "hint: %s\n", oneLine(hint))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// logger is the program's log: JSON lines on standard error for the services, and
// nothing but warnings for commands.
func (c *cli) logger(service bool) *slog.Logger {
	if service {
		return newLog(c.stderr, c.level)
	}
	return slog.New(slog.NewTextHandler(inert{c.stderr}, &slog.HandlerOptions{Level: slog.LevelError}))
}

// print writes a value as indented JSON.
func (c *cli) print(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (c *cli) say(format string, args ...any) { _, _ = fmt.Fprintf(c.stdout, format+"\n", args...) }

// with opens the instance for one command.
func (c *cli) with(cmd *cobra.Command, needSigner bool, do func(ctx context.Context, i *instance) error) error {
	ctx := cmd.Context()
	i, err := open(ctx, c.dir, c.logger(false))
	if err != nil {
		return err
	}
	defer i.close()
	if needSigner {
		stop, err := i.ensureSigner(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	return do(ctx, i)
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", RunE: func(*cobra.Command, []string) error {
		c.say("inkan %s", Version)
		return nil
	}}
}
