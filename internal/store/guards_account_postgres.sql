CREATE TRIGGER operator_account_stays BEFORE UPDATE ON operator FOR EACH ROW
WHEN ((NEW.os_user, NEW.os_uid) IS DISTINCT FROM (OLD.os_user, OLD.os_uid))
EXECUTE FUNCTION guard_refuse('the account of an operator does not change');
