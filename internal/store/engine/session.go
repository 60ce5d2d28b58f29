package engine

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
)

var numbered = regexp.MustCompile(`\$[0-9]+`)

// unnamed writes ? for $1, $2 … where each stands once and in order. To SQLite $1 is a
// name, and the driver asks for the name of every parameter at every use: of 640 in a
// row that takes longer than the insert.
func unnamed(query string) string {
	n := 0
	inOrder := true
	out := numbered.ReplaceAllStringFunc(query, func(name string) string {
		n++
		inOrder = inOrder && name == "$"+strconv.Itoa(n)
		return "?"
	})
	if !inOrder {
		return query
	}
	return out
}

// session is one connection, made when first needed, with the statements prepared
// on it. database/sql would compile a SQLite statement anew at each use; pgx keeps
// a cache of its own.
type session struct {
	pool     *sql.DB
	prepared bool
	sent     *atomic.Int64 // statements, over all sessions
	conn     *sql.Conn
	stmts    map[string]*sql.Stmt
	pipe     pipe
}

// maxStatements bounds the cache: list filters make texts of their own.
const maxStatements = 512

func (s *session) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.conn, s.stmts = conn, map[string]*sql.Stmt{}
	return nil
}

// drop closes the connection for good, whatever it was doing: after an error
// nobody knows whether a transaction is still open on it.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	for _, stmt := range s.stmts {
		_ = stmt.Close()
	}
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
	s.conn, s.stmts = nil, nil
	s.pipe.clear()
}

// begin runs the statement that opens a transaction; a connection that went stale
// while it was idle is replaced once.
func (s *session) begin(ctx context.Context, statement string) error {
	fresh := s.conn == nil
	for {
		err := s.connect(ctx)
		if err != nil {
			return err
		}
		_, err = s.exec(ctx, statement)
		if err == nil {
			return nil
		}
		s.drop()
		if fresh || ctx.Err() != nil {
			return fmt.Errorf("begin: %w", err)
		}
		fresh = true
	}
}

func (s *session) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	err := s.flush(ctx)
	if err != nil {
		return nil, err
	}
	s.sent.Add(1)
	if !s.prepared {
		return s.conn.ExecContext(ctx, query, args...)
	}
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

func (s *session) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	err := s.flush(ctx)
	if err != nil {
		return nil, err
	}
	s.sent.Add(1)
	if !s.prepared {
		return s.conn.QueryContext(ctx, query, args...)
	}
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (s *session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	stmt, ok := s.stmts[query]
	if ok {
		return stmt, nil
	}
	if len(s.stmts) >= maxStatements {
		for _, old := range s.stmts {
			_ = old.Close()
		}
		clear(s.stmts)
	}
	stmt, err := s.conn.PrepareContext(ctx, unnamed(query))
	if err != nil {
		return nil, err
	}
	s.stmts[query] = stmt
	return stmt, nil
}

// RowsOf writes n rows of placeholders: ($1, $2), ($3, $4).
func RowsOf(n, columns int) string {
	var b strings.Builder
	for i := range n * columns {
		switch {
		case i%columns != 0:
			b.WriteString(", ")
		case i > 0:
			b.WriteString("), (")
		default:
			b.WriteString("(")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String() + ")"
}
