-- +goose Up
-- The office: holders, requests, keys, certificates, revocations, operators, grants.
-- One text for SQLite and PostgreSQL. Times are microseconds since 1970 in UTC, 0 = never.

CREATE TABLE instance (
  id         BIGINT PRIMARY KEY CHECK (id = 1),
  uuid       TEXT   NOT NULL,
  mode       TEXT   NOT NULL CHECK (mode IN ('demo', 'live')),
  created_at BIGINT NOT NULL
);

CREATE TABLE holder (
  kind       TEXT   NOT NULL,
  code       TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (kind, code)
);

CREATE TABLE day_sequence (
  day  TEXT   PRIMARY KEY,
  last BIGINT NOT NULL
);

CREATE TABLE operator (
  id          TEXT   PRIMARY KEY,
  name        TEXT   NOT NULL,
  cert_sha256 TEXT   NOT NULL UNIQUE,
  created_at  BIGINT NOT NULL,
  disabled_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE operator_role (
  operator TEXT NOT NULL REFERENCES operator (id),
  role     TEXT NOT NULL,
  PRIMARY KEY (operator, role)
);

-- Pairs that one operator never holds together; a trigger of the guards holds it.
CREATE TABLE role_conflict (
  role  TEXT NOT NULL,
  other TEXT NOT NULL,
  PRIMARY KEY (role, other)
);
INSERT INTO role_conflict (role, other) VALUES
  ('approver', 'letters'), ('letters', 'approver'),
  ('intake', 'letters'), ('letters', 'intake');

CREATE TABLE statement (
  nonce    TEXT   PRIMARY KEY,
  operator TEXT   NOT NULL REFERENCES operator (id),
  at       BIGINT NOT NULL
);

CREATE TABLE api_client (
  id          TEXT   PRIMARY KEY,
  name        TEXT   NOT NULL,
  cert_sha256 TEXT   NOT NULL UNIQUE,
  role        TEXT   NOT NULL,
  created_at  BIGINT NOT NULL,
  disabled_at BIGINT NOT NULL DEFAULT 0
);

-- "grant" is a word of SQL.
CREATE TABLE issue_grant (
  id          TEXT   PRIMARY KEY,
  client      TEXT   NOT NULL REFERENCES api_client (id),
  kinds       TEXT   NOT NULL,
  prefectures TEXT   NOT NULL,
  per_day     BIGINT NOT NULL,
  total       BIGINT NOT NULL,
  used        BIGINT NOT NULL DEFAULT 0,
  used_today  BIGINT NOT NULL DEFAULT 0,
  today       TEXT   NOT NULL DEFAULT '',
  ends_at     BIGINT NOT NULL,
  made_by     TEXT   NOT NULL,
  approved_by TEXT   NOT NULL DEFAULT '' CHECK (approved_by = '' OR approved_by <> made_by),
  revoked_at  BIGINT NOT NULL DEFAULT 0,
  CHECK (used <= total)
);

CREATE TABLE request (
  id                TEXT   PRIMARY KEY,
  kind              TEXT   NOT NULL,
  source            TEXT   NOT NULL,
  state             TEXT   NOT NULL,
  holder_kind       TEXT   NOT NULL,
  holder_code       TEXT   NOT NULL,
  terminal_name     TEXT   NOT NULL,
  email             TEXT   NOT NULL,
  maintenance_email TEXT   NOT NULL,
  department        TEXT   NOT NULL,
  phone             TEXT   NOT NULL,
  payment_method    BIGINT NOT NULL,
  csr               BYTEA,
  content_hash      TEXT   NOT NULL,
  entered_by        TEXT   NOT NULL,
  checked_by        TEXT   NOT NULL DEFAULT '',
  approved_by       TEXT   NOT NULL DEFAULT '',
  grant_id          TEXT   NOT NULL DEFAULT '',
  client_id         TEXT   NOT NULL DEFAULT '',
  idempotency       TEXT   NOT NULL DEFAULT '',
  profile           TEXT   NOT NULL,
  key_type          TEXT   NOT NULL,
  predecessor       TEXT   NOT NULL DEFAULT '',
  serial            TEXT   NOT NULL DEFAULT '',
  failure           TEXT   NOT NULL DEFAULT '',
  language          TEXT   NOT NULL DEFAULT 'ja',
  received_at       BIGINT NOT NULL,
  changed_at        BIGINT NOT NULL,
  approved_at       BIGINT NOT NULL DEFAULT 0,
  issued_at         BIGINT NOT NULL DEFAULT 0,
  not_before        BIGINT NOT NULL DEFAULT 0,
  dispatched_at     BIGINT NOT NULL DEFAULT 0,
  downloads_until   BIGINT NOT NULL DEFAULT 0,
  fetched_at        BIGINT NOT NULL DEFAULT 0,
  installed_at      BIGINT NOT NULL DEFAULT 0,
  FOREIGN KEY (holder_kind, holder_code) REFERENCES holder (kind, code),
  -- Invariant 8, as the database sees it: an approval is the second person's.
  CHECK (approved_by = '' OR approved_by <> entered_by),
  CHECK (approved_by = '' OR approved_by <> checked_by),
  CHECK (approved_by = '' OR entered_by <> '' OR checked_by <> ''),
  CHECK (state NOT IN ('approved', 'generating', 'issuing', 'issued') OR approved_by <> '' OR grant_id <> '' OR kind = 'renewal')
);
CREATE UNIQUE INDEX request_idempotency ON request (client_id, idempotency) WHERE idempotency <> '';
CREATE INDEX request_state ON request (state, id);
CREATE INDEX request_holder ON request (holder_code, id);
CREATE UNIQUE INDEX request_open_renewal ON request (predecessor)
  WHERE predecessor <> '' AND state NOT IN ('rejected', 'cancelled');

-- Everybody who ever changed the content of a request (threat AP6).
CREATE TABLE request_editor (
  request  TEXT NOT NULL REFERENCES request (id),
  operator TEXT NOT NULL,
  PRIMARY KEY (request, operator)
);

-- The reference ID of a request: a verifier, and the ID itself only sealed and only
-- until the letter was dispatched.
CREATE TABLE reference (
  request   TEXT   PRIMARY KEY REFERENCES request (id),
  kid       TEXT   NOT NULL,
  salt      BYTEA  NOT NULL,
  gate      BIGINT NOT NULL,
  tag       BYTEA  NOT NULL,
  sealed    BYTEA,
  epoch     TEXT   NOT NULL,
  voided_at BIGINT NOT NULL DEFAULT 0
);

-- Every public key that was ever ours to certify: pool, held keys and CSRs. A key
-- that appears twice is a broken generator or somebody's trick (threat CK8).
CREATE TABLE public_key (
  spki_sha256 TEXT PRIMARY KEY,
  owner       TEXT NOT NULL
);

-- Holders' keys made here: pool -> taken -> held -> destroyed.
CREATE TABLE sealed_key (
  id           TEXT   PRIMARY KEY,
  key_type     TEXT   NOT NULL,
  spki         BYTEA  NOT NULL,
  spki_sha256  TEXT   NOT NULL,
  stage        TEXT   NOT NULL CHECK (stage IN ('pool', 'taken', 'held', 'destroyed')),
  blob         BYTEA,
  epoch        TEXT   NOT NULL,
  request      TEXT   NOT NULL DEFAULT '',
  made_at      BIGINT NOT NULL,
  destroyed_at BIGINT NOT NULL DEFAULT 0,
  CHECK ((stage = 'destroyed') = (blob IS NULL))
);
CREATE INDEX sealed_key_pool ON sealed_key (key_type, stage, id);
CREATE UNIQUE INDEX sealed_key_request ON sealed_key (request) WHERE request <> '' AND stage <> 'destroyed';

-- What we will sign, stored before it is signed (invariant 2).
CREATE TABLE intent (
  serial      TEXT   PRIMARY KEY,
  issuer      TEXT   NOT NULL,
  profile     TEXT   NOT NULL,
  request     TEXT   NOT NULL DEFAULT '',
  tbs         BYTEA  NOT NULL,
  audit_index BIGINT NOT NULL,
  audit_leaf  BYTEA  NOT NULL,
  state       TEXT   NOT NULL CHECK (state IN ('open', 'done', 'abandoned')),
  made_at     BIGINT NOT NULL
);
CREATE INDEX intent_open ON intent (made_at) WHERE state = 'open';
CREATE UNIQUE INDEX intent_request ON intent (request) WHERE request <> '' AND state <> 'abandoned';

CREATE TABLE certificate (
  serial       TEXT   PRIMARY KEY,
  issuer       TEXT   NOT NULL,
  profile      TEXT   NOT NULL,
  request      TEXT   NOT NULL DEFAULT '',
  holder_kind  TEXT   NOT NULL DEFAULT '',
  holder_code  TEXT   NOT NULL DEFAULT '',
  terminal     TEXT   NOT NULL DEFAULT '',
  der          BYTEA  NOT NULL,
  sha256       TEXT   NOT NULL UNIQUE,
  spki_sha256  TEXT   NOT NULL,
  not_before   BIGINT NOT NULL,
  not_after    BIGINT NOT NULL,
  predecessor  TEXT   NOT NULL DEFAULT '',
  successor    TEXT   NOT NULL DEFAULT '',
  issued_at    BIGINT NOT NULL,
  revoked_at   BIGINT NOT NULL DEFAULT 0,
  reason       BIGINT NOT NULL DEFAULT 0,
  effective_at BIGINT NOT NULL DEFAULT 0,
  crl_entry    BYTEA
);
CREATE UNIQUE INDEX certificate_request ON certificate (request) WHERE request <> '';
CREATE INDEX certificate_holder ON certificate (holder_code, serial);
CREATE INDEX certificate_revoked ON certificate (issuer, revoked_at) WHERE revoked_at <> 0;

CREATE TABLE crl (
  issuer      TEXT   NOT NULL,
  number      BIGINT NOT NULL,
  this_update BIGINT NOT NULL,
  next_update BIGINT NOT NULL,
  der         BYTEA  NOT NULL,
  PRIMARY KEY (issuer, number)
);

-- A prepared file waits for its ticket, sealed under a key that only the ticket has.
CREATE TABLE ticket (
  id          TEXT   PRIMARY KEY,
  request     TEXT   NOT NULL REFERENCES request (id),
  key_hash    BYTEA  NOT NULL,
  cookie_hash BYTEA  NOT NULL,
  blob        BYTEA  NOT NULL,
  legacy      BOOLEAN NOT NULL,
  file_sha256 TEXT   NOT NULL,
  file_size   BIGINT NOT NULL,
  uses        BIGINT NOT NULL DEFAULT 0,
  until       BIGINT NOT NULL
);
CREATE INDEX ticket_until ON ticket (until);

-- Messages that leave after the change they tell of was committed.
CREATE TABLE outbox (
  id         TEXT   PRIMARY KEY,
  kind       TEXT   NOT NULL,
  request    TEXT   NOT NULL,
  address    TEXT   NOT NULL,
  language   TEXT   NOT NULL,
  args       TEXT   NOT NULL,
  made_at    BIGINT NOT NULL,
  next_at    BIGINT NOT NULL,
  attempts   BIGINT NOT NULL DEFAULT 0,
  failure    TEXT   NOT NULL DEFAULT '',
  sent_at    BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX outbox_due ON outbox (next_at) WHERE sent_at = 0;
