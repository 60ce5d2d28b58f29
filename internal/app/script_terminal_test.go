package app_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// typed runs inkan at a terminal of its own, as a person with an account would, and types
// the first argument when a question stands there. What the terminal showed is the file
// "terminal" afterwards. `! typed` wants exit code 1.
func typed(ts *testscript.TestScript, neg bool, args []string) {
	person, slave, err := openTerminal()
	ts.Check(err)
	defer person.Close()
	line := append(append([]string{}, args[2:]...), "--dir", ts.Getenv("I"))
	line = append(line, proof(ts.Getenv("I"), args[1])...)
	cmd := exec.Command("inkan", line...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	err = cmd.Start()
	slave.Close()
	ts.Check(err)
	hang := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer hang.Stop()
	var seen bytes.Buffer
	answered := false
	b := make([]byte, 4096)
	for {
		n, err := person.Read(b) // EIO when the program has ended
		seen.Write(b[:n])
		if err != nil {
			break
		}
		if !answered && strings.HasSuffix(seen.String(), ": ") {
			answered = true
			_, err = io.WriteString(person, args[0]+"\n")
			ts.Check(err)
		}
	}
	err = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("terminal"), bytes.ReplaceAll(seen.Bytes(), []byte("\r\n"), []byte("\n")), 0o600))
	if !answered {
		ts.Fatalf("nothing was asked: %s", seen.String())
	}
	want := 0
	if neg {
		want = 1
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("inkan ended with %v, want exit code %d: %s", err, want, seen.String())
	}
}

// openTerminal makes a pseudo-terminal: the person's end and the program's.
func openTerminal() (*os.File, *os.File, error) {
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return nil, nil, err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	return person, slave, err
}
