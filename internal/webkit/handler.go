package webkit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"runtime/debug"

	"inkan/internal/i18n"
	"inkan/internal/pki"
)

// Handler answers a request or says why it could not. It must not have written
// anything when it returns an error.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Failure is the public half of an error, ready to be drawn.
type Failure struct {
	Status int
	Class  pki.Class
	Code   string
	Args   map[string]any
	Lookup string // eight digits; the same number stands in the log
	Lang   string
}

// Draw draws a failure for one audience: a page, a problem+json document. When it
// returns an error it must not have written anything.
type Draw func(w http.ResponseWriter, r *http.Request, f Failure) error

// Reporter is the one place where an error becomes an answer and a log record.
type Reporter struct {
	log   *slog.Logger
	draw  Draw
	plain map[string][]byte // by language, drawn at start, with a hole for the code
}

const hole = "0000 0000"

// NewReporter makes a reporter. The last-resort pages are composed now, so that
// reporting a failure needs nothing that can fail. draw may be nil: then they are
// all there is.
func NewReporter(log *slog.Logger, draw Draw) *Reporter {
	rep := &Reporter{log: slog.New(Correlate(log.Handler())), draw: draw, plain: map[string][]byte{}}
	for _, lang := range i18n.Languages {
		rep.plain[lang] = fmt.Appendf(nil, "<!doctype html>\n<html lang=\"%s\">\n<meta charset=\"utf-8\">\n<title>%s</title>\n<h1>%s</h1>\n<p>%s</p>\n<p>%s</p>\n",
			lang, i18n.Text(lang, "error.internal.title", nil), i18n.Text(lang, "error.internal.title", nil),
			i18n.Text(lang, "error.internal", nil), i18n.Text(lang, "lookup", map[string]any{"Lookup": hole}))
	}
	return rep
}

// Handle makes an http.Handler of a Handler.
func (rep *Reporter) Handle(h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err != nil {
			rep.Fail(w, r, err)
		}
	})
}

// Fail reports an error: its private half to the log, its public half to the person,
// joined by a look-up code.
func (rep *Reporter) Fail(w http.ResponseWriter, r *http.Request, err error) {
	f := rep.Note(r, err)
	if rep.draw != nil {
		drawErr := rep.draw(w, r, f)
		if drawErr == nil {
			return
		}
		rep.log.ErrorContext(r.Context(), "failure could not be drawn", "err", drawErr)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(f.Status)
	_, _ = w.Write(bytes.Replace(rep.plain[f.Lang], []byte(hole), []byte(SpokenLookup(f.Lookup)), 1))
}

// Note writes the log record of an error and gives the public half, for handlers that
// draw it inside a page of their own (a form with its mistakes).
func (rep *Reporter) Note(r *http.Request, err error) Failure {
	f := Failure{Class: pki.ClassOf(err), Code: pki.CodeOf(err), Args: i18n.ArgsOf(err), Lang: Lang(r)}
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	if isTooLarge {
		f.Class, f.Code, f.Args = pki.Invalid, "http.too_large", map[string]any{"Limit": tooLarge.Limit}
	}
	f.Status = Status(f.Class)
	if isTooLarge {
		f.Status = http.StatusRequestEntityTooLarge
	}
	ctx := failed(r, f.Code)
	f.Lookup = traceOf(ctx).lookup
	level := slog.LevelInfo
	if f.Class == pki.Internal {
		level = slog.LevelError
	}
	rep.log.Log(ctx, level, "request refused", "class", f.Class, "code", f.Code,
		"method", r.Method, "path", SafePath(r), "source", Source(r), "err", err)
	return f
}

// Status gives the HTTP status of a class of errors. This is the only such table; what
// a zone says of HTTP itself stands beside it.
func Status(c pki.Class) int {
	switch c {
	case pki.Invalid:
		return http.StatusUnprocessableEntity
	case pki.NotFound:
		return http.StatusNotFound
	case pki.Conflict, pki.NotYet:
		return http.StatusConflict
	case pki.Forbidden:
		return http.StatusForbidden
	case pki.Limited:
		return http.StatusTooManyRequests
	case pki.Gone:
		return http.StatusGone
	case pki.Busy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Recover turns a panic into a failure. The record holds the value's type and the
// stack, never the value: it may be an error text with a PIN in it (threat DL11).
func (rep *Reporter) Recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			value := recover()
			if value == nil {
				return
			}
			if value == http.ErrAbortHandler { //nolint:errorlint // net/http compares so
				panic(value)
			}
			rep.log.ErrorContext(r.Context(), "panic", "type", fmt.Sprintf("%T", value), "method", r.Method, "path", SafePath(r), "stack", string(debug.Stack()))
			tracked, ok := w.(*statusWriter)
			if ok && tracked.status != 0 {
				panic(http.ErrAbortHandler) // half an answer is out: cut it, so that nobody takes it for a whole one
			}
			rep.Fail(w, r, pki.E(pki.Internal, "internal").Because(fmt.Errorf("panic of type %T", value)))
		}()
		next.ServeHTTP(w, r)
	})
}

// NewLookup draws a look-up code: eight digits, heard best on the telephone. It is a
// name of a log record, not a secret.
func NewLookup() string {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return "00000000" // never: crypto/rand ends the process instead
	}
	return fmt.Sprintf("%08d", n)
}

// SpokenLookup groups a look-up code as it is shown and read aloud.
func SpokenLookup(code string) string {
	if len(code) != 8 {
		return code
	}
	return code[:4] + " " + code[4:]
}
