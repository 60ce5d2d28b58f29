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

CREATE TRIGGER request_approval_stays BEFORE UPDATE OF approved_by, content_hash, checked_by, terminal_name, email,
	maintenance_email, department, phone, payment_method ON request
WHEN (OLD.approved_by <> '' OR OLD.grant_id <> '') AND (NEW.approved_by IS NOT OLD.approved_by OR NEW.content_hash IS NOT OLD.content_hash
	OR NEW.checked_by IS NOT OLD.checked_by OR NEW.terminal_name IS NOT OLD.terminal_name OR NEW.email IS NOT OLD.email
	OR NEW.maintenance_email IS NOT OLD.maintenance_email OR NEW.department IS NOT OLD.department OR NEW.phone IS NOT OLD.phone
	OR NEW.payment_method IS NOT OLD.payment_method)
BEGIN SELECT RAISE(ABORT, 'what was approved does not change'); END;

CREATE TRIGGER request_origin_stays BEFORE UPDATE OF id, kind, source, holder_kind, holder_code, csr, entered_by, grant_id, client_id,
	idempotency, profile, key_type, predecessor, not_before, received_at ON request
WHEN NEW.id IS NOT OLD.id OR NEW.kind IS NOT OLD.kind OR NEW.source IS NOT OLD.source OR NEW.holder_kind IS NOT OLD.holder_kind
	OR NEW.holder_code IS NOT OLD.holder_code OR NEW.csr IS NOT OLD.csr OR NEW.entered_by IS NOT OLD.entered_by
	OR NEW.grant_id IS NOT OLD.grant_id OR NEW.client_id IS NOT OLD.client_id OR NEW.idempotency IS NOT OLD.idempotency
	OR NEW.profile IS NOT OLD.profile OR NEW.key_type IS NOT OLD.key_type
	OR NEW.predecessor IS NOT OLD.predecessor OR NEW.not_before IS NOT OLD.not_before OR NEW.received_at IS NOT OLD.received_at
BEGIN SELECT RAISE(ABORT, 'where a request came from does not change'); END;

CREATE TRIGGER request_keep BEFORE DELETE ON request
BEGIN SELECT RAISE(ABORT, 'requests are never deleted'); END;

CREATE TRIGGER request_editor_stays BEFORE UPDATE ON request_editor
BEGIN SELECT RAISE(ABORT, 'editors are append-only'); END;

CREATE TRIGGER request_editor_keep BEFORE DELETE ON request_editor
BEGIN SELECT RAISE(ABORT, 'editors are append-only'); END;

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

CREATE TRIGGER certificate_keep BEFORE DELETE ON certificate
BEGIN SELECT RAISE(ABORT, 'certificates are never deleted'); END;

-- Who may act. Roles that exclude each other, operators' keys, statements once used.
CREATE TRIGGER role_conflict_stays BEFORE UPDATE ON role_conflict
BEGIN SELECT RAISE(ABORT, 'roles that exclude each other stay so'); END;

CREATE TRIGGER role_conflict_keep BEFORE DELETE ON role_conflict
BEGIN SELECT RAISE(ABORT, 'roles that exclude each other stay so'); END;

CREATE TRIGGER operator_role_stays BEFORE UPDATE ON operator_role
BEGIN SELECT RAISE(ABORT, 'a role is given or taken, not changed'); END;

CREATE TRIGGER operator_stays BEFORE UPDATE ON operator
WHEN NEW.id IS NOT OLD.id OR NEW.cert_sha256 IS NOT OLD.cert_sha256 OR (OLD.disabled_at <> 0 AND NEW.disabled_at IS NOT OLD.disabled_at)
BEGIN SELECT RAISE(ABORT, 'an operator and its key do not change'); END;

CREATE TRIGGER statement_stays BEFORE UPDATE ON statement
BEGIN SELECT RAISE(ABORT, 'statements are append-only'); END;

CREATE TRIGGER statement_keep BEFORE DELETE ON statement
BEGIN SELECT RAISE(ABORT, 'statements are append-only'); END;

CREATE TRIGGER api_client_stays BEFORE UPDATE ON api_client
WHEN NEW.id IS NOT OLD.id OR NEW.role IS NOT OLD.role OR NEW.created_at IS NOT OLD.created_at
	OR (OLD.disabled_at <> 0 AND (NEW.disabled_at IS NOT OLD.disabled_at OR NEW.cert_sha256 IS NOT OLD.cert_sha256))
