-- +goose Up
-- Applications of the site /p/rcr, until their mail address is confirmed, and the links
-- that are mailed for them.

-- The IDs of requests that look like this one, for the operators who decide (threat AP8).
ALTER TABLE request ADD COLUMN alike TEXT NOT NULL DEFAULT '';

-- An application whose mail address is not confirmed yet: one a flow, the last that was
-- sent from it. The link's token is here as its SHA-256 only; the content goes when it
-- has become a request.
CREATE TABLE draft (
  flow       TEXT   PRIMARY KEY,
  round      BIGINT NOT NULL,
  token_hash TEXT   NOT NULL UNIQUE,
  content    TEXT   NOT NULL,
  language   TEXT   NOT NULL,
  made_at    BIGINT NOT NULL,
  mail_at    BIGINT NOT NULL,
  until      BIGINT NOT NULL,
  request    TEXT   NOT NULL DEFAULT ''
);
CREATE INDEX draft_until ON draft (until);

-- Who has the token sees the details of a request and may withdraw it (threat AP3).
CREATE TABLE status_link (
  token_hash TEXT   PRIMARY KEY,
  request    TEXT   NOT NULL REFERENCES request (id),
  until      BIGINT NOT NULL
);
CREATE INDEX status_link_until ON status_link (until);

-- Mails that anybody can cause, counted by address and day (threat AP4). An address is
-- here as an HMAC under a key that goes with the day.
CREATE TABLE mail_day (
  day TEXT  PRIMARY KEY,
  key BYTEA NOT NULL
);
CREATE TABLE mail_count (
  day  TEXT   NOT NULL REFERENCES mail_day (day),
  tag  TEXT   NOT NULL,
  sent BIGINT NOT NULL,
  PRIMARY KEY (day, tag)
);
