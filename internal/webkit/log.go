package webkit

import (
	"net/http"
	"strings"
)

// SafePath is the path as a log may hold it: what follows a /t/ is a ticket and is
// left out (threat DL7); queries are never logged.
func SafePath(r *http.Request) string {
	path := r.URL.Path
	before, _, ticket := strings.Cut(path, "/t/")
	if ticket {
		return before + "/t/…"
	}
	if len(path) > 200 {
		return path[:200] + "…"
	}
	return path
}

// AccessLog writes one record a request, without secrets.
func (rep *Reporter) AccessLog(zone string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tracked := &statusWriter{ResponseWriter: w}
		defer func() {
			rep.log.Info("access", "zone", zone, "method", r.Method, "path", SafePath(r), "status", tracked.status,
				"bytes", tracked.bytes, "source", Source(r), "proto", r.Proto)
		}()
		next.ServeHTTP(tracked, r)
	})
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
