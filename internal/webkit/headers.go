package webkit

import (
	"net/http"

	"inkan/internal/pki"
)

// BodyLimit bounds what a form may bring. Imports and CSRs have limits of their own.
const BodyLimit = 64 << 10

// policy is strict because our pages need nothing: one style sheet, no script, no
// inline anything. A zone that ships a script says so in Stack.Script.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Secure sets the headers that every answer carries.
func Secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer") // tickets are in paths (threat DL7)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
}

// Stack is what stands before the routes of a browser zone, outermost first: look-up
// code, counts, access log, zone, panics, headers, foreign sites, size of bodies,
// language.
type Stack struct {
	Zone   Zone
	Report *Reporter
	Count  Recorder // zero: nothing is counted
	// Script lets pages bring a script of ours, which may ask our own pages.
	Script bool
	// HSTS is for names that will always be https; never for a demo on 127.0.0.1,
	// where the header would reach every port of the machine.
	HSTS bool
}

// Wrap builds the stack around the routes.
func (s Stack) Wrap(routes http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(s.Report.Handle(func(http.ResponseWriter, *http.Request) error {
		return pki.E(pki.Forbidden, "http.foreign_site")
	}))
	h := foreign.Handler(limitBody(withLanguage(routes)))
	h = s.headers(h)
	h = s.Report.Recover(h)
	h = s.Zone.Guard(s.Report, h)
	h = s.Report.AccessLog(s.Zone.Name, h)
	return Trace(s.Count.Watch(s.Zone.Name, h))
}

func (s Stack) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Secure(w.Header())
		if s.Script {
			w.Header().Set("Content-Security-Policy", policy+"; script-src 'self'; connect-src 'self'")
		}
		if s.HSTS {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, BodyLimit)
		next.ServeHTTP(w, r)
	})
}
