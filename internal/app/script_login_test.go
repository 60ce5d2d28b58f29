package app_test

import (
	"fmt"
	"os/exec"
	"os/user"

	"inkan/internal/testkit"

	"github.com/rogpeppe/go-internal/testscript"
)

// enter sets who logged in, as pam_loginuid does, and becomes the command.
const enter = `echo "$0" >/proc/self/loginuid && exec "$@"`

// conditions: [login] is there where a test may say who logged in. In CI it must.
func conditions(cond string) (bool, error) {
	if cond != "login" {
		return false, fmt.Errorf("unknown condition %s", cond)
	}
	out, err := exec.Command("sh", "-c", enter, "1", "true").CombinedOutput()
	if err != nil && testkit.InCI() {
		return false, fmt.Errorf("set login uid: %w: %s", err, out)
	}
	return err == nil, nil
}

// login ACCOUNT ARGS…: runs inkan after a log-in under the account (a name, a number, or -
// for nobody's); with !, it must be refused.
func login(ts *testscript.TestScript, neg bool, args []string) {
	number := args[0]
	u, err := user.Lookup(number)
	switch {
	case number == "-":
		number = "4294967295"
	case err == nil:
		number = u.Uid
	}
	err = ts.Exec("sh", append([]string{"-c", enter, number, "inkan"}, args[1:]...)...)
	if neg {
		ended(ts, 1, err)
		return
	}
	ts.Check(err)
}
