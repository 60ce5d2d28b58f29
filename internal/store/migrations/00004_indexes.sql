-- +goose Up
-- A partial index serves the statements that repeat its condition.
DROP INDEX sealed_key_pool;
CREATE INDEX sealed_key_stage ON sealed_key (stage, key_type, id);
CREATE INDEX sealed_key_living ON sealed_key (epoch) WHERE stage <> 'destroyed';
CREATE INDEX reference_sealed ON reference (epoch) WHERE sealed IS NOT NULL;
-- Status is read at every start: the serials of an issuer, and what is revoked.
CREATE INDEX certificate_status ON certificate (issuer, serial);
