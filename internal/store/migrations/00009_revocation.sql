-- +goose Up
-- Cases of revocation (失効申請): what holders ask for, and holds of which officers decide.
CREATE TABLE revocation (
  id           TEXT   PRIMARY KEY,
  flow         TEXT   NOT NULL,
  serial       TEXT   NOT NULL REFERENCES certificate (serial),
  request      TEXT   NOT NULL,
  proof        TEXT   NOT NULL CHECK (proof IN ('letter', 'certificate', 'officer', 'chain')),
  asked_by     TEXT   NOT NULL,
  reason       BIGINT NOT NULL,
  email        TEXT   NOT NULL,
  language     TEXT   NOT NULL,
  state        TEXT   NOT NULL CHECK (state IN ('received', 'revoked', 'rejected', 'lifted')),
  received_at  BIGINT NOT NULL,
  held_at      BIGINT NOT NULL,
  proposed_by  TEXT   NOT NULL DEFAULT '',
  proposed_at  BIGINT NOT NULL DEFAULT 0,
  decided_by   TEXT   NOT NULL DEFAULT '',
  decided_at   BIGINT NOT NULL DEFAULT 0,
  published_at BIGINT NOT NULL DEFAULT 0,
  -- Invariant 8, as the database sees it: what was asked for is undone by two others; what an
  -- officer placed by two, of whom he may be one (ADR 170).
  CONSTRAINT revocation_first CHECK (proposed_by = '' OR proposed_by <> asked_by OR proof IN ('officer', 'chain')),
  CONSTRAINT revocation_second CHECK (state NOT IN ('rejected', 'lifted') OR (proposed_by <> '' AND decided_by NOT IN ('', proposed_by)
    AND (decided_by <> asked_by OR proof IN ('officer', 'chain')))),
  CHECK ((state = 'received') = (decided_by = ''))
);
CREATE UNIQUE INDEX revocation_flow ON revocation (flow) WHERE flow <> '';
CREATE INDEX revocation_state ON revocation (state, id);
CREATE INDEX revocation_serial ON revocation (serial, state);
CREATE INDEX revocation_holds ON revocation (held_at) WHERE held_at <> 0 AND proof = 'letter';
CREATE INDEX revocation_unpublished ON revocation (decided_at) WHERE state = 'revoked' AND published_at = 0;
