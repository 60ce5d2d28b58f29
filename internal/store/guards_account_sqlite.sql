CREATE TRIGGER operator_account_stays BEFORE UPDATE ON operator
WHEN NEW.os_user IS NOT OLD.os_user OR NEW.os_uid IS NOT OLD.os_uid
BEGIN SELECT RAISE(ABORT, 'the account of an operator does not change'); END;
