package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"inkan/internal/pki"
)

// connect opens the pools and says how many readers there may be.
func (db *DB) connect(ctx context.Context, dsn string) (int, error) {
	scheme, _, _ := strings.Cut(dsn, "://")
	switch scheme {
	case "sqlite":
		return db.connectSQLite(ctx, dsn)
	case "postgres", "postgresql":
		return db.connectPostgres(ctx, dsn)
	}
	return 0, pki.E(pki.Invalid, "store.dsn") // the text itself may hold a password
}

// These belong in code, not in an operator's file. WAL and FULL: a commit is on
// the disk when it is told. secure_delete: a destroyed key leaves no copy in free
// pages (threat CK11). temp_store: no temporary file that could hold one.
var pragmas = []string{
	"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
	"secure_delete(1)", "temp_store(MEMORY)", "trusted_schema(0)",
	// Serials are random: each certificate touches pages all over its indexes. A larger
	// log folds them into the file once for many certificates.
	"wal_autocheckpoint(8000)",
}

// writerCache keeps the upper pages of those indexes in memory (KiB, by SQLite's sign).
const writerCache = "cache_size(-24576)"

func sqliteDSN(path string, more ...string) string {
	query := url.Values{"_pragma": append(append([]string(nil), pragmas...), more...)}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

func (db *DB) connectSQLite(ctx context.Context, dsn string) (int, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" {
		return 0, pki.E(pki.Invalid, "store.dsn")
	}
	err = privateFile(u.Path)
	if err != nil {
		return 0, err
	}
	db.engine = SQLite
	db.queue, err = openQueue(u.Path + "-queue")
	if err != nil {
		return 0, fmt.Errorf("open queue file: %w", err)
	}
	db.write, err = sql.Open("sqlite", sqliteDSN(u.Path, writerCache)+"&_txlock=immediate")
	if err != nil {
		return 0, fmt.Errorf("open database: %w", err)
	}
	db.read, err = sql.Open("sqlite", sqliteDSN(u.Path, "query_only(1)"))
	if err != nil {
		return 0, fmt.Errorf("open database: %w", err)
	}
	db.write.SetMaxOpenConns(2) // the writer's own, and one for migrations and checkpoints
	db.close = func() {
		_ = db.read.Close()
		_ = db.write.Close() // last: the last connection folds the WAL into the file
		db.queue.close()
	}
	err = db.write.PingContext(ctx)
	if err != nil {
		db.close()
		return 0, fmt.Errorf("open database: %w", classify(err))
	}
	return max(4, 2*runtime.GOMAXPROCS(0)), nil
}

// privateFile makes the file with mode 0600 before SQLite would make it with the
// umask's; WAL and shared memory files inherit the mode. An existing database that
// others may read or write, or that is another account's, is refused (threat PL2): what
// root makes beside it, its owner could not open.
func privateFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open database file: %w", err)
	}
	err = f.Close()
	if err != nil {
		return fmt.Errorf("close database file: %w", err)
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-queue"} {
		info, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("stat database file: %w", err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			return pki.E(pki.Forbidden, "store.file_mode").With("File", path+suffix)
		}
		owner := foreignOwner(info)
		if owner != "" {
			return pki.E(pki.Forbidden, "store.file_owner").With("File", path+suffix).With("Owner", owner)
		}
	}
	return nil
}

func (db *DB) connectPostgres(ctx context.Context, dsn string) (int, error) {
	config, err := postgresConfig(dsn)
	if err != nil {
		return 0, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 0, fmt.Errorf("open database: %w", classify(err))
	}
	db.engine = PostgreSQL
	db.write = stdlib.OpenDBFromPool(pool)
	db.read = db.write
	db.close = func() {
		_ = db.write.Close()
		pool.Close()
	}
	err = db.write.PingContext(ctx)
	if err != nil {
		db.close()
		return 0, fmt.Errorf("open database: %w", classify(err))
	}
	return int(config.MaxConns) - 3, nil // writer, migrations, ping
}

// A server whose machine is gone answers nothing at all, where one that merely ended
// refuses: the next host of the DSN has its turn after connectTime, which is short beside
// BatchTime, and a connection on which nothing is acknowledged for silenceTime is given up.
const (
	connectTime = 5 * time.Second
	silenceTime = 20 * time.Second
)

func postgresConfig(dsn string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, pki.E(pki.Invalid, "store.dsn").Because(err) // pgx hides the password
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		config.MaxConns = int32(max(12, 4*runtime.GOMAXPROCS(0)))
	}
	config.MaxConns = max(4, config.MaxConns)
	params := config.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "inkan"
	}
	// A node that stops in the middle of a transaction must not hold the lock of
	// the ledger for ever.
	params["idle_in_transaction_session_timeout"] = "60000"
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTime // of each host
	}
	dialer := &net.Dialer{Control: giveUpAfter(silenceTime),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silenceTime / 2, Interval: silenceTime / 4, Count: 2}}
	config.ConnConfig.DialFunc = dialer.DialContext
	return config, nil
}
