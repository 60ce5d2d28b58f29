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

CREATE TRIGGER request_second_person BEFORE UPDATE OF approved_by ON request FOR EACH ROW
WHEN (NEW.approved_by <> '')
EXECUTE FUNCTION guard_second_person();

CREATE TRIGGER request_approval_stays BEFORE UPDATE OF approved_by, content_hash, checked_by, terminal_name, email,
	maintenance_email, department, phone, payment_method ON request FOR EACH ROW
WHEN ((OLD.approved_by <> '' OR OLD.grant_id <> '') AND (NEW.approved_by, NEW.content_hash, NEW.checked_by, NEW.terminal_name, NEW.email,
	NEW.maintenance_email, NEW.department, NEW.phone, NEW.payment_method)
	IS DISTINCT FROM (OLD.approved_by, OLD.content_hash, OLD.checked_by, OLD.terminal_name, OLD.email,
	OLD.maintenance_email, OLD.department, OLD.phone, OLD.payment_method))
EXECUTE FUNCTION guard_refuse('what was approved does not change');

CREATE TRIGGER request_origin_stays BEFORE UPDATE OF id, kind, source, holder_kind, holder_code, csr, entered_by, grant_id, client_id,
	idempotency, profile, key_type, predecessor, not_before, received_at ON request FOR EACH ROW
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
	OR (OLD.revoked_at <> 0 AND OLD.reason <> 6 AND (NEW.revoked_at, NEW.reason, NEW.effective_at, NEW.crl_entry, NEW.invalid_since)
	IS DISTINCT FROM (OLD.revoked_at, OLD.reason, OLD.effective_at, OLD.crl_entry, OLD.invalid_since)
		AND NOT (OLD.effective_at > OLD.revoked_at AND (NEW.revoked_at = 0
			OR (NEW.revoked_at > OLD.revoked_at AND NEW.revoked_at < OLD.effective_at AND NEW.effective_at = NEW.revoked_at))))
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
WHEN ((NEW.id, NEW.role, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.role, OLD.created_at)
	OR (OLD.disabled_at <> 0 AND (NEW.disabled_at, NEW.cert_sha256) IS DISTINCT FROM (OLD.disabled_at, OLD.cert_sha256)))
EXECUTE FUNCTION guard_refuse('an API client does not change, and one that is disabled gets no other key');

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

CREATE TRIGGER intent_stays BEFORE UPDATE OF serial, issuer, profile, request, tbs, audit_index, audit_leaf ON intent FOR EACH ROW
WHEN ((NEW.serial, NEW.issuer, NEW.profile, NEW.request, NEW.tbs, NEW.audit_index, NEW.audit_leaf)
	IS DISTINCT FROM (OLD.serial, OLD.issuer, OLD.profile, OLD.request, OLD.tbs, OLD.audit_index, OLD.audit_leaf))
EXECUTE FUNCTION guard_refuse('an intent does not change');

CREATE TRIGGER intent_keep BEFORE DELETE ON intent FOR EACH ROW
EXECUTE FUNCTION guard_refuse('intents are never deleted');

CREATE TRIGGER operator_account_stays BEFORE UPDATE ON operator FOR EACH ROW
WHEN ((NEW.os_user, NEW.os_uid) IS DISTINCT FROM (OLD.os_user, OLD.os_uid))
EXECUTE FUNCTION guard_refuse('the account of an operator does not change');

CREATE FUNCTION guard_renewal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.kind <> 'renewal' OR NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = NEW.predecessor AND c.request <> ''
		AND c.holder_kind = NEW.holder_kind AND c.holder_code = NEW.holder_code AND c.terminal = NEW.terminal_name) THEN
		RAISE EXCEPTION 'a renewal is of the same holder''s certificate' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER request_renewal_of BEFORE INSERT ON request FOR EACH ROW
WHEN (NEW.kind = 'renewal' OR NEW.predecessor <> '')
EXECUTE FUNCTION guard_renewal();

-- The same refusals, asked only where a statement names one of the columns that they
-- are about: a step of a request names neither its origin nor its approved content.

