-- One text for both engines: TEXT, BIGINT, BYTEA, BOOLEAN. Times are µs since 1970 in UTC,
-- 0 = never. Of {a|b} SQLite takes a and PostgreSQL b: see migrate.go.
--
-- Serials and hashes are random, so that each index of them takes every certificate at
-- another page: they are indexed only where something is looked up by them, or where they
-- keep a thing unique (ADR 95). A partial index serves the statements that repeat its
-- condition.

-- The audit tree.

CREATE TABLE audit (
  idx {INTEGER|BIGINT} PRIMARY KEY,
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
  idx {INTEGER|BIGINT} PRIMARY KEY,
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

-- The office: holders, requests, keys, certificates, revocations, operators, grants.

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
  disabled_at BIGINT NOT NULL DEFAULT 0,
  -- The account of the operating system that proves the operator (threat CO1); os_user '' = none.
  os_user     TEXT   NOT NULL DEFAULT '',
  os_uid      BIGINT NOT NULL DEFAULT 0
);
-- An account is one operator's at a time.
CREATE UNIQUE INDEX operator_account ON operator (os_uid) WHERE os_user <> '' AND disabled_at = 0;

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
  -- A renewal whose certificate was revoked does not stand in the way of another one.
  closed_at         BIGINT NOT NULL DEFAULT 0,
  -- The IDs of requests that look like this one, for the operators who decide (threat AP8).
  alike             TEXT   NOT NULL DEFAULT '',
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
  WHERE predecessor <> '' AND closed_at = 0 AND state NOT IN ('rejected', 'cancelled');
CREATE INDEX request_predecessor ON request (predecessor, id) WHERE predecessor <> '';

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
CREATE INDEX reference_sealed ON reference (epoch) WHERE sealed IS NOT NULL;

-- Every public key that was ever ours to certify: pool, held keys and CSRs. A key
-- that appears twice is a broken generator or somebody's trick (threat CK8).
CREATE TABLE public_key (
  spki_sha256 TEXT PRIMARY KEY,
  owner       TEXT NOT NULL
){ WITHOUT ROWID|};

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
CREATE INDEX sealed_key_stage ON sealed_key (stage, key_type, id);
CREATE INDEX sealed_key_living ON sealed_key (epoch) WHERE stage <> 'destroyed';
CREATE UNIQUE INDEX sealed_key_request ON sealed_key (request) WHERE request <> '' AND stage <> 'destroyed';

-- What we will sign, stored before it is signed (invariant 2). Its serial is looked up and
-- unique while it is open; AddIntent sees to those that are certificates.
CREATE TABLE intent (
  serial      TEXT   NOT NULL,
  issuer      TEXT   NOT NULL,
  profile     TEXT   NOT NULL,
  request     TEXT   NOT NULL DEFAULT '',
  tbs         BYTEA  NOT NULL,
  audit_index BIGINT NOT NULL,
  audit_leaf  BYTEA  NOT NULL,
  state       TEXT   NOT NULL CHECK (state IN ('open', 'done', 'abandoned')),
  made_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX intent_serial ON intent (serial) WHERE state = 'open';
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
  sha256       TEXT   NOT NULL,
  spki_sha256  TEXT   NOT NULL,
  not_before   BIGINT NOT NULL,
  not_after    BIGINT NOT NULL,
  predecessor  TEXT   NOT NULL DEFAULT '',
  successor    TEXT   NOT NULL DEFAULT '',
  issued_at    BIGINT NOT NULL,
  revoked_at   BIGINT NOT NULL DEFAULT 0,
  reason       BIGINT NOT NULL DEFAULT 0,
  effective_at BIGINT NOT NULL DEFAULT 0,
  crl_entry    BYTEA,
  invalid_since BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX certificate_request ON certificate (request) WHERE request <> '';
-- Only operators and API clients are found by their certificate's hash.
CREATE UNIQUE INDEX certificate_own ON certificate (sha256) WHERE request = '';
CREATE INDEX certificate_holder ON certificate (holder_code);
-- What a start reads, in the order of time: at the end of the index.
CREATE INDEX certificate_issued ON certificate (issuer, issued_at, serial);
-- A CRL, and what a start reads of the revoked ones, are made from the index alone.
CREATE INDEX certificate_revoked ON certificate (issuer, revoked_at, serial, not_after, effective_at, crl_entry, reason, invalid_since)
  WHERE revoked_at <> 0;
-- What is revoked with a date to come is found by its date.
CREATE INDEX certificate_dated ON certificate (issuer, effective_at) WHERE effective_at > revoked_at;

-- A CRL is kept in pieces by their hashes, so that only what is new is written (ADR 165).
CREATE TABLE crl (
  issuer      TEXT   NOT NULL,
  number      BIGINT NOT NULL,
  this_update BIGINT NOT NULL,
  next_update BIGINT NOT NULL,
  compared_at BIGINT NOT NULL DEFAULT 0,
  octets      BIGINT NOT NULL DEFAULT 0,
  pieces      BYTEA,
  PRIMARY KEY (issuer, number)
);
CREATE TABLE crl_piece (
  issuer TEXT  NOT NULL,
  hash   BYTEA NOT NULL,
  der    BYTEA NOT NULL,
  PRIMARY KEY (issuer, hash)
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
  -- What an officer may say: from when it counts, and since when nothing signed with the key is
  -- to be believed (invalidityDate).
  effective_at  BIGINT NOT NULL DEFAULT 0,
  invalid_since BIGINT NOT NULL DEFAULT 0,
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
