package portal

import (
	"net/http"

	"inkan/internal/webkit"
)

// authPaths are the pages that ask for a client certificate. They live in the zone whose
// listener asks for one; the other zone leads there, and this one leads back.
var authPaths = []string{"/p/ru", "/p/check"}

// AuthHandler is the zone that asks for a client certificate. Who has none, or one that
// does not serve, gets a page and not an alert of TLS.
func (p *Portal) AuthHandler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h webkit.Handler) { mux.Handle(pattern, p.report.Handle(h)) }
	p.mountRenewal(route)
	p.mountRevocation(route, zoneAuth)
	route("GET /p/check", p.getCheck)
	for _, path := range []string{"/{$}", "/p/{$}", "/p/rcd", "/p/rcr", "/p/status", "/p/s", "/p/cert", "/p/cert/about", "/p/help", "/p/help/{topic}"} {
		route("GET "+path, p.leadTo(p.Hosts))
	}
	route("GET "+webkit.AssetPath, p.assets.Serve)
	route("/", webkit.NotFound)
	return p.stack(zoneAuth, p.AuthHosts).Wrap(mux)
}

// leadTo leads to the same path in the zone to which it belongs.
func (p *Portal) leadTo(hosts []string) webkit.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if len(hosts) == 0 {
			return webkit.NotFound(w, r)
		}
		return seeOther(w, "https://"+hosts[0]+r.URL.Path)
	}
}
