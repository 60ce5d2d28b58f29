package keystore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"inkan/internal/pki"
)

const (
	callTimeout = 10 * time.Second // of one call, where the caller set no deadline
	turnTimeout = 20 * time.Second // of the wait for a turn, likewise: a morning's rush takes some
	maxCalls    = 64               // at once; the signer accepts some more connections
	maxSlow     = 32               // of these, calls that may wait for Argon2id
	maxIdle     = 8

	// lookTimeout is how long a signer may say nothing at all before it is called silent.
	// With the pause between two looks (serve) or the start of a command it stays below
	// the two seconds within which people are told.
	lookTimeout = 1200 * time.Millisecond
)

// Client speaks to a signer. It connects when it must, keeps a few connections, and
// connects anew after the signer was restarted. It is safe for concurrent use. Its
// errors are the signer's own (*pki.Error), or of class Busy: signer.away where nobody
// listens, signer.silent where somebody does and does not answer, signer.busy where others
// are answered and the line is too long.
type Client struct {
	socket string
	slots  chan struct{}
	slow   chan struct{}
	group  group

	callTime, turnTime, lookTime time.Duration

	heard atomic.Int64 // answers that came, to any call

	mu     sync.Mutex
	idle   []net.Conn
	closed bool
}

var _ Service = (*Client)(nil)

// Dial gives a client of the signer at a unix socket. It does not connect yet.
func Dial(socket string) *Client {
	c := &Client{socket: socket, slots: make(chan struct{}, maxCalls), slow: make(chan struct{}, maxSlow), callTime: callTimeout, turnTime: turnTimeout, lookTime: lookTimeout}
	c.group.call = func(requests []SignRequest) ([]SignResult, error) {
		return c.signIntents(context.Background(), requests) // nobody's own deadline: callTimeout
	}
	return c
}

// Close closes the connections that rest. Calls under way end by themselves.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.dropIdle()
	return nil
}

func (c *Client) dropIdle() {
	for _, conn := range c.idle {
		_ = conn.Close()
	}
	c.idle = nil
}

// call makes one call. On a connection that had rested, the signer may have gone
// meanwhile; then it is made once more on a new one. Every verb may be repeated.
func (c *Client) call(ctx context.Context, v verb, q, a message) error {
	body, tail, err := encode(q)
	if err != nil {
		return errMalformed.Because(err)
	}
	defer clear(body)
	if len(body)+len(tail) > v.limit() {
		return errMalformed.Because(errSize)
	}
	release, err := c.acquire(ctx, v)
	if err != nil {
		return err
	}
	defer release()
	_, limited := ctx.Deadline()
	if limited {
		return c.try(ctx, v, body, tail, a)
	}
	ctx, cancel := context.WithTimeout(ctx, c.callTime)
	defer cancel()
	return c.try(ctx, v, body, tail, a)
}

// look asks the signer about itself. It waits for no turn, so a long line keeps nobody
// from it.
func (c *Client) look(ctx context.Context, a *Info) error {
	ctx, cancel := context.WithTimeout(ctx, c.callTime)
	defer cancel()
	ctx, give := context.WithCancelCause(ctx)
	defer give(nil)
	go c.listen(ctx, give)
	return c.try(ctx, verbInfo, nil, nil, a)
}

// listen ends a context when the signer has answered nobody for lookTime. A signer that
// answers somebody is only busy.
func (c *Client) listen(ctx context.Context, give context.CancelCauseFunc) {
	heard := c.heard.Load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.lookTime):
		}
		last := heard
		heard = c.heard.Load()
		if heard == last {
			give(context.DeadlineExceeded)
			return
		}
	}
}

// try makes a call until the context ends.
func (c *Client) try(ctx context.Context, v verb, body, tail []byte, a message) error {
	conn, rested, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = c.exchange(ctx, conn, v, body, tail, a)
	if rested && errors.Is(err, errGone) && ctx.Err() == nil {
		c.mu.Lock()
		c.dropIdle() // they are of the same dead signer
		c.mu.Unlock()
		conn, err = c.dial(ctx)
		if err != nil {
			return err
		}
		err = c.exchange(ctx, conn, v, body, tail, a)
	}
	return err
}

