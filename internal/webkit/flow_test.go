package webkit_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/webkit"
)

// visit is a request of a browser at a path with a certificate.
func visit(browser, path, leaf string, form url.Values) *http.Request {
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if browser != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-inkan_p", Value: browser})
	}
	r.TLS = &tls.ConnectionState{}
	if leaf != "" {
		r.TLS.PeerCertificates = []*x509.Certificate{{Raw: []byte(leaf)}}
	}
	return r
}

const one, two = "AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBA"

// TestThreatRS11Seal: a form's seal differs with the browser, the zone, the path, the
// step and the certificate, and none of them runs into the next.
func TestThreatRS11Seal(t *testing.T) {
	pages := []struct{ browser, zone, path, step, leaf string }{
		{one, "portal", "/p/a", "first", "leaf"},
		{two, "portal", "/p/a", "first", "leaf"},
		{one, "portal-auth", "/p/a", "first", "leaf"},
		{one, "portal", "/p/b", "first", "leaf"},
		{one, "portal", "/p/a", "second", "leaf"},
		{one, "portal", "/p/a", "first", "other"},
		{one, "portal", "/p/a", "first", ""},
		{one, "portal", "/p/afirst", "", "leaf"},
		{one, "portal", "/p/a", "", "firstleaf"},
		{one, "portal", "/p/a", "firstleaf", ""},
	}
	for n, drawn := range pages {
		seal := webkit.FormSeal(visit(drawn.browser, drawn.path, drawn.leaf, nil), drawn.zone, drawn.step)
		if len(seal) != 43 {
			t.Fatalf("seal %q", seal)
		}
		for m, sent := range pages {
			r := visit(sent.browser, sent.path, sent.leaf, url.Values{webkit.FormField: {seal}})
			if err := r.ParseForm(); err != nil {
				t.Fatal(err)
			}
			err := webkit.CheckForm(r, sent.zone, sent.step)
			if (err == nil) != (n == m) || err != nil && pki.CodeOf(err) != "form.stale" {
				t.Errorf("drawn on page %d, sent on page %d: %v", n, m, err)
			}
			if same := webkit.Owner(visit(drawn.browser, "/x", drawn.leaf, nil), drawn.zone) == webkit.Owner(visit(sent.browser, "/y", sent.leaf, nil), sent.zone); same !=
				(drawn.browser == sent.browser && drawn.zone == sent.zone && drawn.leaf == sent.leaf) {
				t.Errorf("owner of page %d and page %d: the same is %t", n, m, same)
			}
		}
	}
	bare := visit("", "/p/a", "leaf", url.Values{webkit.FormField: {""}})
	if err := bare.ParseForm(); err != nil {
		t.Fatal(err)
	}
	if webkit.FormSeal(bare, "portal", "first") != "" || webkit.CheckForm(bare, "portal", "first") == nil || webkit.Owner(bare, "portal") != [32]byte{} {
		t.Error("a browser without our cookie is somebody")
	}
	fresh := visit("", "/p/a", "leaf", nil)
	hash := webkit.Browser(httptest.NewRecorder(), fresh)
	if known, ok := webkit.KnownBrowser(fresh); !ok || known != hash || webkit.FormSeal(fresh, "portal", "first") == "" {
		t.Error("the first page of a browser has a form that acts nowhere")
	}
}

// A flow is its owner's: unknown to everybody else, ended after a pause, resumed where it
// was, dropped in the end.
func TestFlows(t *testing.T) {
	for _, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			var mu sync.Mutex
			now := time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)
			later := func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(d)
			}
			db := storetest.Open(t, storetest.Migrated(t, engine), func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return now
			})
			f := webkit.Flows{DB: db, Idle: 15 * time.Minute}
			mine, theirs := [32]byte{1}, [32]byte{2}
			flow, err := f.Begin(t.Context(), "revocation", mine, "", "form", map[string]string{"why": "紛失"})
			if err != nil {
				t.Fatal(err)
			}
			for name, try := range map[string]struct {
				id, kind string
				owner    [32]byte
			}{
				"another owner": {flow.ID, "revocation", theirs}, "another kind": {flow.ID, "application", mine}, "nobody's": {strings.Repeat("0", 32), "revocation", mine},
				"nobody": {flow.ID, "revocation", [32]byte{}},
			} {
				got, err := f.Read(t.Context(), try.id, try.kind, try.owner)
				if pki.CodeOf(err) != "flow.unknown" || got.ID != "" {
					t.Errorf("%s: %+v, %v", name, got, err)
				}
			}
			nobodys, err := f.Begin(t.Context(), "revocation", [32]byte{}, "", "form", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = f.Read(t.Context(), nobodys.ID, "revocation", [32]byte{}); pki.CodeOf(err) != "flow.unknown" {
				t.Errorf("two browsers without a cookie share a flow: %v", err)
			}

			read := func() store.Flow {
				t.Helper()
				got, err := f.Read(t.Context(), flow.ID, "revocation", mine)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			first, second := read(), read() // two tabs
			if first.Facts["why"] != "紛失" || first.Step != "form" {
				t.Fatalf("flow %+v", first)
			}
			for n, tab := range []store.Flow{first, second} {
				err = f.Move(t.Context(), tab, "subject", "confirm", map[string]string{"why": []string{"故障", "廃止"}[n]})
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := read(); got.Step != "confirm" || got.Facts["why"] != "故障" {
				t.Errorf("the slower tab overtook the faster: %+v", got)
			}

			later(f.Idle)
			read()
			later(time.Second)
			ended, err := f.Read(t.Context(), flow.ID, "revocation", mine)
			if pki.CodeOf(err) != "flow.ended" || ended.Step != "confirm" {
				t.Fatalf("after the pause: %+v, %v", ended, err)
			}
			if _, err = f.Read(t.Context(), flow.ID, "revocation", theirs); pki.CodeOf(err) != "flow.unknown" {
				t.Errorf("a stranger learns that a session ended: %v", err)
			}
			if err = f.Resume(t.Context(), ended); err != nil {
				t.Fatal(err)
			}
			if got := read(); got.Step != "confirm" || got.Facts["why"] != "故障" || got.Subject != "subject" {
				t.Errorf("resumed: %+v", got)
			}

			later(webkit.Kept + time.Second)
			if _, err = f.Read(t.Context(), flow.ID, "revocation", mine); pki.CodeOf(err) != "flow.unknown" {
				t.Errorf("after a day: %v", err)
			}
			err = db.Update(t.Context(), func(tx *store.Tx) error {
				n, err := tx.DropFlows()
				if n != 2 {
					t.Errorf("%d flows dropped", n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
