package portal

import (
	"crypto/sha1" //nolint:gosec // Windows shows it; what is compared with the letter is SHA-256
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/webkit"
)

// mountStanding lists the pages that are always there and ask for nothing.
func (p *Portal) mountStanding(route func(pattern string, h webkit.Handler)) {
	route("GET /{$}", p.getStart)
	route("GET /p/{$}", p.getStart)
	route("GET /p/help", p.getHelp)
	route("GET /p/help/{topic}", p.getTopic)
	route("GET /p/cert", p.getRoot)
	route("GET /p/cert/about", p.getAboutRoot)
	route("GET /p/s", p.getClient)
	route("GET /p/s/{file}", p.getClientFile)
}

// standing gives every such page with data to draw it with.
func (p *Portal) standing() map[string]any {
	pages := map[string]any{"start": p.start(), "help": helpData{Topics: topics}, "root": p.aboutRoot(""), "client": clientData{}}
	for _, t := range topics {
		pages[t.page()] = p.help("", t)
	}
	return pages
}

// guided is a page with instructions for each kind of terminal.
type guided struct {
	System string // whose instructions are open at first
	Issuer string
	Days   int // for which a download may be repeated
}

func (p *Portal) guided(userAgent string) guided {
	return guided{System: system(userAgent), Issuer: p.Issuer, Days: pki.DownloadDays}
}

// systems are the kinds of terminals, in the order of the page.
var systems = []string{"windows", "windows81", "linux", "mac"}

// guide is one set of instructions: the words under key + "." + system.
type guide struct {
	Key, System string
	Systems     []string
	Args        map[string]any
}

// Guide is for the template "guide", which draws it.
func (g guided) Guide(key string) guide {
	return guide{Key: key, System: g.System, Systems: systems, Args: map[string]any{"Issuer": g.Issuer, "Href": "/p/rcd"}}
}

// topic is one page of how-to.
type topic struct {
	Name   string
	Screen string
}

func (t topic) page() string { return "help-" + t.Name }

var topics = []topic{
	{"install", "HELP-1"}, {"choose", "HELP-2"}, {"check", "HELP-3"}, {"backup", "HELP-4"}, {"move", "HELP-5"}, {"delete", "HELP-6"}, {"trouble", "HELP-7"},
}

// trouble is a thing that can go wrong, and the page that its steps lead to.
type trouble struct{ Key, Href string }

var troubles = []trouble{
	{"private", "/p/cert/about"}, {"password", "/p/rcd"}, {"forgot", "/p/rcd"}, {"none", "/p/help/check"}, {"refused", "/p/check"},
	{"expired", "/p/ru"}, {"letter", "/p/status"}, {"broken", "/p/help/move"}, {"lost", "/p/rx"}, {"strong", "/p/help/install"}, {"session", "/p/"},
}

type helpData struct {
	guided
	Topics   []topic // the others
	Troubles []trouble
}

func (p *Portal) help(userAgent string, t topic) helpData {
	others := slices.DeleteFunc(slices.Clone(topics), func(o topic) bool { return o == t })
	return helpData{guided: p.guided(userAgent), Topics: others, Troubles: troubles}
}

type startData struct {
	Get, Other  []startCard
	Topics      []topic
	Authorities []Authority
}

// startCard is one thing that a person may want to do; its words are start.<Name>.
type startCard struct{ Name, Href string }

func (p *Portal) start() startData {
	return startData{
		Get:    []startCard{{"rcd", "rcd"}, {"ru", "ru"}, {"again", "ru"}, {"rcr", "rcr"}},
		Other:  []startCard{{"check", "check"}, {"status", "status"}, {"rx", "rx"}},
		Topics: topics, Authorities: p.Authorities,
	}
}

func (p *Portal) getStart(w http.ResponseWriter, r *http.Request) error {
	return p.show(w, r, "start", "start.title", "HOME", p.start())
}

func (p *Portal) getHelp(w http.ResponseWriter, r *http.Request) error {
	return p.show(w, r, "help", "help.title", "HELP-0", helpData{Topics: topics})
}

