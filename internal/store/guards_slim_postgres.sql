-- The same refusals, asked only where a statement names one of the columns that they
-- are about: a step of a request names neither its origin nor its approved content.

DROP TRIGGER request_second_person ON request;
CREATE TRIGGER request_second_person BEFORE UPDATE OF approved_by ON request FOR EACH ROW
WHEN (NEW.approved_by <> '')
EXECUTE FUNCTION guard_second_person();

DROP TRIGGER request_approval_stays ON request;
CREATE TRIGGER request_approval_stays BEFORE UPDATE OF approved_by, content_hash, checked_by, terminal_name, email,
	maintenance_email, department, phone, payment_method ON request FOR EACH ROW
WHEN ((OLD.approved_by <> '' OR OLD.grant_id <> '') AND (NEW.approved_by, NEW.content_hash, NEW.checked_by, NEW.terminal_name, NEW.email,
	NEW.maintenance_email, NEW.department, NEW.phone, NEW.payment_method)
	IS DISTINCT FROM (OLD.approved_by, OLD.content_hash, OLD.checked_by, OLD.terminal_name, OLD.email,
	OLD.maintenance_email, OLD.department, OLD.phone, OLD.payment_method))
EXECUTE FUNCTION guard_refuse('what was approved does not change');

DROP TRIGGER request_origin_stays ON request;
CREATE TRIGGER request_origin_stays BEFORE UPDATE OF id, kind, source, holder_kind, holder_code, csr, entered_by, grant_id, client_id,
	idempotency, profile, key_type, predecessor, not_before, received_at ON request FOR EACH ROW
WHEN ((NEW.id, NEW.kind, NEW.source, NEW.holder_kind, NEW.holder_code, NEW.csr, NEW.entered_by, NEW.grant_id, NEW.client_id,
	NEW.idempotency, NEW.profile, NEW.key_type, NEW.predecessor, NEW.not_before, NEW.received_at)
	IS DISTINCT FROM (OLD.id, OLD.kind, OLD.source, OLD.holder_kind, OLD.holder_code, OLD.csr, OLD.entered_by, OLD.grant_id, OLD.client_id,
	OLD.idempotency, OLD.profile, OLD.key_type, OLD.predecessor, OLD.not_before, OLD.received_at))
EXECUTE FUNCTION guard_refuse('where a request came from does not change');

DROP TRIGGER intent_stays ON intent;
CREATE TRIGGER intent_stays BEFORE UPDATE OF serial, issuer, profile, request, tbs, audit_index, audit_leaf ON intent FOR EACH ROW
WHEN ((NEW.serial, NEW.issuer, NEW.profile, NEW.request, NEW.tbs, NEW.audit_index, NEW.audit_leaf)
	IS DISTINCT FROM (OLD.serial, OLD.issuer, OLD.profile, OLD.request, OLD.tbs, OLD.audit_index, OLD.audit_leaf))
EXECUTE FUNCTION guard_refuse('an intent does not change');

CREATE TRIGGER intent_closed BEFORE UPDATE ON intent FOR EACH ROW
WHEN (OLD.state <> 'open')
EXECUTE FUNCTION guard_refuse('an intent does not change');
