//go:build unix

package app

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
)

func osUserFlag(cmd *cobra.Command, account *string) {
	cmd.Flags().StringVar(account, "os-user", "", "account of this machine that the person logs in under: proves --as without --key")
}

// accountOf finds an account of this machine by its name; "" is none.
func accountOf(name string) (pki.Account, error) {
	if name == "" {
		return pki.Account{}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return pki.Account{}, pki.E(pki.Invalid, "operator.account_unknown").With("Account", name).Because(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return pki.Account{}, fmt.Errorf("read number of account: %w", err)
	}
	return pki.Account{Name: u.Username, UID: uint32(uid)}, nil
}

// login says which account somebody logged in under to start this process. At log-in
// pam_loginuid tells the kernel, which keeps it through su and sudo and lets nobody but
// root change it. Where it was never set anybody may set it, once; so where sudo
// started us it must also be the account that sudo was called from (threat CO1).
// Systems other than Linux have no such file.
func login() (pki.Account, error) {
	// In a user namespace numbers may be made to mean other accounts.
	raw, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return pki.Account{}, fmt.Errorf("read uid map: %w", err)
	}
	if strings.Join(strings.Fields(string(raw)), " ") != fmt.Sprintf("0 0 %d", uint32(math.MaxUint32)) {
		return pki.Account{}, errors.New("numbers of accounts are mapped in this user namespace")
	}
	raw, err = os.ReadFile("/proc/self/loginuid")
	if err != nil {
		return pki.Account{}, fmt.Errorf("read login uid: %w", err)
	}
	number := strings.TrimSpace(string(raw))
	uid, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return pki.Account{}, fmt.Errorf("read login uid: %w", err)
	}
	if uid == math.MaxUint32 {
		return pki.Account{}, errors.New("nobody logged in to start this process")
	}
	caller, bySudo := os.LookupEnv("SUDO_UID")
	if bySudo && caller != number {
		return pki.Account{}, fmt.Errorf("login uid is %s, but %s called sudo", number, caller)
	}
	u, err := user.LookupId(number)
	if err != nil {
		return pki.Account{}, fmt.Errorf("find account of login uid: %w", err)
	}
	return pki.Account{Name: u.Username, UID: uint32(uid)}, nil
}

// sharedAccounts are those that the instance belongs to and runs under.
func sharedAccounts(dir string) ([]uint32, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, &fs.PathError{Op: "find owner of", Path: dir, Err: errors.ErrUnsupported}
	}
	return []uint32{owner.Uid, uint32(os.Geteuid())}, nil
}
