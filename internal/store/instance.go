package store

import (
	"time"

	"inkan/internal/store/engine"
)

var instanceTables = []table{
	{name: "instance", key: "uuid", only: " AND id = 1", told: []string{"instance.made"}, guards: []guard{
		{name: "instance_stays", before: "UPDATE", says: "the instance does not change"},
		{name: "instance_keep", before: "DELETE", says: "the instance does not change"},
	}},
}

// Instance says which instance this database belongs to. It is written once.
type Instance struct {
	UUID string
	Mode string // demo or live; never changes (threat PL1)

	Created time.Time // filled by Instance
}

// AddInstance writes the instance row; pki.ErrConflict when there is one.
func (tx *Tx) AddInstance(i Instance) error {
	_, err := tx.sql.Exec(`INSERT INTO instance (id, uuid, mode, created_at) VALUES (1, $1, $2, $3)`, i.UUID, i.Mode, engine.Micros(tx.Now))
	return engine.Error("add instance", err)
}

// Instance reads the instance row; pki.ErrNotFound before init.
func (tx *Tx) Instance() (Instance, error) {
	var i Instance
	var created int64
	err := tx.sql.QueryRow(`SELECT uuid, mode, created_at FROM instance WHERE id = 1`).Scan(&i.UUID, &i.Mode, &created)
	i.Created = engine.FromMicros(created)
	return i, engine.Error("read instance", err)
}
