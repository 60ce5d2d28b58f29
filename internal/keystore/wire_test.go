package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// FuzzDecode: whatever is decoded has one encoding, and nothing panics.
func FuzzDecode(f *testing.F) {
	seeds := map[verb]message{
		verbSignIntents:    &signIntentsCall{[]SignRequest{{"g1", "holder", []byte("tbs"), 5, make([]byte, 32)}}},
		verbSignCRL:        &signCRLCall{"g1", []byte("tbs")},
		verbSealPool:       &sealPoolCall{[]PoolKey{{"k1", []byte("key")}, {"k2", nil}}},
		verbHold:           &HoldRequest{KeyID: "k1", RequestID: "r", Reference: "secret", Verifier: Verifier{KID: "1", Gate: 7}},
		verbOpenHeld:       &OpenRequest{KeyID: "k1", Blob: []byte("blob")},
		verbCheckReference: &referenceCall{requestID: "r", reference: "secret"},
		verbSignCheckpoint: &checkpointCall{1, pki.Checkpoint{Number: 2, Size: -1}, make([]tlog.Hash, 3)},
		verbAcceptLoss:     &lossCall{pki.Loss{Instance: "i", Reason: "r", At: time.Unix(1, 0)}, []pki.LossSignature{{Certificate: []byte("c")}}},
		verbInfo:           &emptyMessage{},
	}
	for v, m := range seeds {
		body, _, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(v), body)
	}
	f.Add(byte(verbSignIntents), []byte{0xff, 0xff, 0xff, 0xff})
	answers := []func() message{
		func() message { return &signIntentsAnswer{} }, func() message { return &Info{} }, func() message { return &failure{} },
		func() message { return &boolMessage{} }, func() message { return &textsMessage{} },
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		m := newCall(verb(kind))
		if m == nil {
			m = answers[int(kind)%len(answers)]()
		}
		err := decode(body, m)
		if err != nil {
			return
		}
		again, tail, err := encode(m)
		if err != nil {
			t.Fatalf("%T does not encode again: %v", m, err)
		}
		_, isInfo := m.(*Info) // its map may have been sent unsorted or doubled
		if !isInfo && !bytes.Equal(append(again, tail...), body) {
			t.Fatalf("%T has two encodings: %x and %x", m, body, again)
		}
	})
}

// A large last field is sent as it lies in memory, and is read as any other.
func TestLargeField(t *testing.T) {
	tbs := bytes.Repeat([]byte{1, 2, 3}, largeField)
	for _, size := range []int{0, largeField - 1, largeField, len(tbs)} {
		body, tail, err := encode(&signCRLCall{"g1", tbs[:size]})
		if err != nil || (len(tail) > 0) != (size >= largeField) || len(tail) > 0 && &tail[0] != &tbs[0] {
			t.Fatalf("field of %d octets: tail of %d, %v", size, len(tail), err)
		}
		var frame bytes.Buffer
		err = writeFrame(&frame, byte(verbSignCRL), body, tail)
		if err != nil {
			t.Fatal(err)
		}
		_, n, err := readHeader(&frame)
		if err != nil {
			t.Fatal(err)
		}
		read, err := readBody(&frame, n, crlFrameLimit)
		if err != nil || frame.Len() > 0 {
			t.Fatalf("%d octets left, %v", frame.Len(), err)
		}
		var got signCRLCall
		err = decode(read, &got)
		if err != nil || got.issuer != "g1" || !bytes.Equal(got.tbs, tbs[:size]) {
			t.Errorf("field of %d octets came as %d, %v", size, len(got.tbs), err)
		}
	}
	c := &codec{writing: true}
	large, small := tbs, []byte("behind it")
	c.bytes(&large, len(large))
	c.bytes(&small, len(small))
	if !errors.Is(c.err, errForm) {
		t.Errorf("a field behind the tail: %v", c.err)
	}
}

func TestLimits(t *testing.T) {
	long := make([]byte, maxTBS+1)
	for _, m := range []message{
		&signIntentsCall{[]SignRequest{{TBS: long}}},
		&signIntentsCall{make([]SignRequest, maxBatch+1)},
		&referenceCall{reference: pki.Secret(long)},
		&sealPoolCall{[]PoolKey{{PKCS8: long}}},
	} {
		_, _, err := encode(m)
		if !errors.Is(err, errSize) {
			t.Errorf("%T: %v", m, err)
		}
	}
	body, _, err := encode(&textMessage{"x"})
	if err != nil {
		t.Fatal(err)
	}
	err = decode(append(body, 0), &textMessage{})
	if !errors.Is(err, errForm) {
		t.Errorf("a byte too many: %v", err)
	}
}

func TestFailureTravels(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC)
	cause := errors.New("private")
	sent := pki.E(pki.Limited, "a.code").With("Text", "x").With("Number", 5).With("At", at).Because(cause)
	body, _, err := encode(newFailure(fmt.Errorf("wrap: %w", sent)))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(body, []byte("private")) {
		t.Error("the private cause travels")
	}
	var f failure
	err = decode(body, &f)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := errors.AsType[*pki.Error](f.err())
	if !ok || got.Class != pki.Limited || got.Code != "a.code" || got.Args["Text"] != "x" || got.Args["Number"] != int64(5) || got.Args["At"] != at {
		t.Errorf("got %#v", f.err())
	}
	if c := newFailure(cause).code; c != "signer.internal" {
		t.Errorf("code %s", c)
	}
}

