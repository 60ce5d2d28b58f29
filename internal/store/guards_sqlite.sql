-- What the database refuses whoever asks. RAISE(ABORT) becomes pki.Error store.guard.

CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit
WHEN NEW.salt IS NOT NULL OR NEW.body IS NOT NULL
	OR NEW.idx IS NOT OLD.idx OR NEW.at IS NOT OLD.at OR NEW.actor IS NOT OLD.actor OR NEW.auth IS NOT OLD.auth
	OR NEW.kind IS NOT OLD.kind OR NEW.subject IS NOT OLD.subject OR NEW.digest IS NOT OLD.digest OR NEW.leaf IS NOT OLD.leaf
BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END;

CREATE TRIGGER audit_keep BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END;

CREATE TRIGGER audit_hash_append_only BEFORE UPDATE ON audit_hash
BEGIN SELECT RAISE(ABORT, 'audit hashes are append-only'); END;

CREATE TRIGGER audit_hash_keep BEFORE DELETE ON audit_hash
BEGIN SELECT RAISE(ABORT, 'audit hashes are append-only'); END;

CREATE TRIGGER audit_tree_grows BEFORE UPDATE ON audit_tree
WHEN NEW.size < OLD.size OR NEW.last_at <= OLD.last_at
BEGIN SELECT RAISE(ABORT, 'the audit tree only grows'); END;

CREATE TRIGGER audit_tree_keep BEFORE DELETE ON audit_tree
BEGIN SELECT RAISE(ABORT, 'the audit tree only grows'); END;

CREATE TRIGGER checkpoint_append_only BEFORE UPDATE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;

CREATE TRIGGER checkpoint_keep BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;

-- The office. An approver is none of those who edited (invariant 8).
CREATE TRIGGER request_second_person BEFORE UPDATE OF approved_by ON request
WHEN NEW.approved_by <> ''
BEGIN SELECT RAISE(ABORT, 'an editor does not approve')
	WHERE EXISTS (SELECT 1 FROM request_editor e WHERE e.request = NEW.id AND e.operator = NEW.approved_by); END;

CREATE TRIGGER request_approval_stays BEFORE UPDATE OF approved_by, content_hash, checked_by, entered_by ON request
WHEN OLD.approved_by <> '' AND (NEW.approved_by <> OLD.approved_by OR NEW.content_hash <> OLD.content_hash
	OR NEW.checked_by <> OLD.checked_by OR NEW.entered_by <> OLD.entered_by)
BEGIN SELECT RAISE(ABORT, 'what was approved does not change'); END;

CREATE TRIGGER request_grant_approved BEFORE INSERT ON request
WHEN NEW.grant_id <> ''
BEGIN SELECT RAISE(ABORT, 'the grant was not approved by two')
	WHERE NOT EXISTS (SELECT 1 FROM issue_grant g WHERE g.id = NEW.grant_id AND g.client = NEW.client_id AND g.approved_by <> '' AND g.revoked_at = 0); END;

CREATE TRIGGER operator_role_conflict BEFORE INSERT ON operator_role
BEGIN SELECT RAISE(ABORT, 'roles that one person never holds together')
	WHERE EXISTS (SELECT 1 FROM operator_role r JOIN role_conflict c ON c.role = r.role AND c.other = NEW.role WHERE r.operator = NEW.operator); END;

CREATE TRIGGER instance_stays BEFORE UPDATE ON instance
BEGIN SELECT RAISE(ABORT, 'the instance does not change'); END;

CREATE TRIGGER instance_keep BEFORE DELETE ON instance
BEGIN SELECT RAISE(ABORT, 'the instance does not change'); END;

CREATE TRIGGER certificate_facts_stay BEFORE UPDATE ON certificate
WHEN NEW.der <> OLD.der OR NEW.serial <> OLD.serial OR NEW.sha256 <> OLD.sha256 OR NEW.not_after <> OLD.not_after
	OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (NEW.revoked_at <> OLD.revoked_at OR NEW.reason <> OLD.reason))
BEGIN SELECT RAISE(ABORT, 'a certificate and its revocation do not change'); END;

CREATE TRIGGER certificate_keep BEFORE DELETE ON certificate
BEGIN SELECT RAISE(ABORT, 'certificates are never deleted'); END;
