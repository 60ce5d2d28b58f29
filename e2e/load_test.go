package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// line is one connection of a load generator. It sends requests that were written
// ahead and reads the answers, and does nothing else: on the same machine, what it
// costs is taken from what it loads.
type line struct {
	net.Conn
	in *bufio.Reader
}

// dialLine connects; config is nil for plain http.
func dialLine(address string, config *tls.Config) (*line, error) {
	var c net.Conn
	var err error
	if config == nil {
		c, err = net.Dial("tcp", address)
	} else {
		c, err = tls.Dial("tcp", address, config)
	}
	if err != nil {
		return nil, err
	}
	return &line{c, bufio.NewReaderSize(c, 16<<10)}, nil
}

// lines are the connections of one load. One source may have only so many open, so they
// end with it.
type lines []*line

func (all *lines) dial(address string, config *tls.Config) (*line, error) {
	l, err := dialLine(address, config)
	if err == nil {
		*all = append(*all, l)
	}
	return l, err
}

func (all *lines) close() {
	for _, l := range *all {
		_ = l.Close()
	}
}

// roundTrip gives status and body of the answer; the body only if it is wanted.
func (l *line) roundTrip(request []byte, want bool) (int, []byte, error) {
	_, err := l.Write(request)
	if err != nil {
		return 0, nil, err
	}
	status, length := 0, -1
	for {
		row, err := l.in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		row = bytes.TrimRight(row, "\r\n")
		switch {
		case status == 0 && len(row) > 12:
			status, err = strconv.Atoi(string(row[9:12]))
			if err != nil {
				return 0, nil, textproto.ProtocolError("status line")
			}
		case bytes.HasPrefix(row, []byte("Content-Length: ")):
			length, err = strconv.Atoi(string(row[16:]))
			if err != nil {
				return 0, nil, textproto.ProtocolError("length")
			}
		}
		if len(row) == 0 {
			break
		}
	}
	if length < 0 {
		return 0, nil, errors.New("answer without a length")
	}
	if !want {
		_, err = l.in.Discard(length)
		return status, nil, err
	}
	body := make([]byte, length)
	_, err = io.ReadFull(l.in, body)
	return status, body, err
}

// request writes an HTTP request.
func request(method, host, path, contentType string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// rate is what a load gave.
type rate struct {
	count     int
	perSecond float64
	median    time.Duration
	p99       time.Duration
}

// load has workers call do for a while: the n-th call of all gets n. Every error ends
// the test.
func load(t testing.TB, workers int, lasts time.Duration, prepare func(worker int) (func(n int64) error, error)) rate {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	took := make([][]time.Duration, workers)
	steps := make([]func(int64) error, workers)
	for w := range workers {
		var err error
		steps[w], err = prepare(w)
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	for w := range workers {
		wg.Go(func() {
			for time.Since(began) < lasts {
				from := time.Now()
				err := steps[w](next.Add(1) - 1)
				if errors.Is(err, errEnough) {
					return
				}
				if err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				took[w] = append(took[w], time.Since(from))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took...)
	if len(all) == 0 {
		t.Fatal("nothing was done")
	}
	slices.Sort(all)
	return rate{len(all), float64(len(all)) / time.Since(began).Seconds(), all[len(all)/2], all[len(all)*99/100]}
}

// turn is one of several in which a load and what it is held against ran one after the
// other: the speed of a shared machine changes within seconds.
type turn struct{ limit, got rate }

func (u turn) share() float64 { return u.got.perSecond / u.limit.perSecond }

// inTurns gives the turn in the middle by its share.
func inTurns(n int, limit, got func() rate) turn {
	all := make([]turn, n)
	for i := range all {
		all[i].limit = limit()
		all[i].got = got()
	}
	slices.SortFunc(all, func(a, b turn) int { return cmp.Compare(a.share(), b.share()) })
	return all[n/2]
}

// errEnough ends a worker that has nothing left to do.
var errEnough = errors.New("enough")
