package portal

import (
	"strconv"
	"strings"
)

// oldWindows says whether a browser runs on Windows 8.1 (NT 6.3) or older, which reads
// only the legacy form. Windows 10 and 11 both say NT 10.0 and never count as old
// (threat DL6).
func oldWindows(userAgent string) bool {
	_, rest, ok := strings.Cut(userAgent, "Windows NT ")
	if !ok {
		return false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end >= 0 {
		rest = rest[:end]
	}
	major, minor, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(major)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(minor)
	return err == nil && (m < 6 || m == 6 && n <= 3)
}

// system picks the instructions that are open at first; all of them are there.
func system(userAgent string) string {
	switch {
	case oldWindows(userAgent):
		return "windows81"
	case strings.Contains(userAgent, "Mac OS X"):
		return "mac"
	case strings.Contains(userAgent, "Linux"), strings.Contains(userAgent, "X11"):
		return "linux"
	}
	return "windows"
}
