package kill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"inkan/internal/keystore"
)

// process is a part of the program that runs.
type process struct {
	cmd   *exec.Cmd
	group int
	done  chan struct{} // closed when it is gone
}

func killed(s *os.ProcessState) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// start starts a part, in a process group: 0 for a new one.
func (p *plant) start(group int, args ...string) (*process, error) {
	s := &process{cmd: exec.Command(p.bin, append(args, "--dir", p.dir)...), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = p.log, p.log
	s.cmd.Env = append(os.Environ(), "INKAN_CRASH="+p.armed)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel's "parent" of Pdeathsig is a thread: keep it
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // how it ended is in the ProcessState
			close(s.done)
		}
	}()
	err := <-started
	s.group = group
	if err == nil && group == 0 {
		s.group = s.cmd.Process.Pid
	}
	return s, err
}

// join lets a command run in the group of the signer, so that a point can kill all.
func (p *plant) join(cmd *exec.Cmd) {
	cmd.Env = append(os.Environ(), "INKAN_CRASH="+p.armed)
	if !p.signer.gone() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: p.signer.group}
	}
}

func (s *process) gone() bool {
	if s == nil {
		return true
	}
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *process) kill() {
	if !s.gone() {
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

func (p *plant) stop() {
	p.serve.kill()
	p.signer.kill()
	p.serve, p.signer = nil, nil
}

// arm makes a point deadly; all: for the whole group.
func (p *plant) arm(point string, all bool) error {
	if all {
		return p.armFor(point, "all")
	}
	return p.armFor(point, "")
}

// armFor says whom a point strikes, see internal/crash.
func (p *plant) armFor(point, whom string) error {
	p.note("armed: %s, %s", point, whom)
	p.struck = false
	if whom != "" {
		point += "\n" + whom
	}
	err := os.WriteFile(p.armed+".new", []byte(point), 0o600)
	if err != nil {
		return err
	}
	return os.Rename(p.armed+".new", p.armed)
}

// fired waits until a process has taken the arming away and died of it.
func (p *plant) fired(all bool) error {
	err := eventually(20*time.Second, func() error {
		_, err := os.Lstat(p.armed)
		if err == nil {
			return errors.New("nobody came to this point")
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, os.Remove(p.armed))
	}
	return eventually(10*time.Second, func() error {
		switch {
		case all && !(p.serve.gone() && p.signer.gone()), !p.serve.gone() && !p.signer.gone() && !p.struck:
			return errors.New("the point was taken, but nobody died")
		case p.serve.gone() && !killed(p.serve.cmd.ProcessState), p.signer.gone() && !killed(p.signer.cmd.ProcessState):
			return errors.New("a process ended by itself instead of being killed")
		}
		return nil
	})
}

// revive starts what is dead. A command that was killed is an edge as serve is: that
// dies, too, so that its next start finishes what the command left.
func (p *plant) revive() error {
	p.note("revive: a command died %v, serve %v, signer %v", p.struck, p.serve.gone(), p.signer.gone())
	if p.struck {
		p.serve.kill()
	}
	var err error
	if p.signer.gone() && !p.child {
		p.signer, err = p.start(0, "signer")
		if err != nil {
			return err
		}
		err = p.await(p.signer, p.answers)
	}
	if err == nil && p.serve.gone() {
		err = p.startServe()
		if err == nil {
			err = p.await(p.serve, p.live)
		}
	}
	return err
}

func (p *plant) startServe() error {
	group := 0
	if p.signer != nil {
		group = p.signer.group
	}
	var err error
	p.serve, err = p.start(group, "serve")
	return err
}

// restart starts serve anew without waiting for it: it may be about to die.
func (p *plant) restart() error {
	p.serve.kill()
	return p.startServe()
}

// oneGroup brings serve into the group of the signer.
func (p *plant) oneGroup() error {
	if p.serve == nil || p.serve.group == p.signer.group {
		return nil
	}
	p.serve.kill()
	return p.revive()
}

func (p *plant) await(s *process, ready func() bool) error {
	for range 3000 {
		switch {
		case ready():
			return nil
		case s.gone():
			return fmt.Errorf("%s ended at its start: %v", s.cmd.Args[1], s.cmd.ProcessState)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not come up", s.cmd.Args[1])
}

// answers says whether the signer does.
func (p *plant) answers() bool {
	c := keystore.Dial(filepath.Join(p.dir, "signer.sock"))
	defer func() { _ = c.Close() }()
	_, err := c.Info(context.Background())
	return err == nil
}

// eventually waits until there is no error any more, and gives the last one.
func eventually(limit time.Duration, try func() error) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil || time.Since(began) > limit {
			return err
		}
	}
}

func (p *plant) note(format string, args ...any) {
	_, _ = fmt.Fprintf(p.log, "--- %s "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}
