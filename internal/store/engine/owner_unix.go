//go:build unix

package engine

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// foreignOwner names the account that a file belongs to, or its number where it has no
// name; "" where that is the account that runs this program.
func foreignOwner(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return ""
	}
	number := strconv.FormatUint(uint64(stat.Uid), 10)
	u, err := user.LookupId(number)
	if err != nil {
		return number
	}
	return u.Username
}
