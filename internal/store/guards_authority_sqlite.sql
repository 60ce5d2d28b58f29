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

DROP TRIGGER api_client_stays;
CREATE TRIGGER api_client_stays BEFORE UPDATE ON api_client
WHEN NEW.id IS NOT OLD.id OR NEW.role IS NOT OLD.role OR NEW.created_at IS NOT OLD.created_at
	OR (OLD.disabled_at <> 0 AND (NEW.disabled_at IS NOT OLD.disabled_at OR NEW.cert_sha256 IS NOT OLD.cert_sha256))
BEGIN SELECT RAISE(ABORT, 'an API client does not change, and one that is disabled gets no other key'); END;

CREATE TRIGGER api_client_renewed BEFORE UPDATE OF cert_sha256 ON api_client
WHEN NEW.cert_sha256 IS NOT OLD.cert_sha256
BEGIN SELECT RAISE(ABORT, 'the certificate of an API client is revoked before another takes its place')
	WHERE NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = OLD.cert_sha256 AND k.request = '' AND k.revoked_at <> 0 AND k.reason <> 6
		AND (k.effective_at <= k.revoked_at OR k.effective_at <= (SELECT last_at FROM audit_tree)))
	OR NOT EXISTS (SELECT 1 FROM certificate k WHERE k.sha256 = NEW.cert_sha256 AND k.request = '' AND k.profile = 'api-client' AND k.revoked_at = 0); END;

CREATE TRIGGER api_client_keep BEFORE DELETE ON api_client
BEGIN SELECT RAISE(ABORT, 'API clients are never deleted'); END;
