package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/signer"
)

// pinCredential is the systemd credential that opens the tokens; keystore knows the vault's.
const pinCredential = "inkan-pkcs11-pin"

// runSigner is the signer process. As a child it lives as long as its standard
// input: when the parent dies, however it dies, the signer ends.
func runSigner(ctx context.Context, dir string, lifeline io.Reader, log *slog.Logger) error {
	harden(log)
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("resolve directory: %w", err)
	}
	config, err := loadConfig(dir)
	if err != nil {
		return err
	}
	i := newInstance(dir, config, log)
	err = i.loadCAs()
	if err != nil {
		return err
	}
	passphrase, err := i.signerPassphrase()
	if err != nil {
		return err
	}
	edge := config.Signer.EdgeUser
	if edge < 0 {
		edge = os.Getuid()
	}
	issuers := map[string]*issuance.Issuer{}
	for _, id := range online {
		issuers[id] = i.issuers[id]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go keepHeadroom(ctx, signerHeadroom)
	if lifeline != nil {
		go func() {
			_, _ = io.Copy(io.Discard, lifeline)
			cancel()
		}()
	}
	server, err := takeOver(ctx, lifeline != nil, signer.Config{Dir: inside(dir, config.Signer.Dir), Socket: inside(dir, config.Signer.Socket),
		Passphrase: passphrase, Issuers: issuers, Keys: config.Signer.Keys, PINFile: config.pinFile(dir), Profiles: i.profiles, EdgeUID: edge,
		RatePerMinute: config.Signer.RatePerMinute, Ready: func() { tellManager("READY=1") }, Now: now, Elapsed: elapsed, Log: log})
	if err != nil {
		return err
	}
	lockMemory(ctx, lifeline != nil, log)
	return server.Serve(ctx)
}

// lockMemory keeps keys out of the swap. What scrypt needed to open the vault, 128 MiB,
// is given back first.
func lockMemory(ctx context.Context, child bool, log *slog.Logger) {
	debug.FreeOSMemory()
	err := signer.LockMemory()
	if err == nil {
		return
	}
	level := slog.LevelWarn
	if child {
		level = slog.LevelDebug // a child is no production, and check-config --production says so
	}
	log.Log(ctx, level, "the signer's memory is not locked", "err", err)
}

