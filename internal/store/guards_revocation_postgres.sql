-- Cases of revocation, and the end of a hold.
CREATE TRIGGER revocation_born BEFORE INSERT ON revocation FOR EACH ROW
WHEN (NEW.state <> 'received' OR NEW.proposed_by <> '' OR NEW.decided_at <> 0 OR NEW.published_at <> 0)
EXECUTE FUNCTION guard_refuse('a revocation is decided after it was received');

CREATE TRIGGER revocation_stays BEFORE UPDATE ON revocation FOR EACH ROW
WHEN ((NEW.id, NEW.flow, NEW.serial, NEW.request, NEW.proof, NEW.asked_by, NEW.reason, NEW.email, NEW.language, NEW.received_at, NEW.held_at)
	IS DISTINCT FROM (OLD.id, OLD.flow, OLD.serial, OLD.request, OLD.proof, OLD.asked_by, OLD.reason, OLD.email, OLD.language, OLD.received_at, OLD.held_at)
	OR (OLD.proposed_by <> '' AND (NEW.proposed_by, NEW.proposed_at) IS DISTINCT FROM (OLD.proposed_by, OLD.proposed_at))
	OR (OLD.state <> 'received' AND (NEW.state, NEW.decided_by, NEW.decided_at, NEW.proposed_by)
		IS DISTINCT FROM (OLD.state, OLD.decided_by, OLD.decided_at, OLD.proposed_by))
	OR (NEW.state IN ('rejected', 'lifted') AND OLD.state = 'received' AND OLD.proposed_by = '')
	OR (OLD.published_at <> 0 AND NEW.published_at <> OLD.published_at))
EXECUTE FUNCTION guard_refuse('a revocation is undone by two, one after the other, and decided once');

CREATE TRIGGER revocation_keep BEFORE DELETE ON revocation FOR EACH ROW
EXECUTE FUNCTION guard_refuse('revocations are never deleted');

CREATE FUNCTION guard_lift() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted' AND r.decided_at > OLD.revoked_at) THEN
		RAISE EXCEPTION 'a hold is lifted by two' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER certificate_lift BEFORE UPDATE OF revoked_at ON certificate FOR EACH ROW
WHEN (OLD.revoked_at <> 0 AND NEW.revoked_at = 0)
EXECUTE FUNCTION guard_lift();