CREATE TRIGGER intent_closed BEFORE UPDATE ON intent FOR EACH ROW
WHEN (OLD.state <> 'open')
EXECUTE FUNCTION guard_refuse('an intent does not change');

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
	IF NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted' AND r.decided_at > OLD.revoked_at
		AND (OLD.reason = 6 OR r.decided_at < OLD.effective_at)) THEN
		RAISE EXCEPTION 'a hold is lifted by two' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER certificate_lift BEFORE UPDATE OF revoked_at ON certificate FOR EACH ROW
WHEN (OLD.revoked_at <> 0 AND NEW.revoked_at = 0)
EXECUTE FUNCTION guard_lift();

-- The dates of revocations. What was revoked stays so, but a revocation dated forward may,
-- before it counts, be brought forward or be lifted by two.

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

CREATE TRIGGER revocation_dates_stay BEFORE UPDATE OF effective_at, invalid_since ON revocation FOR EACH ROW
WHEN ((NEW.effective_at, NEW.invalid_since) IS DISTINCT FROM (OLD.effective_at, OLD.invalid_since))
EXECUTE FUNCTION guard_refuse('the dates of a revocation do not change');

-- Who may act: the last administrator stays, and an API client changes its certificate in
-- one way.

-- An administrator is in force who is not disabled and whose certificate is in force.
CREATE FUNCTION guard_other_admin(besides TEXT, at BIGINT) RETURNS boolean LANGUAGE sql AS $$
	SELECT EXISTS (SELECT 1 FROM operator o JOIN operator_role r ON r.operator = o.id AND r.role = 'admin'
		JOIN certificate k ON k.sha256 = o.cert_sha256 AND k.request = ''
		WHERE o.id <> besides AND o.disabled_at = 0 AND (k.revoked_at = 0 OR k.effective_at > at) AND k.not_after >= at)
$$;

CREATE FUNCTION guard_last_admin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT 1 FROM operator_role r WHERE r.operator = OLD.id AND r.role = 'admin') AND NOT guard_other_admin(OLD.id, NEW.disabled_at) THEN
		RAISE EXCEPTION 'the last administrator stays' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER operator_last_admin BEFORE UPDATE OF disabled_at ON operator FOR EACH ROW
WHEN (OLD.disabled_at = 0 AND NEW.disabled_at <> 0)
EXECUTE FUNCTION guard_last_admin();

CREATE FUNCTION guard_last_admin_role() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT 1 FROM operator o WHERE o.id = OLD.operator AND o.disabled_at = 0)
		AND NOT guard_other_admin(OLD.operator, (SELECT last_at FROM audit_tree)) THEN
		RAISE EXCEPTION 'the last administrator stays' USING ERRCODE = 'IK001';
	END IF;
	RETURN OLD;
END $$;

CREATE TRIGGER operator_role_last_admin BEFORE DELETE ON operator_role FOR EACH ROW
WHEN (OLD.role = 'admin')
EXECUTE FUNCTION guard_last_admin_role();

CREATE TRIGGER operator_keep BEFORE DELETE ON operator FOR EACH ROW
EXECUTE FUNCTION guard_refuse('operators are never deleted');

CREATE FUNCTION guard_client_renewed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = OLD.cert_sha256 AND k.request = '' AND k.revoked_at <> 0 AND k.reason <> 6
			AND (k.effective_at <= k.revoked_at OR k.effective_at <= (SELECT last_at FROM audit_tree)))
		OR NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = NEW.cert_sha256 AND k.request = '' AND k.profile = 'api-client' AND k.revoked_at = 0) THEN
		RAISE EXCEPTION 'the certificate of an API client is revoked before another takes its place' USING ERRCODE = 'IK001';
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER api_client_renewed BEFORE UPDATE OF cert_sha256 ON api_client FOR EACH ROW
WHEN (NEW.cert_sha256 IS DISTINCT FROM OLD.cert_sha256)
EXECUTE FUNCTION guard_client_renewed();

CREATE TRIGGER api_client_keep BEFORE DELETE ON api_client FOR EACH ROW
EXECUTE FUNCTION guard_refuse('API clients are never deleted');