// panicking is a signer with a defect: every call panics with a secret in its hands.
type panicking struct{ Service }

func (panicking) OpenReference(context.Context, string, []byte) (pki.Secret, error) {
	panic(errors.New("canary"))
}

func TestPanicIsAnswered(t *testing.T) {
	var log bytes.Buffer
	path, accepted := served(t, panicking{}, &log)
	c := Dial(path)
	for range 3 {
		_, err := c.OpenReference(t.Context(), "r", nil)
		if pki.CodeOf(err) != "signer.internal" {
			t.Errorf("got %v", err)
		}
	}
	if accepted.Load() != 1 || strings.Contains(log.String(), "canary") || !strings.Contains(log.String(), "errorString") {
		t.Errorf("%d connections, log %s", accepted.Load(), log.String())
	}
}

// listen gives a unix socket whose name is short.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(testkit.ShortDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// served answers calls on a socket, and counts its connections.
func served(t *testing.T, s Service, log io.Writer) (string, *atomic.Int64) {
	t.Helper()
	l := listen(t)
	accepted := new(atomic.Int64)
	go testkit.Accept(l, func(conn net.Conn) {
		accepted.Add(1)
		_ = ServeConn(context.Background(), conn, s, make(chan struct{}, 1), slog.New(slog.NewTextHandler(log, nil)))
	})
	return l.Addr().String(), accepted
}

// unhurried is a signer that has much to do.
type unhurried struct{ Service }

func (unhurried) NewVerifier(context.Context, string, pki.Secret) (Verifier, error) {
	time.Sleep(150 * time.Millisecond)
	return Verifier{}, nil
}

func (unhurried) Info(context.Context) (Info, error) { return Info{Mode: ModeLive}, nil }

// Whoever stands in line behind a signer that works is served, however long the line;
// and is told so where the line does not move.
func TestTurns(t *testing.T) {
	path, _ := served(t, unhurried{}, io.Discard)
	c := Dial(path)
	c.slow, c.callTime = make(chan struct{}, 1), 2*time.Second
	var callers sync.WaitGroup
	for range 20 { // the last one waits for longer than a call may take
		callers.Go(func() {
			_, err := c.NewVerifier(t.Context(), "r", "x")
			if err != nil {
				t.Errorf("in line: %v", err)
			}
		})
	}
	callers.Wait()
	c.slow <- struct{}{}
	c.turnTime = time.Millisecond
	_, err := c.NewVerifier(t.Context(), "r", "x")
	if pki.CodeOf(err) != "signer.silent" {
		t.Errorf("a line that stands: %v", err)
	}
	c.turnTime = time.Second
	for len(c.slots) < cap(c.slots) {
		c.slots <- struct{}{}
	}
	busy := make(chan error)
	go func() {
		_, err := c.NewVerifier(t.Context(), "r", "x")
		busy <- err
	}()
	for told := false; !told; { // others are answered meanwhile
		_, err = c.Info(t.Context()) // stands in no line
		if err != nil {
			t.Fatalf("about itself, beside a line that stands: %v", err)
		}
		select {
		case err = <-busy:
			told = true
		default:
		}
	}
	if pki.CodeOf(err) != "signer.busy" {
		t.Errorf("a long line: %v", err)
	}
}

// A call whose context ends closes its connection: the late answer meets nobody.
func TestCancelledCall(t *testing.T) {
	l := listen(t)
	ended := make(chan error, 2)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, size, err := readHeader(conn)
			if err == nil {
				_, err = readBody(conn, size, frameLimit)
			}
			if err == nil {
				_, _, err = readHeader(conn) // never answers
			}
			ended <- err
		}
	}()
	c := Dial(l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := c.SealReference(ctx, "r", "x")
	if pki.CodeOf(err) != "signer.silent" || strings.Contains(err.Error(), "context") {
		t.Errorf("got %v", err)
	}
	if <-ended == nil {
		t.Error("the connection was used again")
	}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	_, err = c.Info(ctx)
	if !errors.Is(err, context.Canceled) || pki.ClassOf(err) == pki.Busy {
		t.Errorf("a caller who left is told of the signer: %v", err)
	}
}

// mute is a signer that answers nothing about itself until it may, and verifiers at once.
type mute struct {
	Service
	may chan struct{}
}

func (m mute) Info(context.Context) (Info, error) {
	<-m.may
	return Info{Mode: ModeLive}, nil
}

func (mute) NewVerifier(context.Context, string, pki.Secret) (Verifier, error) {
	return Verifier{}, nil
}

// A signer that answers nobody is called silent soon, by whoever looks at it and long
// before a call is given up. One that still answers others is busy, and has time.
func TestSilent(t *testing.T) {
	for name, row := range map[string]struct {
		answers bool // others
		want    string
	}{"hanging": {false, "signer.silent"}, "busy": {true, ""}} {
		t.Run(name, func(t *testing.T) {
			may := make(chan struct{})
			path, _ := served(t, mute{may: may}, io.Discard)
			c := Dial(path)
			c.lookTime, c.callTime = time.Second, time.Hour
			looked := make(chan error)
			go func() {
				_, err := c.Info(t.Context())
				looked <- err
			}()
			var err error
			if row.answers {
				for range 250 { // longer than silence may last, twice
					_, err = c.NewVerifier(t.Context(), "r", "x")
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				close(may)
				err = <-looked
			} else {
				err = <-looked
				close(may)
			}
			if row.want == "" && err != nil || row.want != "" && pki.CodeOf(err) != row.want {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