func (p *Portal) getTopic(w http.ResponseWriter, r *http.Request) error {
	n := slices.IndexFunc(topics, func(t topic) bool { return t.Name == r.PathValue("topic") })
	if n < 0 {
		return pki.ErrNotFound
	}
	t := topics[n]
	return p.show(w, r, t.page(), "help."+t.Name+".title", t.Screen, p.help(r.UserAgent(), t))
}

// rootFile is the name under which the site's root is saved.
const rootFile = "tls-root.cer"

// getRoot gives the root of the site's own TLS certificate (サイトのルート証明書), which
// is another chain than that of the holders' certificates.
func (p *Portal) getRoot(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "application/x-x509-ca-cert")
	h.Set("Content-Disposition", `attachment; filename="`+rootFile+`"`)
	h.Set("Content-Length", strconv.Itoa(len(p.SiteRoot.Raw)))
	_, _ = w.Write(p.SiteRoot.Raw)
	return nil
}

type rootData struct {
	guided
	Plain  bool   // drawn on plain http
	URL    string // on plain http
	Site   string // and over https
	Name   string
	Until  time.Time
	Names  []string // what it may vouch for
	SHA256 []string // in groups as on the letter
	SHA1   []string // in groups as in the warning of Windows
}

// Guide overrides guided's: these steps name a file.
func (d rootData) Guide(key string) guide {
	g := d.guided.Guide(key)
	g.Args["File"] = rootFile
	return g
}

func (p *Portal) aboutRoot(userAgent string) rootData {
	root := p.SiteRoot
	long, short := sha256.Sum256(root.Raw), sha1.Sum(root.Raw) //nolint:gosec // see the import
	return rootData{guided: p.guided(userAgent), URL: p.StatusURL + "/p/cert/about", Site: "https://" + p.Hosts[0] + "/p/cert/about", Name: root.Subject.CommonName, Until: root.NotAfter,
		Names: vouchedFor(root), SHA256: fingerprint(long[:], 2), SHA1: fingerprint(short[:], 4)}
}

// fingerprint groups a hash by so many bytes.
func fingerprint(sum []byte, bytes int) []string {
	var out []string
	for group := range slices.Chunk(sum, bytes) {
		out = append(out, fmt.Sprintf("%X", group))
	}
	return out
}

// vouchedFor lists the names to which the root is constrained (threat ST9). A name below
// .invalid stands for “no name at all”.
func vouchedFor(root *x509.Certificate) []string {
	names := slices.DeleteFunc(slices.Clone(root.PermittedDNSDomains), func(d string) bool { return strings.HasSuffix(d, ".invalid") })
	for _, n := range root.PermittedIPRanges {
		if ones, bits := n.Mask.Size(); ones == bits {
			names = append(names, n.IP.String())
		} else {
			names = append(names, n.String())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *Portal) getAboutRoot(w http.ResponseWriter, r *http.Request) error {
	return p.show(w, r, "root", "root.title", "CERT-1", p.aboutRoot(r.UserAgent()))
}

// AboutRoot is the same page for plain http, where those come whose browser does not
// believe the site yet, and the style sheet. It sets no cookie: the language of a
// ?lang= link holds for that one answer. The root itself is served there by status.
func (p *Portal) AboutRoot() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /p/cert/about", p.report.Handle(p.getPlainAboutRoot))
	mux.Handle("GET "+webkit.AssetPath, p.report.Handle(p.assets.Serve))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		webkit.Secure(w.Header())
		mux.ServeHTTP(w, r)
	})
}

func (p *Portal) getPlainAboutRoot(w http.ResponseWriter, r *http.Request) error {
	lang := r.URL.Query().Get("lang")
	if !slices.Contains(i18n.Languages, lang) {
		lang = webkit.Lang(r)
	}
	data := p.aboutRoot(r.UserAgent())
	data.Plain = true
	drawn := p.page(i18n.Text(lang, "root.title", nil), "CERT-2", false, data)
	drawn.Home = "https://" + p.Hosts[0]
	body, err := p.pages.Render(lang, "root", drawn)
	if err != nil {
		return err
	}
	webkit.WriteHTML(w, http.StatusOK, body)
	return nil
}
