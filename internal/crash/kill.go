//go:build crashpoints && unix

package crash

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// armed names the file that arms a point. It is there while a process is to die, and
// holds the point's name and, on a second line, "all" if the whole process group is
// to die with it, or "kill" or "stop" and the number of another process that this happens
// to instead: who passes the point goes on. A file, because the program must come up unharmed before it is
// killed in the middle of its work.
var armed = os.Getenv("INKAN_CRASH")

// Haste divides the size at which something rare happens.
const Haste = 512

// At kills this process as nothing else can, if the point is armed. Whoever takes the
// file away is the one: a point is passed by many, and kills once.
func At(point string) {
	text, err := os.ReadFile(armed)
	if err != nil {
		return
	}
	name, whom, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if name != point || os.Remove(armed) != nil {
		return
	}
	other := 0
	_, err = fmt.Sscanf(whom, "stop %d", &other)
	if err == nil {
		_ = syscall.Kill(other, syscall.SIGSTOP)
		return
	}
	_, err = fmt.Sscanf(whom, "kill %d", &other)
	if err == nil && other != os.Getpid() {
		_ = syscall.Kill(other, syscall.SIGKILL)
		return
	}
	pid := os.Getpid()
	if whom == "all" {
		pid = 0
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	select {} // the signal is on its way
}
