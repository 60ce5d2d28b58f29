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

DROP TRIGGER api_client_stays ON api_client;
CREATE TRIGGER api_client_stays BEFORE UPDATE ON api_client FOR EACH ROW
WHEN ((NEW.id, NEW.role, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.role, OLD.created_at)
	OR (OLD.disabled_at <> 0 AND (NEW.disabled_at, NEW.cert_sha256) IS DISTINCT FROM (OLD.disabled_at, OLD.cert_sha256)))
EXECUTE FUNCTION guard_refuse('an API client does not change, and one that is disabled gets no other key');

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
