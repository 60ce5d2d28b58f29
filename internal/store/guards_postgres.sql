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
WHEN ((OLD.approved_by <> '' OR OLD.grant_id <> '') AND (NEW.approved_by, NEW.content_hash, NEW.checked_by, NEW.terminal_name, NEW.email,
	NEW.maintenance_email, NEW.department, NEW.phone, NEW.payment_method)
	IS DISTINCT FROM (OLD.approved_by, OLD.content_hash, OLD.checked_by, OLD.terminal_name, OLD.email,
	OLD.maintenance_email, OLD.department, OLD.phone, OLD.payment_method))
EXECUTE FUNCTION guard_refuse('what was approved does not change');

CREATE TRIGGER request_origin_stays BEFORE UPDATE ON request FOR EACH ROW
WHEN ((NEW.id, NEW.kind, NEW.source, NEW.holder_kind, NEW.holder_code, NEW.csr, NEW.entered_by, NEW.grant_id, NEW.client_id,
	NEW.idempotency, NEW.profile, NEW.key_type, NEW.predecessor, NEW.not_before, NEW.received_at)
	IS DISTINCT FROM (OLD.id, OLD.kind, OLD.source, OLD.holder_kind, OLD.holder_code, OLD.csr, OLD.entered_by, OLD.grant_id, OLD.client_id,
	OLD.idempotency, OLD.profile, OLD.key_type, OLD.predecessor, OLD.not_before, OLD.received_at))
EXECUTE FUNCTION guard_refuse('where a request came from does not change');

CREATE TRIGGER request_keep BEFORE DELETE ON request FOR EACH ROW
EXECUTE FUNCTION guard_refuse('requests are never deleted');

CREATE TRIGGER request_editor_keep BEFORE UPDATE OR DELETE ON request_editor FOR EACH ROW
EXECUTE FUNCTION guard_refuse('editors are append-only');

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
WHEN ((NEW.serial, NEW.issuer, NEW.profile, NEW.request, NEW.holder_kind, NEW.holder_code, NEW.terminal, NEW.der, NEW.sha256,
	NEW.spki_sha256, NEW.not_before, NEW.not_after, NEW.predecessor, NEW.issued_at)
	IS DISTINCT FROM (OLD.serial, OLD.issuer, OLD.profile, OLD.request, OLD.holder_kind, OLD.holder_code, OLD.terminal, OLD.der, OLD.sha256,
	OLD.spki_sha256, OLD.not_before, OLD.not_after, OLD.predecessor, OLD.issued_at)
	OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (NEW.revoked_at, NEW.reason, NEW.effective_at, NEW.crl_entry)
	IS DISTINCT FROM (OLD.revoked_at, OLD.reason, OLD.effective_at, OLD.crl_entry))
	OR (NEW.revoked_at <> 0 AND NEW.crl_entry IS NULL))
EXECUTE FUNCTION guard_refuse('a certificate and its revocation do not change');

CREATE TRIGGER certificate_keep BEFORE DELETE ON certificate FOR EACH ROW
EXECUTE FUNCTION guard_refuse('certificates are never deleted');

-- Who may act. Roles that exclude each other, operators' keys, statements once used.
CREATE TRIGGER role_conflict_keep BEFORE UPDATE OR DELETE ON role_conflict FOR EACH ROW
EXECUTE FUNCTION guard_refuse('roles that exclude each other stay so');

CREATE TRIGGER operator_role_stays BEFORE UPDATE ON operator_role FOR EACH ROW
EXECUTE FUNCTION guard_refuse('a role is given or taken, not changed');

CREATE TRIGGER operator_stays BEFORE UPDATE ON operator FOR EACH ROW
WHEN ((NEW.id, NEW.cert_sha256) IS DISTINCT FROM (OLD.id, OLD.cert_sha256) OR (OLD.disabled_at <> 0 AND NEW.disabled_at <> OLD.disabled_at))
EXECUTE FUNCTION guard_refuse('an operator and its key do not change');

CREATE TRIGGER statement_keep BEFORE UPDATE OR DELETE ON statement FOR EACH ROW
EXECUTE FUNCTION guard_refuse('statements are append-only');

CREATE TRIGGER api_client_stays BEFORE UPDATE ON api_client FOR EACH ROW
WHEN ((NEW.id, NEW.cert_sha256, NEW.role) IS DISTINCT FROM (OLD.id, OLD.cert_sha256, OLD.role)
	OR (OLD.disabled_at <> 0 AND NEW.disabled_at <> OLD.disabled_at))
EXECUTE FUNCTION guard_refuse('an API client and its key do not change');

CREATE TRIGGER issue_grant_stays BEFORE UPDATE ON issue_grant FOR EACH ROW
WHEN ((NEW.id, NEW.client, NEW.kinds, NEW.prefectures, NEW.per_day, NEW.total, NEW.ends_at, NEW.made_by)
	IS DISTINCT FROM (OLD.id, OLD.client, OLD.kinds, OLD.prefectures, OLD.per_day, OLD.total, OLD.ends_at, OLD.made_by)
	OR NEW.used < OLD.used OR (OLD.approved_by <> '' AND NEW.approved_by <> OLD.approved_by)
	OR (OLD.revoked_at <> 0 AND NEW.revoked_at <> OLD.revoked_at))
EXECUTE FUNCTION guard_refuse('a grant does not change');

CREATE TRIGGER issue_grant_born BEFORE INSERT ON issue_grant FOR EACH ROW
WHEN (NEW.approved_by <> '' OR NEW.used <> 0 OR NEW.revoked_at <> 0)
EXECUTE FUNCTION guard_refuse('a grant is approved by another person later');

CREATE TRIGGER issue_grant_keep BEFORE DELETE ON issue_grant FOR EACH ROW
EXECUTE FUNCTION guard_refuse('grants are never deleted');

-- Keys and what we signed.
CREATE TRIGGER public_key_stays BEFORE UPDATE ON public_key FOR EACH ROW
WHEN ((NEW.spki_sha256, NEW.owner) IS DISTINCT FROM (OLD.spki_sha256, OLD.owner))
EXECUTE FUNCTION guard_refuse('a public key keeps its owner');

CREATE TRIGGER public_key_keep BEFORE DELETE ON public_key FOR EACH ROW
EXECUTE FUNCTION guard_refuse('a public key keeps its owner');

CREATE TRIGGER sealed_key_stays BEFORE UPDATE ON sealed_key FOR EACH ROW
WHEN ((NEW.id, NEW.spki, NEW.spki_sha256) IS DISTINCT FROM (OLD.id, OLD.spki, OLD.spki_sha256)
	OR OLD.stage = 'destroyed' OR (OLD.request <> '' AND NEW.request <> OLD.request))
EXECUTE FUNCTION guard_refuse('a key and its request do not change');

CREATE TRIGGER intent_stays BEFORE UPDATE ON intent FOR EACH ROW
WHEN ((NEW.serial, NEW.issuer, NEW.profile, NEW.request, NEW.tbs, NEW.audit_index, NEW.audit_leaf)
	IS DISTINCT FROM (OLD.serial, OLD.issuer, OLD.profile, OLD.request, OLD.tbs, OLD.audit_index, OLD.audit_leaf) OR OLD.state <> 'open')
EXECUTE FUNCTION guard_refuse('an intent does not change');

CREATE TRIGGER intent_keep BEFORE DELETE ON intent FOR EACH ROW
EXECUTE FUNCTION guard_refuse('intents are never deleted');
