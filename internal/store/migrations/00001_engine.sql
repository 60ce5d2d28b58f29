-- +goose Up
-- One text for both engines: TEXT, BIGINT, BYTEA, BOOLEAN. Times are µs, UTC.

CREATE TABLE audit (
	idx BIGINT PRIMARY KEY,
	at BIGINT NOT NULL,
	actor TEXT NOT NULL,
	auth TEXT NOT NULL,
	kind TEXT NOT NULL,
	subject TEXT NOT NULL,
	digest BYTEA NOT NULL,
	leaf BYTEA NOT NULL,
	salt BYTEA,
	body BYTEA
);
CREATE INDEX audit_subject ON audit (subject, idx);

-- Inner nodes of the tree by their index in golang.org/x/mod/sumdb/tlog. Leaves are in audit.
CREATE TABLE audit_hash (
	idx BIGINT PRIMARY KEY,
	hash BYTEA NOT NULL
);

-- One row: the size and root of the tree, and the time of the last transaction. Every
-- writing transaction locks it first, so commits have one order over all nodes.
CREATE TABLE audit_tree (
	id BIGINT PRIMARY KEY CHECK (id = 1),
	size BIGINT NOT NULL,
	root BYTEA NOT NULL,
	last_at BIGINT NOT NULL
);

-- The signed notes by the numbers that the signer gave them, without a gap.
CREATE TABLE checkpoint (
	number BIGINT PRIMARY KEY,
	size BIGINT NOT NULL,
	note BYTEA NOT NULL,
	at BIGINT NOT NULL
);
