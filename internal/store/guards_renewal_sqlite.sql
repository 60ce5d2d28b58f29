-- A renewal needs no approval, so it is of a certificate of the same holder that was
-- approved once, and of nothing else.
CREATE TRIGGER request_renewal_of BEFORE INSERT ON request
WHEN NEW.kind = 'renewal' OR NEW.predecessor <> ''
BEGIN SELECT RAISE(ABORT, 'a renewal is of the same holder''s certificate')
	WHERE NEW.kind <> 'renewal' OR NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = NEW.predecessor AND c.request <> ''
		AND c.holder_kind = NEW.holder_kind AND c.holder_code = NEW.holder_code AND c.terminal = NEW.terminal_name); END;
