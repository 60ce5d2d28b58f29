-- The same refusals, asked only where a statement names one of the columns that they
-- are about: a step of a request names neither its origin nor its approved content.

DROP TRIGGER request_approval_stays;
CREATE TRIGGER request_approval_stays BEFORE UPDATE OF approved_by, content_hash, checked_by, terminal_name, email,
	maintenance_email, department, phone, payment_method ON request
WHEN (OLD.approved_by <> '' OR OLD.grant_id <> '') AND (NEW.approved_by IS NOT OLD.approved_by OR NEW.content_hash IS NOT OLD.content_hash
	OR NEW.checked_by IS NOT OLD.checked_by OR NEW.terminal_name IS NOT OLD.terminal_name OR NEW.email IS NOT OLD.email
	OR NEW.maintenance_email IS NOT OLD.maintenance_email OR NEW.department IS NOT OLD.department OR NEW.phone IS NOT OLD.phone
	OR NEW.payment_method IS NOT OLD.payment_method)
BEGIN SELECT RAISE(ABORT, 'what was approved does not change'); END;

DROP TRIGGER request_origin_stays;
CREATE TRIGGER request_origin_stays BEFORE UPDATE OF id, kind, source, holder_kind, holder_code, csr, entered_by, grant_id, client_id,
	idempotency, profile, key_type, predecessor, not_before, received_at ON request
WHEN NEW.id IS NOT OLD.id OR NEW.kind IS NOT OLD.kind OR NEW.source IS NOT OLD.source OR NEW.holder_kind IS NOT OLD.holder_kind
	OR NEW.holder_code IS NOT OLD.holder_code OR NEW.csr IS NOT OLD.csr OR NEW.entered_by IS NOT OLD.entered_by
	OR NEW.grant_id IS NOT OLD.grant_id OR NEW.client_id IS NOT OLD.client_id OR NEW.idempotency IS NOT OLD.idempotency
	OR NEW.profile IS NOT OLD.profile OR NEW.key_type IS NOT OLD.key_type
	OR NEW.predecessor IS NOT OLD.predecessor OR NEW.not_before IS NOT OLD.not_before OR NEW.received_at IS NOT OLD.received_at
BEGIN SELECT RAISE(ABORT, 'where a request came from does not change'); END;

DROP TRIGGER intent_stays;
CREATE TRIGGER intent_stays BEFORE UPDATE OF serial, issuer, profile, request, tbs, audit_index, audit_leaf ON intent
WHEN NEW.serial IS NOT OLD.serial OR NEW.issuer IS NOT OLD.issuer OR NEW.profile IS NOT OLD.profile OR NEW.request IS NOT OLD.request
	OR NEW.tbs IS NOT OLD.tbs OR NEW.audit_index IS NOT OLD.audit_index OR NEW.audit_leaf IS NOT OLD.audit_leaf
BEGIN SELECT RAISE(ABORT, 'an intent does not change'); END;

CREATE TRIGGER intent_closed BEFORE UPDATE ON intent
WHEN OLD.state <> 'open'
BEGIN SELECT RAISE(ABORT, 'an intent does not change'); END;
