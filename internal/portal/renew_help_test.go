package portal_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/portal/portaltest"
)

// openRenewals makes holders, sets the clock to a time at which they may renew, and opens
// the site.
func openRenewals(t testing.TB, holders int) (*site, []catest.Held) {
	t.Helper()
	o := catest.New(t, catest.Options{Activate: true, Grace: 30})
	hs := make([]catest.Held, holders)
	for n := range hs {
		hs[n] = o.Holding(catest.Application(n))
	}
	o.DaysBefore(hs[0], 60)
	return openOver(o), hs
}

var lookupOn = regexp.MustCompile(`<span class="code">[^<]*</span>`)

// renewed goes from the home page to the page of the renewal, as a person does, and
// gives its path.
func (p *browser) renewed(t *testing.T) string {
	t.Helper()
	form := portaltest.Seal(p.get("/p/ru/apply").Body.String())
	w := p.do("POST", "/p/ru/apply", url.Values{"form": {form}, "action": {"submit"}})
	at := w.Header().Get("Location")
	if w.Code != 303 || !strings.HasPrefix(at, "/p/ru/r/") {
		t.Fatalf("submit: %d to %q, screen %s", w.Code, at, screen(w))
	}
	return at
}

// key is the form of 鍵の取得 for a page.
func key(page, request, pin string) url.Values {
	return url.Values{"form": {portaltest.Seal(page)}, "requestId": {request}, "password": {pin}, "passwordConfirm": {pin}}
}

// ticket gets the key at the page of a renewal and gives the path of the file's page.
func (p *browser) ticket(t *testing.T, at string) string {
	t.Helper()
	w := p.do("POST", at, key(p.get(at).Body.String(), strings.TrimPrefix(at, "/p/ru/r/"), "123456"))
	to := w.Header().Get("Location")
	if w.Code != 303 || !strings.HasPrefix(to, "/p/ru/t/") {
		t.Fatalf("key: %d to %q, screen %s", w.Code, to, screen(w))
	}
	return to
}
