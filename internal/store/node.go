package store

import "time"

// Node is one running process (serve) on the database.
type Node struct {
	ID        string // drawn anew at each start
	Host      string
	Version   string
	StartedAt time.Time
	BeatAt    time.Time
	TreeSize  int64 // of the audit tree at the beat
	TreeRoot  []byte
}

// Beat records that a node lives, with the tree it saw (threats ST7, AU9).
func (tx *Tx) Beat(n Node) error {
	size, root, err := tx.AuditTree()
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO node (id, host, version, started_at, beat_at, tree_size, tree_root) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, tree_size = excluded.tree_size, tree_root = excluded.tree_root`,
		n.ID, n.Host, n.Version, micros(n.StartedAt), micros(tx.Now), size, root[:])
	return dbError("record heartbeat", err)
}

// Nodes lists the nodes, the freshest first.
func (tx *Tx) Nodes() ([]Node, error) {
	rows, err := tx.query(`SELECT id, host, version, started_at, beat_at, tree_size, tree_root FROM node ORDER BY beat_at DESC, id`)
	if err != nil {
		return nil, dbError("list nodes", err)
	}
	return collect(rows, func(row interface{ Scan(...any) error }) (Node, error) {
		var n Node
		var started, beat int64
		err := row.Scan(&n.ID, &n.Host, &n.Version, &started, &beat, &n.TreeSize, &n.TreeRoot)
		n.StartedAt, n.BeatAt = fromMicros(started), fromMicros(beat)
		return n, err
	})
}

// ForgetNodes deletes nodes that have not been heard of since.
func (tx *Tx) ForgetNodes(since time.Time) error {
	_, err := tx.exec(`DELETE FROM node WHERE beat_at < $1`, micros(since))
	return dbError("forget nodes", err)
}
