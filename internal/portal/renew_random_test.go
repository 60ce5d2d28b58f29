package portal_test

import (
	"bytes"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/portal/portaltest"
)

// tab is one of many of a person: the last page that it shows.
type tab struct {
	who  int
	at   string
	page string
}

// crowd is people with a certificate each, their tabs, and what must be true of them.
type crowd struct {
	*site
	t       *testing.T
	holders []catest.Held
	people  []*browser
	tabs    []*tab
	renewal []string            // by person, "" before the first Submit
	tickets map[string]int      // path of a file's page → whose
	seals   []map[string]string // by person: path → seal that was drawn there
}

// TestTabsAtRandom lets the tabs of people with a certificate each do whatever they can,
// in any order, and also send what was drawn for another: nothing ever shows or does
// anything of another person's, and each has one renewal in the end. INKAN_SEED repeats
// a run.
func TestTabsAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("INKAN_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		catest.Must(t, err)
	}
	t.Logf("INKAN_SEED=%d", seed)
	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choices
	s, holders := openRenewals(t, 3)
	c := &crowd{site: s, t: t, holders: holders, renewal: make([]string, len(holders)), tickets: map[string]int{}}
	shared := map[string]string{} // two windows of one browser, and a third person's own
	for n := range holders {
		p := s.person(&holders[n])
		if n < 2 {
			p.cookies = shared
		}
		c.people = append(c.people, p)
		c.seals = append(c.seals, map[string]string{})
	}
	for n := range 10 {
		c.tabs = append(c.tabs, &tab{who: n % len(holders)})
	}
	for n := range 400 {
		c.step(dice, c.tabs[dice.IntN(len(c.tabs))])
		if t.Failed() {
			t.Fatalf("at step %d of INKAN_SEED=%d", n, seed)
		}
	}
	for n := range holders {
		if c.renewal[n] == "" {
			c.renewal[n] = c.people[n].renewed(t)
		}
		id := strings.TrimPrefix(c.renewal[n], "/p/ru/r/")
		if s.Request(id).Predecessor != holders[n].Serial {
			t.Errorf("person %d has the renewal of another certificate", n)
		}
	}
	if n := s.Count("request WHERE kind = 'renewal'"); n != len(holders) {
		t.Errorf("%d renewals of %d people", n, len(holders))
	}
	if len(c.tickets) < 5 {
		t.Errorf("%d files were made: the test is blind", len(c.tickets))
	}
}

// step lets one tab do one thing.
func (c *crowd) step(dice *rand.Rand, t *tab) {
	p := c.people[t.who]
	other := (t.who + 1 + dice.IntN(len(c.people)-1)) % len(c.people)
	switch dice.IntN(11) {
	case 0:
		c.show(t, "/p/ru")
	case 1:
		c.show(t, "/p/ru/apply")
	case 2:
		c.show(t, "/p/ru/list")
	case 3:
		c.show(t, "/p/check")
	case 4:
		c.show(t, t.at) // reload
	case 5, 6: // press what the tab shows, however old it is
		c.press(t, t.at, portaltest.Seal(t.page))
	case 7:
		c.show(t, c.renewal[t.who])
	case 8:
		c.fetch(dice, t.who)
	case 9: // the page of another person's renewal, or file
		at := c.renewal[other]
		for path, whose := range c.tickets {
			if whose != t.who && dice.IntN(2) == 0 {
				at = path
			}
		}
		if at == "" {
			return
		}
		if w := p.get(at); w.Code < 400 {
			c.t.Errorf("person %d sees %s: %d", t.who, at, w.Code)
		}
	case 10: // a form that was drawn for another
		for path, drawn := range c.seals[other] {
			if drawn == c.seals[t.who][path] {
				continue
			}
			before := c.Count("request WHERE kind = 'renewal'") + c.Count("ticket")
			w := p.do("POST", path, url.Values{"form": {drawn}, "action": {"submit"}, "requestId": {strings.TrimPrefix(path, "/p/ru/r/")}, "password": {"1234"}, "passwordConfirm": {"1234"}})
			if w.Code < 400 || c.Count("request WHERE kind = 'renewal'")+c.Count("ticket") != before {
				c.t.Errorf("person %d acts with the form of %d at %s: %d", t.who, other, path, w.Code)
			}
			return
		}
	}
}

// show loads a page in a tab. It is of its own person, or of nobody.
func (c *crowd) show(t *tab, at string) {
	if at == "" {
		return
	}
	w := c.people[t.who].get(at)
	if w.Code == 303 {
		c.leads(t, w)
		return
	}
	t.at, t.page = at, w.Body.String()
	if w.Code != 200 && w.Code != 410 { // a file's page that is over
		c.t.Errorf("person %d at %s: %d", t.who, at, w.Code)
	}
	if drawn := portaltest.Seal(t.page); drawn != "" {
		c.seals[t.who][at] = drawn
	}
	for n, h := range c.holders {
		if n == t.who {
			continue
		}
		id := strings.TrimPrefix(c.renewal[n], "/p/ru/r/")
		if strings.Contains(t.page, h.ID) || id != "" && strings.Contains(t.page, id) || strings.Contains(t.page, h.Application.Holder.Code) {
			c.t.Errorf("person %d sees something of person %d at %s", t.who, n, at)
		}
	}
}

// leads follows an answer to where it leads.
func (c *crowd) leads(t *tab, w *httptest.ResponseRecorder) {
	to := w.Header().Get("Location")
	switch {
	case strings.HasPrefix(to, "/p/ru/r/"):
		if had := c.renewal[t.who]; had != "" && had != to {
			c.t.Errorf("person %d has %s and is led to %s", t.who, had, to)
		}
		c.renewal[t.who] = to
	case strings.HasPrefix(to, "/p/ru/t/"):
		c.tickets[to] = t.who
	}
	c.show(t, to)
}

// press sends the form of a tab.
func (c *crowd) press(t *tab, at, drawn string) {
	if drawn == "" {
		return
	}
	form := url.Values{"form": {drawn}, "action": {"submit"}, "requestId": {strings.TrimPrefix(at, "/p/ru/r/")}, "password": {"1234"}, "passwordConfirm": {"1234"}}
	w := c.people[t.who].do("POST", at, form)
	if w.Code != 303 {
		c.t.Errorf("person %d presses at %s: %d %s", t.who, at, w.Code, screen(w))
		return
	}
	c.leads(t, w)
}

// fetch saves a file of a person.
func (c *crowd) fetch(dice *rand.Rand, who int) {
	for path, whose := range c.tickets {
		if whose != who || dice.IntN(2) == 0 {
			continue
		}
		id := strings.TrimPrefix(c.renewal[who], "/p/ru/r/")
		w := c.people[who].get(path + "/" + id + ".p12")
		if w.Code == 410 { // three were fetched
			return
		}
		if w.Code != 200 {
			c.t.Errorf("person %d fetches %s: %d", who, path, w.Code)
			return
		}
		pair := catest.Open(c.Office, w.Body.Bytes(), "1234")
		if got := c.Certificate(c.Request(id).Serial); !bytes.Equal(got.DER, pair.Leaf.Raw) || got.Predecessor != c.holders[who].Serial {
			c.t.Errorf("person %d has the file of another", who)
		}
		return
	}
}
