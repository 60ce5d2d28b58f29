-- Cases of revocation, and the end of a hold.
CREATE TRIGGER revocation_born BEFORE INSERT ON revocation
WHEN NEW.state <> 'received' OR NEW.proposed_by <> '' OR NEW.decided_at <> 0 OR NEW.published_at <> 0
BEGIN SELECT RAISE(ABORT, 'a revocation is decided after it was received'); END;

CREATE TRIGGER revocation_stays BEFORE UPDATE ON revocation
WHEN NEW.id IS NOT OLD.id OR NEW.flow IS NOT OLD.flow OR NEW.serial IS NOT OLD.serial OR NEW.request IS NOT OLD.request
	OR NEW.proof IS NOT OLD.proof OR NEW.asked_by IS NOT OLD.asked_by OR NEW.reason IS NOT OLD.reason OR NEW.email IS NOT OLD.email
	OR NEW.language IS NOT OLD.language OR NEW.received_at IS NOT OLD.received_at OR NEW.held_at IS NOT OLD.held_at
	OR (OLD.proposed_by <> '' AND (NEW.proposed_by IS NOT OLD.proposed_by OR NEW.proposed_at IS NOT OLD.proposed_at))
	OR (OLD.state <> 'received' AND (NEW.state IS NOT OLD.state OR NEW.decided_by IS NOT OLD.decided_by
		OR NEW.decided_at IS NOT OLD.decided_at OR NEW.proposed_by IS NOT OLD.proposed_by))
	OR (NEW.state IN ('rejected', 'lifted') AND OLD.state = 'received' AND OLD.proposed_by = '')
	OR (OLD.published_at <> 0 AND NEW.published_at IS NOT OLD.published_at)
BEGIN SELECT RAISE(ABORT, 'a revocation is undone by two, one after the other, and decided once'); END;

CREATE TRIGGER revocation_keep BEFORE DELETE ON revocation
BEGIN SELECT RAISE(ABORT, 'revocations are never deleted'); END;

CREATE TRIGGER certificate_lift BEFORE UPDATE OF revoked_at ON certificate
WHEN OLD.revoked_at <> 0 AND NEW.revoked_at = 0
BEGIN SELECT RAISE(ABORT, 'a hold is lifted by two')
	WHERE NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted' AND r.decided_at > OLD.revoked_at); END;