BEGIN SELECT RAISE(ABORT, 'an API client does not change, and one that is disabled gets no other key'); END;

CREATE TRIGGER issue_grant_stays BEFORE UPDATE ON issue_grant
WHEN NEW.id IS NOT OLD.id OR NEW.client IS NOT OLD.client OR NEW.kinds IS NOT OLD.kinds OR NEW.prefectures IS NOT OLD.prefectures
	OR NEW.per_day IS NOT OLD.per_day OR NEW.total IS NOT OLD.total OR NEW.ends_at IS NOT OLD.ends_at OR NEW.made_by IS NOT OLD.made_by
	OR NEW.used < OLD.used OR (OLD.approved_by <> '' AND NEW.approved_by IS NOT OLD.approved_by)
	OR (OLD.revoked_at <> 0 AND NEW.revoked_at IS NOT OLD.revoked_at)
BEGIN SELECT RAISE(ABORT, 'a grant does not change'); END;

CREATE TRIGGER issue_grant_born BEFORE INSERT ON issue_grant
WHEN NEW.approved_by <> '' OR NEW.used <> 0 OR NEW.revoked_at <> 0
BEGIN SELECT RAISE(ABORT, 'a grant is approved by another person later'); END;

CREATE TRIGGER issue_grant_keep BEFORE DELETE ON issue_grant
BEGIN SELECT RAISE(ABORT, 'grants are never deleted'); END;

-- Keys and what we signed.
CREATE TRIGGER public_key_stays BEFORE UPDATE ON public_key
WHEN NEW.spki_sha256 IS NOT OLD.spki_sha256 OR NEW.owner IS NOT OLD.owner
BEGIN SELECT RAISE(ABORT, 'a public key keeps its owner'); END;

CREATE TRIGGER public_key_keep BEFORE DELETE ON public_key
BEGIN SELECT RAISE(ABORT, 'a public key keeps its owner'); END;

CREATE TRIGGER sealed_key_stays BEFORE UPDATE ON sealed_key
WHEN NEW.id IS NOT OLD.id OR NEW.spki IS NOT OLD.spki OR NEW.spki_sha256 IS NOT OLD.spki_sha256
	OR (OLD.stage = 'destroyed') OR (OLD.request <> '' AND NEW.request IS NOT OLD.request)
BEGIN SELECT RAISE(ABORT, 'a key and its request do not change'); END;

CREATE TRIGGER intent_stays BEFORE UPDATE OF serial, issuer, profile, request, tbs, audit_index, audit_leaf ON intent
WHEN NEW.serial IS NOT OLD.serial OR NEW.issuer IS NOT OLD.issuer OR NEW.profile IS NOT OLD.profile OR NEW.request IS NOT OLD.request
	OR NEW.tbs IS NOT OLD.tbs OR NEW.audit_index IS NOT OLD.audit_index OR NEW.audit_leaf IS NOT OLD.audit_leaf
BEGIN SELECT RAISE(ABORT, 'an intent does not change'); END;

CREATE TRIGGER intent_keep BEFORE DELETE ON intent
BEGIN SELECT RAISE(ABORT, 'intents are never deleted'); END;

CREATE TRIGGER operator_account_stays BEFORE UPDATE ON operator
WHEN NEW.os_user IS NOT OLD.os_user OR NEW.os_uid IS NOT OLD.os_uid
BEGIN SELECT RAISE(ABORT, 'the account of an operator does not change'); END;

-- A renewal needs no approval, so it is of a certificate of the same holder that was
-- approved once, and of nothing else.
CREATE TRIGGER request_renewal_of BEFORE INSERT ON request
WHEN NEW.kind = 'renewal' OR NEW.predecessor <> ''
BEGIN SELECT RAISE(ABORT, 'a renewal is of the same holder''s certificate')
	WHERE NEW.kind <> 'renewal' OR NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = NEW.predecessor AND c.request <> ''
		AND c.holder_kind = NEW.holder_kind AND c.holder_code = NEW.holder_code AND c.terminal = NEW.terminal_name); END;

-- The same refusals, asked only where a statement names one of the columns that they
-- are about: a step of a request names neither its origin nor its approved content.

CREATE TRIGGER intent_closed BEFORE UPDATE ON intent
WHEN OLD.state <> 'open'
BEGIN SELECT RAISE(ABORT, 'an intent does not change'); END;

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
	WHERE NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'lifted' AND r.decided_at > OLD.revoked_at
		AND (OLD.reason = 6 OR r.decided_at < OLD.effective_at)); END;

