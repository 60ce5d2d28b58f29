-- +goose Up
-- The account of the operating system that proves an operator (threat CO1); os_user '' = none.
ALTER TABLE operator ADD COLUMN os_user TEXT NOT NULL DEFAULT '';
ALTER TABLE operator ADD COLUMN os_uid BIGINT NOT NULL DEFAULT 0;
-- An account is one operator's at a time.
CREATE UNIQUE INDEX operator_account ON operator (os_uid) WHERE os_user <> '' AND disabled_at = 0;
