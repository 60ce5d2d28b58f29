// Package portal is the site of the holders (利用者): the start page, the pages of
// how-to, the site's root certificate, the program for terminals, the application site
// /p/rcr with /p/status, and the download site /p/rcd, on which the person with a letter
// (電子証明書発行通知書) fetches a certificate file. It works without JavaScript, in many tabs, with double clicks,
// back and reload.
//
// It owns pages, form fields, budgets against guessing and what a browser is told
// apart by. It does not own who may fetch what (ra), nor words (i18n).
package portal

import (
	"context"
	"crypto/x509"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/release"
	"inkan/internal/webkit"
)

//go:embed pages/*.html
var pageFiles embed.FS

// Office is the registration authority as this site needs it.
type Office interface {
	Pickups
	Renewals
	Revocations
	Applications
}

// Pickups is its download site's part.
type Pickups interface {
	PreparePickup(ctx context.Context, in ra.PickupInput) (ticket pki.Secret, err error)
	PickupPage(ctx context.Context, ticket pki.Secret, cookieHash [32]byte) (ra.PickupView, error)
	PickupFile(ctx context.Context, ticket pki.Secret, cookieHash [32]byte) (name string, file []byte, err error)
	EndPickup(ctx context.Context, ticket pki.Secret, cookieHash [32]byte) error
}

// HelpDesk is whom to call. Without a phone number, pages point at the letter.
type HelpDesk struct {
	Phone string            // as it is shown: 0120-000-000
	Free  bool              // the call costs nothing
	Hours map[string]string // by language
}

// Dial is the number for a tel: link.
func (h HelpDesk) Dial() string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("+0123456789", r) {
			return r
		}
		return -1
	}, h.Phone)
}

// Authority is a CA certificate that the start page offers.
type Authority struct {
	Name string
	URL  string
}

// Config is what the site is made of.
type Config struct {
	Hosts []string // exact values of Host, see webkit.Zone
	// AuthHosts are those of the zone whose listener asks for a client certificate.
	AuthHosts   []string
	Flows       webkit.Flows
	Help        HelpDesk
	Authorities []Authority
	Issuer      string                       // name of the issuer in holders' certificates
	SiteRoot    *x509.Certificate            // root of this site's own TLS certificate
	StatusURL   string                       // plain http, where the root is served, too
	Releases    func() (release.Offer, bool) // the program for terminals
	// Status says what relying systems are told of the status of a certificate. Nil:
	// nothing is known here, and the pages say nothing of it.
	Status Status
	Demo   bool // red banner on every page (threat PL1)
	HSTS   bool

	// Floor is the least time an answer to typed IDs takes, so that its time says
	// nothing (threat DL4). Zero means 150 ms, negative means none.
	Floor time.Duration
	// SharedSources are networks in which many institutions share one address; they
	// have a larger budget together (threat DL3).
	SharedSources []netip.Prefix

	Count webkit.Recorder // zero: nothing is counted
	Now   func() time.Time
	// Timer starts a wait; nil means time.After.
	Timer func(time.Duration) <-chan time.Time
	Log   *slog.Logger
}

// Portal is the site.
type Portal struct {
	Config
	office Office
	pages  *webkit.Pages
	assets *webkit.Assets
	report *webkit.Reporter
	guard  *guard
	// revocationGuard counts nothing of the download site: a revocation can always be
	// asked for (threat RV2).
	revocationGuard *guard
	budgets         applyBudgets
}

// New makes the site. Every template is parsed and every page drawn once, so that a
// mistake in one stops the start.
func New(c Config, office Office) (*Portal, error) {
	if c.Floor == 0 {
		c.Floor = 150 * time.Millisecond
	}
	if c.Timer == nil {
		c.Timer = time.After
	}
	assets, err := webkit.LoadAssets()
	if err != nil {
		return nil, err
	}
	folder, err := fs.Sub(pageFiles, "pages")
	if err != nil {
		return nil, fmt.Errorf("open pages: %w", err)
	}
	pages, err := webkit.ParsePages(folder, assets)
	if err != nil {
		return nil, err
	}
	p := &Portal{Config: c, office: office, pages: pages, assets: assets, guard: newGuard(c.SharedSources, c.Now, c.Log),
		revocationGuard: newGuard(c.SharedSources, c.Now, c.Log), budgets: newApplyBudgets(c.SharedSources, c.Now)}
	p.report = webkit.NewReporter(c.Log, p.drawFailure)
	return p, p.drawAll()
}

func (p *Portal) drawAll() error {
	all := map[string]any{
		"form": blankForm(""), "done": doneData{},
		"ru": renewHome{}, "ru-apply": renewHome{}, "ru-request": renewPage{}, "ru-list": renewList{}, "check": checkPage{Verdict: "none"},
		"rx": rxFirst{}, "rx-contact": rxPage{}, "rx-confirm": rxPage{Reason: "unspecified"}, "rx-done": rxProgress{Is: "revoked"},
		"failure": failureData{Heading: "", three: three{Failure: &drawn{Code: "internal"}}},
	}
	maps.Copy(all, p.standing())
	maps.Copy(all, applyPages())
	for _, lang := range i18n.Languages {
		for name, data := range all {
			_, err := p.pages.Render(lang, name, p.page("", "", false, data))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// The zones of the site.
const (
	zonePlain = "portal"
	zoneAuth  = "portal-auth"
)

// Handler is the zone that asks nobody for a certificate.
func (p *Portal) Handler() http.Handler {
	mux := http.NewServeMux()
	p.Mount(mux)
	return p.stack(zonePlain, p.Hosts).Wrap(mux)
}

func (p *Portal) stack(zone string, hosts []string) webkit.Stack {
	return webkit.Stack{Zone: webkit.Zone{Name: zone, Hosts: hosts}, Report: p.report, Count: p.Count, HSTS: p.HSTS, Script: true}
}

// Mount lists the routes. They need the stack of Handler around them.
func (p *Portal) Mount(mux *http.ServeMux) {
	route := func(pattern string, h webkit.Handler) { mux.Handle(pattern, p.report.Handle(h)) }
	p.mountStanding(route)
	route("GET /p/rcd", p.getForm)
	route("POST /p/rcd", p.postForm)
	p.mountTickets(route, pickupTickets)
	p.mountRevocation(route, zonePlain)
	p.mountApply(route)
	for _, path := range authPaths {
		route("GET "+path, p.leadTo(p.AuthHosts))
	}
	route("GET "+webkit.AssetPath, p.assets.Serve)
	route("/", webkit.NotFound)
}

// page is what the layout needs of every page.
type page struct {
	Title   string
	Screen  string // 画面番号, told on the telephone
	Problem bool
	Demo    bool
	Help    HelpDesk
	Home    string // "" or, on another listener, where the site is
	Data    any
}

func (p *Portal) page(title, screen string, problem bool, data any) page {
	return page{Title: title, Screen: screen, Problem: problem, Demo: p.Demo, Help: p.Help, Data: data}
}

func (p *Portal) send(w http.ResponseWriter, r *http.Request, status int, name string, data page) error {
	body, err := p.pages.Render(webkit.Lang(r), name, data)
	if err != nil {
		return err
	}
	webkit.WriteHTML(w, status, body)
	return nil
}

// show sends a page that is no problem.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, name, title, screen string, data any) error {
	return p.send(w, r, http.StatusOK, name, p.page(i18n.Text(webkit.Lang(r), title, nil), screen, false, data))
}
