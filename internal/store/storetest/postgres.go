package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/internal/testkit"

	"github.com/jackc/pgx/v5"
)

// postgres is a PostgreSQL server on a unix socket, with no TCP port.
type postgres struct {
	socket string
	user   string
	mu     sync.Mutex
}

func (s *postgres) dsn(database string) string {
	q := url.Values{"host": {s.socket}, "user": {s.user}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + q.Encode()
}

var errNoPostgres = errors.New("no PostgreSQL server programs found; install them with: apt-get install postgresql")

// server gives the PostgreSQL of this test process. Without one the test is
// skipped, but fails in CI.
func server(t testing.TB) *postgres {
	t.Helper()
	s, err := start()
	if errors.Is(err, errNoPostgres) {
		testkit.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	return s
}

// The script waits for the end of its input: that is the end of this process,
// however it ends. Then it stops the server and removes the directory.
const script = `
"$1/initdb" -D "$2/data" -A trust -E UTF8 --locale=C --no-sync >"$2/initdb.log" 2>&1 || exit 1
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync="$3" -c full_page_writes="$3" \
	-c max_connections=300 -c shared_buffers=64MB >"$2/server.log" 2>&1 &
cat >/dev/null
kill -QUIT $!
wait $!
rm -rf "$2"
`

var start = sync.OnceValues(func() (*postgres, error) {
	initdb := testkit.Find("initdb", "/usr/lib/postgresql/*/bin")
	if initdb == "" {
		return nil, errNoPostgres
	}
	// Short, because a socket's path is at most 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "inkan-pg-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	fsync := "off"
	if os.Getenv("INKAN_TEST_FSYNC") != "" { // for benchmarks
		fsync = "on"
	}
	cmd := exec.Command("/bin/sh", "-c", script, "postgres-of-test", filepath.Dir(initdb), dir, fsync)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is ours to handle
	who, err := unprivileged(cmd, dir)
	if err != nil {
		return nil, err
	}
	_, err = cmd.StdinPipe() // open as long as this process lives
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	err = cmd.Start()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s := &postgres{socket: dir, user: who}
	return s, s.await(ended)
})

// unprivileged lets the command run as the user postgres where we are root:
// PostgreSQL refuses to run as root.
func unprivileged(cmd *exec.Cmd, dir string) (string, error) {
	if os.Getuid() != 0 {
		me, err := user.Current()
		if err != nil {
			return "", fmt.Errorf("look up user: %w", err)
		}
		return me.Username, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return "", fmt.Errorf("look up user postgres: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return "", fmt.Errorf("read uid: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return "", fmt.Errorf("read gid: %w", err)
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return u.Username, os.Chown(dir, int(uid), int(gid))
}

// await waits until the server answers, or has ended.
func (s *postgres) await(ended <-chan error) error {
	var failure error
	answers := testkit.Soon(func() bool {
		select {
		case end := <-ended:
			log, _ := os.ReadFile(filepath.Join(s.socket, "initdb.log"))
			failure = fmt.Errorf("server ended: %v: %s", end, log)
			return true
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.dsn("postgres"))
		return err == nil && conn.Close(ctx) == nil
	})
	if !answers {
		return errors.New("server does not answer")
	}
	return failure
}
