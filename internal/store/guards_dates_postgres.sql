-- The dates of revocations. What was revoked stays so, but a revocation dated forward may,
-- before it counts, be brought forward or be lifted by two.
DROP TRIGGER IF EXISTS certificate_facts_stay ON certificate;
CREATE TRIGGER certificate_facts_stay BEFORE UPDATE ON certificate FOR EACH ROW
WHEN ((NEW.serial, NEW.issuer, NEW.profile, NEW.request, NEW.holder_kind, NEW.holder_code, NEW.terminal, NEW.der, NEW.sha256,
	NEW.spki_sha256, NEW.not_before, NEW.not_after, NEW.predecessor, NEW.issued_at)
	IS DISTINCT FROM (OLD.serial, OLD.issuer, OLD.profile, OLD.request, OLD.holder_kind, OLD.holder_code, OLD.terminal, OLD.der, OLD.sha256,
	OLD.spki_sha256, OLD.not_before, OLD.not_after, OLD.predecessor, OLD.issued_at)
	OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (NEW.revoked_at, NEW.reason, NEW.effective_at, NEW.crl_entry, NEW.invalid_since)
	IS DISTINCT FROM (OLD.revoked_at, OLD.reason, OLD.effective_at, OLD.crl_entry, OLD.invalid_since)
		AND NOT (OLD.effective_at > OLD.revoked_at AND (NEW.revoked_at = 0
			OR (NEW.revoked_at > OLD.revoked_at AND NEW.revoked_at < OLD.effective_at AND NEW.effective_at = NEW.revoked_at))))
	OR (NEW.revoked_at <> 0 AND NEW.crl_entry IS NULL))
EXECUTE FUNCTION guard_refuse('a certificate and its revocation do not change');

CREATE TRIGGER certificate_dates BEFORE UPDATE OF revoked_at, reason, effective_at, invalid_since ON certificate FOR EACH ROW
WHEN (NEW.effective_at < NEW.revoked_at OR (NEW.effective_at > NEW.revoked_at AND (NEW.revoked_at = 0 OR NEW.reason IN (1, 2, 6)))
	OR (NEW.invalid_since <> 0 AND (NEW.invalid_since >= NEW.revoked_at OR NEW.invalid_since < NEW.not_before)))
EXECUTE FUNCTION guard_refuse('a revocation counts from its commit, or later unless for a compromise');

CREATE FUNCTION guard_invalid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'revoked' AND r.invalid_since = NEW.invalid_since
		AND r.decided_by <> r.asked_by) THEN
		RAISE EXCEPTION 'since when a certificate was invalid is the word of two' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER certificate_invalid BEFORE UPDATE OF invalid_since ON certificate FOR EACH ROW
WHEN (NEW.invalid_since <> 0 AND NEW.invalid_since <> OLD.invalid_since)
EXECUTE FUNCTION guard_invalid();

CREATE OR REPLACE FUNCTION guard_lift() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted' AND r.decided_at > OLD.revoked_at
		AND (OLD.reason = 6 OR r.decided_at < OLD.effective_at)) THEN
		RAISE EXCEPTION 'a hold is lifted by two' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER revocation_dates_stay BEFORE UPDATE OF effective_at, invalid_since ON revocation FOR EACH ROW
WHEN ((NEW.effective_at, NEW.invalid_since) IS DISTINCT FROM (OLD.effective_at, OLD.invalid_since))
EXECUTE FUNCTION guard_refuse('the dates of a revocation do not change');
