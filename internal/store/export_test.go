package store

import (
	"context"
	"database/sql"

	"inkan/internal/store/engine"
)

// What tests of this package may do and nobody else.

func (tx *Tx) Exec(query string, args ...any) (int64, error) { return tx.sql.Exec(query, args...) }

func (tx *Tx) Int(query string, args ...any) (int64, error) {
	var n int64
	err := tx.sql.QueryRow(query, args...).Scan(&n)
	return n, err
}

func (tx *Tx) TreeHash(size int64) ([32]byte, error) { return tx.AuditTreeAt(size) }

// SetParts makes parts small, and gives what makes them what they were.
func SetParts(entries int, records int64) func() {
	wasEntries, wasRecords := joinPart, partRecords
	joinPart, partRecords = entries, records
	return func() { joinPart, partRecords = wasEntries, wasRecords }
}

// Raw goes past everything: what somebody with the database's password could do.
func (db *DB) Raw() *sql.DB {
	write, _ := db.sql.Pools()
	return write
}

// Comparing makes the wanted schema once and gives what compares with it.
func (db *DB) Comparing(ctx context.Context) (func() ([]Difference, error), error) {
	want, made, err := db.wanted(ctx)
	return func() ([]Difference, error) { return db.differ(ctx, want, made) }, err
}

// FailCommit puts f around COMMIT; call it while nothing is being written.
func (db *DB) FailCommit(f func(do func() error) error) { db.commit = f }

const (
	MaxBatch          = engine.MaxBatch
	LostIntentsQuery  = lostIntents
	StraysQuery       = strays
	OtherIntentsQuery = otherIntents
	BatchTime         = engine.BatchTime
)

// LostRowsQuery is put together from the tables.
var LostRowsQuery = lostRows
