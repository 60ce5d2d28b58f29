-- +goose Up
-- What a start reads of the revoked ones is in the index, too.
DROP INDEX certificate_revoked;
CREATE INDEX certificate_revoked ON certificate (issuer, revoked_at, serial, not_after, effective_at, crl_entry, reason, invalid_since)
	WHERE revoked_at <> 0;
