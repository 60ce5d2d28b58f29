package pki

import (
	"regexp"
	"strings"
)

// FormFaults is Faults of what a holder types on the site, which asks for more than an
// operator who has the institution on the telephone: whom to call back, and a name of
// the terminal by which its place is found.
func (a Application) FormFaults() []Fault {
	faults := a.Faults(FromSite)
	for _, need := range []Fault{
		{"department", missing(a.Department, "department.missing")},
		{"phone", missing(a.Phone, "phone.missing")},
		{"terminalName", terminalOfSystem(a.TerminalName)},
	} {
		if need.Err != nil {
			faults = append(faults, need)
		}
	}
	return faults
}

func missing(s, code string) *Error {
	if s == "" {
		return E(Invalid, code)
	}
	return nil
}

// systemNames are what many people type who are asked for the name of a terminal.
var systemNames = regexp.MustCompile(`^(windows|win|macos|mac|linux)[ 　]*(xp|vista|[0-9.]*)[ 　]*(pro|home|enterprise)?$`)

func terminalOfSystem(name string) *Error {
	if systemNames.MatchString(strings.ToLower(narrow(name))) {
		return E(Invalid, "terminal.system")
	}
	return nil
}

// narrow turns full-width ASCII into ASCII.
func narrow(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '！' && r <= '～' {
			return r - '！' + '!'
		}
		return r
	}, s)
}