// takeOver opens the signer. A child waits while another one works: that of a serve
// that was killed, which still finishes its calls, or of a command.
func takeOver(ctx context.Context, wait bool, c signer.Config) (*signer.Server, error) {
	for {
		server, err := signer.New(c)
		if !wait || pki.CodeOf(err) != "signer.running" {
			return server, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// harden keeps the memory of this process to itself: keys, PINs and reference IDs pass
// through both processes (threat CK12).
func harden(log *slog.Logger) {
	err := signer.Harden()
	if err != nil {
		log.Warn("this process could not be hardened", "err", err)
	}
}

// child is a signer that this process started.
type child struct {
	cmd      *exec.Cmd
	lifeline io.Closer
	stderr   *tail
	done     chan struct{}
}

// startChild starts the signer of serve, whose log goes on in ours.
func (i *instance) startChild() (*child, error) { return i.launch(os.Stderr) }

// launch starts the signer as a child process with nothing of our environment that it
// does not need.
func (i *instance) launch(log io.Writer) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	c := &child{cmd: exec.Command(self, "signer", "--dir", i.dir, "--child", "--log-level", levelOf(i.log).String()), stderr: &tail{log: log}, done: make(chan struct{})}
	for _, name := range append([]string{"PATH", "LANG", "TZ", "CREDENTIALS_DIRECTORY", "GOCOVERDIR", "TMPDIR"}, i.config.Signer.PassEnv...) {
		value, ok := os.LookupEnv(name)
		if ok {
			c.cmd.Env = append(c.cmd.Env, name+"="+value)
		}
	}
	c.cmd.Stderr = c.stderr
	c.lifeline, err = c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start signer: %w", err)
	}
	err = c.cmd.Start()
	if err != nil {
		return nil, fmt.Errorf("start signer: %w", err)
	}
	go func() {
		_ = c.cmd.Wait() // how it ended is told by its last words
		close(c.done)
	}()
	return c, nil
}

// stop asks the child to end and waits for it.
func (c *child) stop() {
	_ = c.lifeline.Close()
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// signerStart bounds how long a signer may take to open its vault.
const signerStart = 30 * time.Second

// ensureSigner makes sure that a signer answers: one that runs already, or a child
// for as long as this command lasts.
func (i *instance) ensureSigner(ctx context.Context) (func(), error) {
	err := i.askSigner(ctx)
	if err == nil {
		return func() {}, nil
	}
	if !i.config.Signer.Child || pki.ClassOf(err) != pki.Busy || silent(err) {
		return nil, err // beside one that hangs no other can start
	}
	c, err := i.launch(io.Discard) // a command says one line: that of its own refusal
	if err != nil {
		return nil, err
	}
	err = i.awaitSigner(ctx, c)
	if err != nil {
		c.stop()
		return nil, err
	}
	return c.stop, nil
}

// silent says whether a signer is there that does not answer: it hangs, or its machine
// does.
func silent(err error) bool { return pki.CodeOf(err) == "signer.silent" }

// waits says whether an error is that the signer is away, hangs or does not start: what
// was asked of it can wait.
func waits(err error) bool {
	_, ended := errors.AsType[*childError](err)
	return ended || pki.ClassOf(err) == pki.Busy
}

// waitCode is the code of such an error.
func waitCode(err error) string {
	_, ended := errors.AsType[*childError](err)
	if ended {
		return "signer.ended"
	}
	return pki.CodeOf(err)
}

// askSigner says whether a signer answers and is of this instance's mode, which the
// vault holds: who edits configuration and database cannot turn a live instance into a
// demo, or a demo into production (threat PL1).
func (i *instance) askSigner(ctx context.Context) error {
	info, err := i.signer.Info(ctx)
	if err == nil && info.Mode != i.config.Mode {
		return pki.E(pki.Forbidden, "instance.mode").With("Config", i.config.Mode).With("Database", info.Mode)
	}
	return err
}

// awaitSigner waits until a signer answers: the child, or the one that it waits for.
func (i *instance) awaitSigner(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, signerStart)
	defer cancel()
	ended := false
	for {
		err := i.askSigner(ctx)
		if pki.ClassOf(err) != pki.Busy || silent(err) {
			return err
		}
		if ended {
			return c.lastWords()
		}
		select {
		case <-ctx.Done():
			return err
		case <-c.done:
			ended = true
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// superviseSigner keeps a signer running until the context ends.
func (i *instance) superviseSigner(ctx context.Context, c *child) {
	for {
		select {
		case <-ctx.Done():
			c.stop()
			return
		case <-c.done:
		}
		i.log.Error("signer ended; starting it again", "said", c.stderr.String())
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			next, err := i.startChild()
			if err == nil {
				c = next
				break
			}
			i.log.Error("signer does not start", "err", err)
		}
	}
}

// childError is what the signer told a person before it ended; nobody can say it
// better.
type childError struct{ text, hint string }

func (e *childError) Error() string { return e.text }

func (c *child) lastWords() error {
	said := c.stderr.String()
	_, text, found := strings.Cut("\n"+said, "\ninkan: ")
	if !found {
		return pki.E(pki.Busy, "signer.ended").Because(errors.New(said))
	}
	text, rest, _ := strings.Cut(text, "\n")
	hint, _, _ := strings.Cut(strings.TrimPrefix(rest, "hint: "), "\n")
	return &childError{text, hint}
}

// tail keeps the last few lines that a child said, and passes them on.
type tail struct {
	log io.Writer
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailSize:]...)
	}
	_, _ = t.log.Write(p)
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
