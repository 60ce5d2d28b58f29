package engine

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"inkan/internal/pki"
)

// What the engines say, in our words. store.guard is a refusal by
// the guards of the tables: a rule above let something pass that must never be.
var (
	ErrBusy  = pki.E(pki.Busy, "store.busy")
	ErrFull  = pki.E(pki.Busy, "store.full")
	ErrGuard = pki.E(pki.Forbidden, "store.guard")
)

// Error says what was being done; nil stays nil. pki.ErrConflict: a unique key
// exists already. pki.ErrNotFound: no row.
func Error(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, classify(err))
}

// classify gives an engine's error a class, by its code and never by its text.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*pki.Error](err); ours {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return pki.ErrNotFound
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return classifySQLite(e, err)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyPostgres(e, err)
	}
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case connect, network, errors.Is(err, driver.ErrBadConn), errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err), pgconn.SafeToRetry(err):
		return ErrBusy.Because(err)
	}
	return err
}

func classifySQLite(e *sqlite.Error, err error) error {
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return pki.ErrConflict.Because(err)
	case sqlite3.SQLITE_CONSTRAINT_TRIGGER:
		return ErrGuard.Because(err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY: // the disk or another process; both may heal
		return ErrBusy.Because(err)
	case sqlite3.SQLITE_FULL:
		return ErrFull.Because(err)
	}
	return err
}

// guardState is the SQLSTATE that the guards raise on PostgreSQL.
const guardState = "IK001"

func classifyPostgres(e *pgconn.PgError, err error) error {
	switch e.Code {
	case "23505":
		return pki.ErrConflict.Because(err)
	case guardState:
		return ErrGuard.Because(err)
	case "53100":
		return ErrFull.Because(err)
	case "40001", "40P01", "55P03", "25006": // serialization, deadlock, lock, read-only after a failover
		return ErrBusy.Because(err)
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "53", "57": // connection, resources, shut down or cancelled
		return ErrBusy.Because(err)
	}
	return err
}
