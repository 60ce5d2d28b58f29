package pki

import (
	"errors"
	"fmt"
)

// Class says what kind of refusal an error is. Edges map it to an HTTP status or
// an exit code in exactly one place each.
type Class string

// The classes. Anything that is not a *Error is Internal.
const (
	Invalid   Class = "invalid"   // the input is wrong; the caller can mend it
	NotFound  Class = "not_found" // there is no such thing (or it is not yours to know)
	Conflict  Class = "conflict"  // somebody was faster; re-read and look again
	Forbidden Class = "forbidden" // understood and refused
	Limited   Class = "limited"   // too many, too fast; wait
	NotYet    Class = "not_yet"   // right, but too early
	Gone      Class = "gone"      // right, but too late
	Busy      Class = "busy"      // a part we need is away; try again
	Internal  Class = "internal"
)

// Error has a public half (Code, a key of the i18n catalogues, with Args) and a
// private half (the cause, for the log). Error() gives the private text; it must
// never reach a person. The catalogue key of the public text is "error." + Code,
// of the advice "error." + Code + ".hint".
type Error struct {
	Class Class
	Code  string         // for example "holder.code_check"; stable, told to the help desk
	Args  map[string]any // arguments of the public text; never a secret
	cause error
}

// E makes an error without a private cause.
func E(class Class, code string) *Error { return &Error{Class: class, Code: code} }

// With returns a copy that carries one more public argument.
func (e *Error) With(name string, value any) *Error {
	args := make(map[string]any, len(e.Args)+1)
	for k, v := range e.Args {
		args[k] = v
	}
	args[name] = value
	return &Error{Class: e.Class, Code: e.Code, Args: args, cause: e.cause}
}

// Because returns a copy that carries the private cause.
func (e *Error) Because(cause error) *Error {
	return &Error{Class: e.Class, Code: e.Code, Args: e.Args, cause: cause}
}

// Error gives the text for the log.
func (e *Error) Error() string {
	text := e.Code
	if len(e.Args) > 0 {
		text += fmt.Sprintf(" %v", e.Args)
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the private cause.
func (e *Error) Unwrap() error { return e.cause }

// Is matches errors of the same code, so that callers may branch with errors.Is
// on the sentinels below.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// ClassOf gives the class of any error; Internal for those that are not ours.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return Internal
}

// CodeOf gives the code of any error; "internal" for those that are not ours.
func CodeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return "internal"
}

// Sentinels that callers branch on.
var (
	ErrNotFound = E(NotFound, "not_found")
	ErrConflict = E(Conflict, "conflict")
)
