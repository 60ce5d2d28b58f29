package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"inkan/internal/testkit"
)

// postgres is a PostgreSQL of a test's own, which it may kill. It listens on a unix
// socket alone.
type postgres struct {
	name, dir, bin, user string
	credential           *syscall.Credential
	process              *exec.Cmd // nil while it is down
}

func newPostgres(t *testing.T, name string) *postgres {
	t.Helper()
	initdb := testkit.Find("initdb", "/usr/lib/postgresql/*/bin")
	if initdb == "" {
		testkit.Missing(t, "PostgreSQL; scripts/setup-tests.sh installs it")
	}
	s := &postgres{name: name, bin: filepath.Dir(initdb)}
	var err error
	s.dir, err = os.MkdirTemp("/tmp", "inkan-ha-") // short, as a socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	// Of the whole test: what a part of it starts anew must outlive that part.
	t.Cleanup(func() {
		if s.process != nil {
			s.kill(t)
		}
		_ = os.RemoveAll(s.dir)
	})
	who, err := user.Current()
	if err == nil && who.Uid == "0" { // PostgreSQL refuses to run as root
		who, err = user.Lookup("postgres")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.user = who.Username
	if os.Getuid() == 0 {
		uid, _ := strconv.ParseUint(who.Uid, 10, 32)
		gid, _ := strconv.ParseUint(who.Gid, 10, 32)
		s.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		err = os.Chown(s.dir, int(uid), int(gid))
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *postgres) data() string { return filepath.Join(s.dir, "data") }

func (s *postgres) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential, Setpgid: true}
	return cmd
}

func (s *postgres) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := s.command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

func (s *postgres) sql(t *testing.T, statement string) string {
	t.Helper()
	return s.run(t, "psql", "-h", s.dir, "-d", "postgres", "-qtAX", "-c", statement)
}

func (s *postgres) initialise(t *testing.T) {
	t.Helper()
	s.run(t, "initdb", "-D", s.data(), "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
}

// feeds makes another server the standby of this one, and has every commit wait until
// that standby has it on its disk.
func (s *postgres) feeds(t *testing.T, standby *postgres) {
	t.Helper()
	from := fmt.Sprintf("host=%s user=%s application_name=%s", s.dir, s.user, standby.name)
	standby.run(t, "pg_basebackup", "-D", standby.data(), "-R", "-C", "-S", standby.name, "-d", from, "--checkpoint=fast", "--no-sync")
	standby.start(t)
	s.sql(t, fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", standby.name))
	s.sql(t, "SELECT pg_reload_conf()")
	s.awaitsStandby(t)
}

// awaitsStandby waits until the standby's word counts: from then on no commit is
// acknowledged without it.
func (s *postgres) awaitsStandby(t *testing.T) {
	t.Helper()
	testkit.Await(t, "synchronous standby", func() bool {
		return strings.TrimSpace(s.sql(t, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'")) == "1"
	})
}

// start starts the server and waits until it answers.
func (s *postgres) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.process = s.command("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB")
	s.process.Stdout, s.process.Stderr = log, log
	err = s.process.Start()
	if err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "PostgreSQL", func() bool { return s.command("pg_isready", "-q", "-h", s.dir).Run() == nil })
}

// kill ends the server as pg_ctl stop -m immediate does: nothing is finished, and the
// next start has to recover.
func (s *postgres) kill(t *testing.T) {
	t.Helper()
	err := s.process.Process.Signal(syscall.SIGQUIT)
	if err != nil {
		t.Error(err)
	}
	_ = s.process.Wait() // it ends with a complaint
	s.process = nil
}
