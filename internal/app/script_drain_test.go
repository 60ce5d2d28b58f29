package app_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"inkan/internal/testkit"

	"github.com/rogpeppe/go-internal/testscript"
)

// underway are the requests that scripts have begun, by the script's directory.
var underway sync.Map

const slowBody = "requestId=1&referenceId=2"

// begin: sends a form to the portal but for its last byte, so that the request is under
// way for as long as the script wants.
func begin(ts *testscript.TestScript, _ bool, _ []string) {
	conn, err := tls.Dial("tcp", ts.Getenv("PORTAL"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // the script's own server
	ts.Check(err)
	_, err = fmt.Fprintf(conn, "POST /p/rcd HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		ts.Getenv("PORTAL"), len(slowBody))
	ts.Check(err)
	// The server says 100 when the handler reads the body: now it is under way.
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	ts.Check(err)
	if resp.StatusCode != http.StatusContinue {
		ts.Fatalf("the form was answered early: %s", resp.Status)
	}
	_, err = io.WriteString(conn, slowBody[:len(slowBody)-1])
	ts.Check(err)
	underway.Store(ts.Getenv("WORK"), conn)
}

// finish STATUS: sends the last byte of what was begun, and wants a whole answer.
func finish(ts *testscript.TestScript, _ bool, args []string) {
	kept, _ := underway.LoadAndDelete(ts.Getenv("WORK"))
	conn := kept.(net.Conn)
	defer conn.Close()
	_, err := io.WriteString(conn, slowBody[len(slowBody)-1:])
	ts.Check(err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if fmt.Sprint(resp.StatusCode) != args[0] || !strings.Contains(string(body), "</html>") {
		ts.Fatalf("the request under way ended with %s, %d bytes", resp.Status, len(body))
	}
}

// retryGet STATUS URL [WORDS]: asks until that is the status, and the words are there;
// what is no letter is escaped in them as in Go.
func retryGet(ts *testscript.TestScript, _ bool, args []string) {
	status, url := args[0], args[1]
	words, err := strconv.Unquote(`"` + strings.Join(args[2:], " ") + `"`)
	ts.Check(err)
	until(ts, status+" from "+url, func() bool {
		resp, err := http.DefaultClient.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		ts.Check(err)
		if fmt.Sprint(resp.StatusCode) != status || !strings.Contains(string(body), words) {
			return false
		}
		_, _ = ts.Stdout().Write(body)
		return true
	})
}

// unseen TEXT…: none of it is on the command line or in the environment of a process of
// $I (threat PL7).
func unseen(ts *testscript.TestScript, _ bool, args []string) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	processes := 0
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), ts.Getenv("I")) && !strings.Contains(string(line), "serve\x00--dir\x00inst\x00") {
			continue // gone, or another's
		}
		processes++
		environ, err := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
		if err != nil && !os.IsPermission(err) && !os.IsNotExist(err) {
			ts.Fatalf("environment: %v", err)
		}
		for _, text := range args {
			if strings.Contains(string(line)+string(environ), text) {
				ts.Fatalf("%s shows %q", filepath.Dir(file), text)
			}
		}
	}
	if processes < 2 {
		ts.Fatalf("%d processes, want edge and signer", processes)
	}
}

// gone ADDRESS: nobody listens there any more, soon.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, "nobody at "+args[0], func() bool {
		conn, err := net.Dial("tcp", args[0])
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

// hoard ADDRESS MOST: opens three times as many connections from one source as it may
// have; those over the bound are closed, and another source still gets one.
func hoard(ts *testscript.TestScript, _ bool, args []string) {
	var most int
	_, err := fmt.Sscan(args[1], &most)
	ts.Check(err)
	one := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.3")}}
	closed := make(chan struct{}, 3*most)
	for range 3 * most {
		conn, err := one.Dial("tcp", args[0])
		ts.Check(err)
		defer conn.Close()
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			closed <- struct{}{}
		}()
	}
	for n := range 2 * most {
		select {
		case <-closed:
		case <-time.After(testkit.Patience):
			ts.Fatalf("%d of %d connections were closed, want %d", n, 3*most, 2*most)
		}
	}
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.4")}}
	conn, err := other.Dial("tcp", args[0])
	ts.Check(err)
	defer conn.Close()
	// HTTP in clear is answered by every listener, if only by a refusal.
	_, err = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	ts.Check(err)
	_, err = conn.Read(make([]byte, 1))
	if err != nil {
		ts.Fatalf("another source is not served: %v", err)
	}
}
