//go:build unix

package keystore

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ForeignOwner says whether a file belongs to another account than the one that runs this
// program, and gives the names of both, or their numbers where they have no name. Mode 0600
// keeps a secret to its owner, whoever that is (threat PL2).
func ForeignOwner(info fs.FileInfo) (owner, runs string, foreign bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return "", "", false
	}
	return accountName(int(stat.Uid)), accountName(os.Geteuid()), true
}

func accountName(uid int) string {
	number := strconv.Itoa(uid)
	u, err := user.LookupId(number)
	if err != nil {
		return number
	}
	return u.Username
}
