-- +goose Up
-- What an officer may say of the time of a revocation: from when it counts, and since
-- when nothing signed with the key is to be believed (invalidityDate).
ALTER TABLE certificate ADD COLUMN invalid_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revocation ADD COLUMN effective_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revocation ADD COLUMN invalid_since BIGINT NOT NULL DEFAULT 0;