// acquire waits for a turn. The wait is no part of the call's own time: who stands in a
// long line behind a signer that works must not be told that it is away.
func (c *Client) acquire(ctx context.Context, v verb) (func(), error) {
	var taken []chan struct{}
	release := func() {
		for _, slots := range taken {
			<-slots
		}
	}
	needed := []chan struct{}{c.slots}
	switch v {
	case verbNewVerifier, verbCheckReference, verbHold, verbOpenHeld:
		needed = []chan struct{}{c.slow, c.slots} // a flood of IDs may not keep signing out
	}
	late := time.NewTimer(c.turnTime)
	defer late.Stop()
	heard := c.heard.Load()
	for _, slots := range needed {
		select {
		case slots <- struct{}{}:
			taken = append(taken, slots)
		case <-ctx.Done():
			release()
			return nil, ended("wait for signer", ctx)
		case <-late.C:
			release()
			if c.heard.Load() != heard {
				return nil, errBusy
			}
			return nil, errSilent.Because(errors.New("no turn"))
		}
	}
	return release, nil
}

// connect gives a connection, and whether it had rested.
func (c *Client) connect(ctx context.Context) (net.Conn, bool, error) {
	c.mu.Lock()
	n := len(c.idle)
	if n > 0 {
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return conn, true, nil
	}
	c.mu.Unlock()
	conn, err := c.dial(ctx)
	return conn, false, err
}

var (
	errAway   = pki.E(pki.Busy, "signer.away")
	errSilent = pki.E(pki.Busy, "signer.silent")
	errBusy   = pki.E(pki.Busy, "signer.busy")
	errGone   = errors.New("connection to the signer ended")
)

// ended says why a context ended before the signer answered: the time was over, or the
// caller left.
func ended(what string, ctx context.Context) error {
	why := context.Cause(ctx)
	if errors.Is(why, context.DeadlineExceeded) {
		return errSilent.Because(errors.New("no answer in time"))
	}
	return fmt.Errorf("%s: %w", what, why)
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	address, done, err := SocketAddress(c.socket)
	if err != nil {
		return nil, errAway.Because(err)
	}
	defer done()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", address)
	if ctx.Err() != nil && err != nil {
		return nil, ended("call signer", ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) { // of the connection, a moment before the context's
		return nil, errSilent.Because(errors.New("no answer in time"))
	}
	if err != nil {
		return nil, errAway.Because(err)
	}
	return conn, nil
}

// exchange sends a call and reads its answer. The connection rests afterwards, or,
// if anything was amiss, is closed: a late answer must not meet another question.
func (c *Client) exchange(ctx context.Context, conn net.Conn, v verb, body, tail []byte, a message) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	status, answer, err := roundTrip(conn, v, body, tail)
	if !stop() || err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			return ended("call signer", ctx)
		}
		return errAway.Because(errors.Join(errGone, err))
	}
	c.heard.Add(1)
	switch status {
	case statusOK:
		err = decode(answer, a)
	case statusError:
		var f failure
		err = decode(answer, &f)
		if err == nil {
			c.rest(conn)
			return f.err()
		}
	default:
		err = errForm
	}
	if err != nil {
		_ = conn.Close()
		return errAway.Because(err)
	}
	c.rest(conn)
	return nil
}

// roundTrip gives status and body of the answer.
func roundTrip(conn net.Conn, v verb, body, tail []byte) (byte, []byte, error) {
	err := writeFrame(conn, byte(v), body, tail)
	if err != nil {
		return 0, nil, err
	}
	status, size, err := readHeader(conn)
	if err != nil {
		return 0, nil, err
	}
	answer, err := readBody(conn, size, frameLimit)
	return status, answer, err
}

func (c *Client) rest(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		_ = conn.Close()
		return
	}
	c.idle = append(c.idle, conn)
}

// SocketAddress gives an address for a unix socket whose path may be longer than
// the 107 bytes the kernel takes: such a one is named through its open directory.
// The function it returns is to be called after binding or connecting.
func SocketAddress(path string) (string, func(), error) {
	if len(path) < 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, fmt.Errorf("open socket's directory: %w", err)
	}
	address := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	return address, func() { _ = dir.Close() }, nil
}
