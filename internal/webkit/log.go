package webkit

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// secretAfter are the parts of a path behind which a secret stands: a ticket, and the
// tokens of mailed links.
var secretAfter = []string{"/t/", "/c/", "/l/"}

// SafePath is the path as a log may hold it: what follows a ticket's or a link's mark
// is left out (threat DL7); queries are never logged.
func SafePath(r *http.Request) string {
	path := r.URL.Path
	for _, mark := range secretAfter {
		before, _, found := strings.Cut(path, mark)
		if found {
			return before + mark + "…"
		}
	}
	if len(path) > 200 {
		return path[:200] + "…"
	}
	return path
}

// Visit is what may be counted of a request: nothing in it grows with the number of
// holders, addresses or tries (threat PL4).
type Visit struct {
	Zone   string
	Route  string // the pattern of the mux; "" where no route was reached
	Status int
	Code   string // of the failure, if it was one
	Took   time.Duration
}

// Recorder is told of every answered request.
type Recorder struct {
	Now    func() time.Time
	Record func(Visit)
}

// Watch tells the recorder what became of each request.
func (c Recorder) Watch(zone string, next http.Handler) http.Handler {
	if c.Record == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tracked := &statusWriter{ResponseWriter: w}
		began := c.Now()
		defer func() {
			v := Visit{Zone: zone, Route: r.Pattern, Status: tracked.status, Took: c.Now().Sub(began)}
			if t := traceOf(r.Context()); t != nil {
				v.Code = t.code
			}
			c.Record(v)
		}()
		next.ServeHTTP(tracked, r)
	})
}

// trace follows one request through the log.
type trace struct {
	lookup string // the code that the person is told
	code   string // of the failure
}

type traceKey struct{}

func traceOf(ctx context.Context) *trace {
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

// Trace gives every request its look-up code: the access record, whatever else is
// logged with the request's context, the failure's record and the page or document that
// the other end gets have the same.
func Trace(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), traceKey{}, &trace{lookup: NewLookup()})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// failed notes what a request failed with, and gives a context that has its look-up
// code.
func failed(r *http.Request, code string) context.Context {
	ctx := r.Context()
	t := traceOf(ctx)
	if t == nil { // outside every zone
		t = &trace{lookup: NewLookup()}
		ctx = context.WithValue(ctx, traceKey{}, t)
	}
	t.code = code
	return ctx
}

// AccessLog writes one record a request, without secrets.
func (rep *Reporter) AccessLog(zone string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tracked := &statusWriter{ResponseWriter: w}
		defer func() {
			rep.log.InfoContext(r.Context(), "access", "zone", zone, "method", r.Method, "path", SafePath(r), "status", tracked.status,
				"bytes", tracked.bytes, "source", Source(r), "proto", r.Proto)
		}()
		next.ServeHTTP(tracked, r)
	})
}

// correlated adds the look-up code of the request to what is logged with its context.
type correlated struct{ slog.Handler }

// Correlate makes a handler whose records name the request that they belong to.
func Correlate(h slog.Handler) slog.Handler {
	done, ok := h.(correlated)
	if ok {
		return done
	}
	return correlated{h}
}

func (h correlated) Handle(ctx context.Context, r slog.Record) error {
	if t := traceOf(ctx); t != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("lookup", t.lookup))
	}
	return h.Handler.Handle(ctx, r)
}

func (h correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return correlated{h.Handler.WithAttrs(attrs)}
}

func (h correlated) WithGroup(name string) slog.Handler {
	return correlated{h.Handler.WithGroup(name)}
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController and http.MaxBytesReader reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
