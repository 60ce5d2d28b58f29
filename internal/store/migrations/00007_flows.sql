-- +goose Up
-- Renewals, and the flows of the holders' pages.

-- A renewal whose certificate was revoked does not stand in the way of another one.
ALTER TABLE request ADD COLUMN closed_at BIGINT NOT NULL DEFAULT 0;
DROP INDEX request_open_renewal;
CREATE UNIQUE INDEX request_open_renewal ON request (predecessor)
  WHERE predecessor <> '' AND closed_at = 0 AND state NOT IN ('rejected', 'cancelled');
CREATE INDEX request_predecessor ON request (predecessor, id) WHERE predecessor <> '';

-- A person's way through a sequence of pages: what was typed so far and which page
-- comes next. Never a secret.
CREATE TABLE flow (
  id      TEXT   PRIMARY KEY,
  kind    TEXT   NOT NULL,
  owner   BYTEA  NOT NULL,  -- SHA-256 of who began it: zone, browser, certificate
  subject TEXT   NOT NULL,
  step    TEXT   NOT NULL,
  facts   TEXT   NOT NULL,
  seen_at BIGINT NOT NULL,
  until   BIGINT NOT NULL
);
CREATE INDEX flow_until ON flow (until);
