-- The dates of revocations. What was revoked stays so, but a revocation dated forward may,
-- before it counts, be brought forward or be lifted by two.
DROP TRIGGER IF EXISTS certificate_facts_stay;
CREATE TRIGGER certificate_facts_stay BEFORE UPDATE ON certificate
WHEN NEW.serial IS NOT OLD.serial OR NEW.issuer IS NOT OLD.issuer OR NEW.profile IS NOT OLD.profile OR NEW.request IS NOT OLD.request
	OR NEW.holder_kind IS NOT OLD.holder_kind OR NEW.holder_code IS NOT OLD.holder_code OR NEW.terminal IS NOT OLD.terminal
	OR NEW.der IS NOT OLD.der OR NEW.sha256 IS NOT OLD.sha256 OR NEW.spki_sha256 IS NOT OLD.spki_sha256
	OR NEW.not_before IS NOT OLD.not_before OR NEW.not_after IS NOT OLD.not_after OR NEW.predecessor IS NOT OLD.predecessor
	OR NEW.issued_at IS NOT OLD.issued_at
	OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (NEW.revoked_at IS NOT OLD.revoked_at OR NEW.reason IS NOT OLD.reason
		OR NEW.effective_at IS NOT OLD.effective_at OR NEW.crl_entry IS NOT OLD.crl_entry OR NEW.invalid_since IS NOT OLD.invalid_since)
		AND NOT (OLD.effective_at > OLD.revoked_at AND (NEW.revoked_at = 0
			OR (NEW.revoked_at > OLD.revoked_at AND NEW.revoked_at < OLD.effective_at AND NEW.effective_at = NEW.revoked_at))))
	OR (NEW.revoked_at <> 0 AND NEW.crl_entry IS NULL)
BEGIN SELECT RAISE(ABORT, 'a certificate and its revocation do not change'); END;

CREATE TRIGGER certificate_dates BEFORE UPDATE OF revoked_at, reason, effective_at, invalid_since ON certificate
WHEN NEW.effective_at < NEW.revoked_at OR (NEW.effective_at > NEW.revoked_at AND (NEW.revoked_at = 0 OR NEW.reason IN (1, 2, 6)))
	OR (NEW.invalid_since <> 0 AND (NEW.invalid_since >= NEW.revoked_at OR NEW.invalid_since < NEW.not_before))
BEGIN SELECT RAISE(ABORT, 'a revocation counts from its commit, or later unless for a compromise'); END;

CREATE TRIGGER certificate_invalid BEFORE UPDATE OF invalid_since ON certificate
WHEN NEW.invalid_since <> 0 AND NEW.invalid_since IS NOT OLD.invalid_since
BEGIN SELECT RAISE(ABORT, 'since when a certificate was invalid is the word of two')
	WHERE NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'revoked' AND r.invalid_since = NEW.invalid_since
		AND r.decided_by <> r.asked_by); END;

DROP TRIGGER IF EXISTS certificate_lift;
CREATE TRIGGER certificate_lift BEFORE UPDATE OF revoked_at ON certificate
WHEN OLD.revoked_at <> 0 AND NEW.revoked_at = 0
BEGIN SELECT RAISE(ABORT, 'a hold is lifted by two')
	WHERE NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted' AND r.decided_at > OLD.revoked_at
		AND (OLD.reason = 6 OR r.decided_at < OLD.effective_at)); END;

CREATE TRIGGER revocation_dates_stay BEFORE UPDATE OF effective_at, invalid_since ON revocation
WHEN NEW.effective_at IS NOT OLD.effective_at OR NEW.invalid_since IS NOT OLD.invalid_since
BEGIN SELECT RAISE(ABORT, 'the dates of a revocation do not change'); END;
