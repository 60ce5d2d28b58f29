package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"inkan/internal/pki"
)

// pipe holds statements whose outcome their closure need not know at once. They are
// sent together, in their order, before anything else is: on PostgreSQL each statement
// costs a way there and back, all the while the row of the ledger is locked.
type pipe struct {
	open   bool // statements may wait
	queue  []waitingStatement
	failed bool // some closure was told that a statement did what it did not
}

type waitingStatement struct {
	what  string
	query string
	args  []any
	rows  int64 // that it must change; any number where it is negative
}

func (p *pipe) clear() { *p = pipe{} }

// check says whether a statement changed as many rows as it must.
func (w waitingStatement) check(n int64) error {
	if w.rows >= 0 && n != w.rows {
		return pki.ErrConflict.Because(errors.New(w.what + ": the row is not as it was seen"))
	}
	return nil
}

// flush sends what waits. After an error the transaction is of no use, and closures
// that returned without one have to run again.
func (s *session) flush(ctx context.Context) error {
	queue := s.pipe.queue
	if len(queue) == 0 {
		return nil
	}
	s.pipe.queue = nil
	s.sent.Add(int64(len(queue)))
	var b pgx.Batch
	for _, w := range queue {
		b.Queue(w.query, w.args...)
	}
	err := s.conn.Raw(func(c any) error {
		results := c.(*stdlib.Conn).Conn().SendBatch(ctx, &b)
		for _, w := range queue {
			tag, err := results.Exec()
			if err == nil {
				err = w.check(tag.RowsAffected())
			}
			if err != nil {
				return errors.Join(fmt.Errorf("%s: %w", w.what, classify(err)), results.Close())
			}
		}
		return results.Close()
	})
	s.pipe.failed = s.pipe.failed || err != nil
	return err
}
