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