-- The dates of revocations. What was revoked stays so, but a revocation dated forward may,
-- before it counts, be brought forward or be lifted by two.

CREATE TRIGGER certificate_dates BEFORE UPDATE OF revoked_at, reason, effective_at, invalid_since ON certificate
WHEN NEW.effective_at < NEW.revoked_at OR (NEW.effective_at > NEW.revoked_at AND (NEW.revoked_at = 0 OR NEW.reason IN (1, 2, 6)))
	OR (NEW.invalid_since <> 0 AND (NEW.invalid_since >= NEW.revoked_at OR NEW.invalid_since < NEW.not_before))
BEGIN SELECT RAISE(ABORT, 'a revocation counts from its commit, or later unless for a compromise'); END;

CREATE TRIGGER certificate_invalid BEFORE UPDATE OF invalid_since ON certificate
WHEN NEW.invalid_since <> 0 AND NEW.invalid_since IS NOT OLD.invalid_since
BEGIN SELECT RAISE(ABORT, 'since when a certificate was invalid is the word of two')
	WHERE NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = NEW.serial AND r.state = 'revoked' AND r.invalid_since = NEW.invalid_since
		AND r.decided_by <> r.asked_by); END;

CREATE TRIGGER revocation_dates_stay BEFORE UPDATE OF effective_at, invalid_since ON revocation
WHEN NEW.effective_at IS NOT OLD.effective_at OR NEW.invalid_since IS NOT OLD.invalid_since
BEGIN SELECT RAISE(ABORT, 'the dates of a revocation do not change'); END;

-- Who may act: the last administrator stays, and an API client changes its certificate in
-- one way.

-- An administrator is in force who is not disabled and whose certificate is in force.
CREATE TRIGGER operator_last_admin BEFORE UPDATE OF disabled_at ON operator
WHEN OLD.disabled_at = 0 AND NEW.disabled_at <> 0
BEGIN SELECT RAISE(ABORT, 'the last administrator stays')
	WHERE EXISTS (SELECT 1 FROM operator_role r WHERE r.operator = OLD.id AND r.role = 'admin')
	AND NOT EXISTS (SELECT 1 FROM operator o JOIN operator_role r ON r.operator = o.id AND r.role = 'admin'
		JOIN certificate k ON k.sha256 = o.cert_sha256 AND k.request = ''
		WHERE o.id <> OLD.id AND o.disabled_at = 0 AND (k.revoked_at = 0 OR k.effective_at > NEW.disabled_at) AND k.not_after >= NEW.disabled_at); END;

CREATE TRIGGER operator_role_last_admin BEFORE DELETE ON operator_role
WHEN OLD.role = 'admin'
BEGIN SELECT RAISE(ABORT, 'the last administrator stays')
	FROM audit_tree t WHERE EXISTS (SELECT 1 FROM operator o WHERE o.id = OLD.operator AND o.disabled_at = 0)
	AND NOT EXISTS (SELECT 1 FROM operator o JOIN operator_role r ON r.operator = o.id AND r.role = 'admin'
		JOIN certificate k ON k.sha256 = o.cert_sha256 AND k.request = ''
		WHERE o.id <> OLD.operator AND o.disabled_at = 0 AND (k.revoked_at = 0 OR k.effective_at > t.last_at) AND k.not_after >= t.last_at); END;

CREATE TRIGGER operator_keep BEFORE DELETE ON operator
BEGIN SELECT RAISE(ABORT, 'operators are never deleted'); END;

CREATE TRIGGER api_client_renewed BEFORE UPDATE OF cert_sha256 ON api_client
WHEN NEW.cert_sha256 IS NOT OLD.cert_sha256
BEGIN SELECT RAISE(ABORT, 'the certificate of an API client is revoked before another takes its place')
	WHERE NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = OLD.cert_sha256 AND k.request = '' AND k.revoked_at <> 0 AND k.reason <> 6
		AND (k.effective_at <= k.revoked_at OR k.effective_at <= (SELECT last_at FROM audit_tree)))
	OR NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = NEW.cert_sha256 AND k.request = '' AND k.profile = 'api-client' AND k.revoked_at = 0); END;

CREATE TRIGGER api_client_keep BEFORE DELETE ON api_client
BEGIN SELECT RAISE(ABORT, 'API clients are never deleted'); END;
