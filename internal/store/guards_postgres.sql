-- What the database refuses whoever asks. SQLSTATE IK001 becomes pki.Error store.guard.

CREATE FUNCTION guard_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'IK001';
END $$;

CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit FOR EACH ROW
WHEN (NEW.salt IS NOT NULL OR NEW.body IS NOT NULL
	OR (NEW.idx, NEW.at, NEW.actor, NEW.auth, NEW.kind, NEW.subject, NEW.digest, NEW.leaf)
	IS DISTINCT FROM (OLD.idx, OLD.at, OLD.actor, OLD.auth, OLD.kind, OLD.subject, OLD.digest, OLD.leaf))
EXECUTE FUNCTION guard_refuse('audit records are append-only');

CREATE TRIGGER audit_keep BEFORE DELETE ON audit FOR EACH ROW
EXECUTE FUNCTION guard_refuse('audit records are append-only');

CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT
EXECUTE FUNCTION guard_refuse('audit records are append-only');

CREATE TRIGGER audit_hash_append_only BEFORE UPDATE OR DELETE ON audit_hash FOR EACH ROW
EXECUTE FUNCTION guard_refuse('audit hashes are append-only');

CREATE TRIGGER audit_hash_truncate BEFORE TRUNCATE ON audit_hash FOR EACH STATEMENT
EXECUTE FUNCTION guard_refuse('audit hashes are append-only');

CREATE TRIGGER audit_tree_grows BEFORE UPDATE ON audit_tree FOR EACH ROW
WHEN (NEW.size < OLD.size OR NEW.last_at <= OLD.last_at)
EXECUTE FUNCTION guard_refuse('the audit tree only grows');

CREATE TRIGGER audit_tree_keep BEFORE DELETE ON audit_tree FOR EACH ROW
EXECUTE FUNCTION guard_refuse('the audit tree only grows');

CREATE TRIGGER checkpoint_append_only BEFORE UPDATE OR DELETE ON checkpoint FOR EACH ROW
EXECUTE FUNCTION guard_refuse('checkpoints are append-only');

-- The office. An approver is none of those who edited (invariant 8).
CREATE FUNCTION guard_second_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.approved_by <> '' AND EXISTS (SELECT 1 FROM request_editor e WHERE e.request = NEW.id AND e.operator = NEW.approved_by) THEN
		RAISE EXCEPTION 'an editor does not approve' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER request_second_person BEFORE UPDATE ON request FOR EACH ROW EXECUTE FUNCTION guard_second_person();

CREATE TRIGGER request_approval_stays BEFORE UPDATE ON request FOR EACH ROW
WHEN (OLD.approved_by <> '' AND (NEW.approved_by, NEW.content_hash, NEW.checked_by, NEW.entered_by)
	IS DISTINCT FROM (OLD.approved_by, OLD.content_hash, OLD.checked_by, OLD.entered_by))
EXECUTE FUNCTION guard_refuse('what was approved does not change');

CREATE FUNCTION guard_grant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.grant_id <> '' AND NOT EXISTS (SELECT 1 FROM issue_grant g WHERE g.id = NEW.grant_id AND g.client = NEW.client_id AND g.approved_by <> '' AND g.revoked_at = 0) THEN
		RAISE EXCEPTION 'the grant was not approved by two' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER request_grant_approved BEFORE INSERT ON request FOR EACH ROW EXECUTE FUNCTION guard_grant();

CREATE FUNCTION guard_roles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT 1 FROM operator_role r JOIN role_conflict c ON c.role = r.role AND c.other = NEW.role WHERE r.operator = NEW.operator) THEN
		RAISE EXCEPTION 'roles that one person never holds together' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER operator_role_conflict BEFORE INSERT ON operator_role FOR EACH ROW EXECUTE FUNCTION guard_roles();

CREATE TRIGGER instance_stays BEFORE UPDATE OR DELETE ON instance FOR EACH ROW
EXECUTE FUNCTION guard_refuse('the instance does not change');

CREATE TRIGGER certificate_facts_stay BEFORE UPDATE ON certificate FOR EACH ROW
WHEN ((NEW.der, NEW.serial, NEW.sha256, NEW.not_after) IS DISTINCT FROM (OLD.der, OLD.serial, OLD.sha256, OLD.not_after)
	OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (NEW.revoked_at, NEW.reason) IS DISTINCT FROM (OLD.revoked_at, OLD.reason)))
EXECUTE FUNCTION guard_refuse('a certificate and its revocation do not change');

CREATE TRIGGER certificate_keep BEFORE DELETE ON certificate FOR EACH ROW
EXECUTE FUNCTION guard_refuse('certificates are never deleted');
