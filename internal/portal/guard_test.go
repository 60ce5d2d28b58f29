package portal_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/ra"
)

// only answers one pair of IDs, as ra does.
func only(request string) func(ra.PickupInput) (pki.Secret, error) {
	return func(in ra.PickupInput) (pki.Secret, error) {
		if in.RequestID == request && in.ReferenceID == goodReference {
			return goodTicket, nil
		}
		return "", pki.E(pki.NotFound, "pickup.wrong_ids")
	}
}

const wrongReference = "AAAAAAAAAA"

// Threat DL4: before both IDs are right there is one page, of one size, after one least
// time, whatever the cause.
func TestThreatDL4WrongIDsHaveOnePage(t *testing.T) {
	causes := map[string]error{
		"unknown": pki.E(pki.NotFound, "pickup.wrong_ids"), "wrong reference": pki.E(pki.NotFound, "pickup.wrong_ids").Because(fmt.Errorf("tag differs")),
		"void": pki.E(pki.NotFound, "pickup.wrong_ids").Because(fmt.Errorf("letter was sent again")),
	}
	code := regexp.MustCompile(`\d{4} \d{4}</span>`)
	var first []byte
	for name, cause := range causes {
		s := open(t)
		s.pickups.prepare = func(ra.PickupInput) (pki.Secret, error) { return "", cause }
		w := s.browser().post(typed())
		body := code.ReplaceAll(w.Body.Bytes(), []byte("CODE"))
		if first == nil {
			first = body
		}
		if w.Code != 404 || !bytes.Equal(body, first) {
			t.Errorf("%s: status %d, another body: %t", name, w.Code, !bytes.Equal(body, first))
		}
	}
	sizes := map[int]bool{}
	for _, ids := range [][2]string{{goodRequest, wrongReference}, {"1", "2"}, {"", ""}, {strings.Repeat("9", 64), strings.Repeat("<", 64)}} {
		s := open(t)
		s.pickups.prepare = only("none")
		form := typed()
		form.Set("requestId", ids[0])
		form.Set("referenceId", ids[1])
		sizes[s.browser().post(form).Body.Len()] = true
	}
	if len(sizes) != 1 {
		t.Errorf("sizes of page W: %v", sizes)
	}
}

func TestThreatDL4AnswersTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *portal.Config) { c.Floor = 0 }) // the default
		s.pickups.prepare = only(goodRequest)
		form := typed()
		for _, tt := range []struct{ request, reference string }{
			{goodRequest, goodReference}, {goodRequest, wrongReference}, {"202611230000999", goodReference}, {"1", "2"},
		} {
			form.Set("requestId", tt.request)
			form.Set("referenceId", tt.reference)
			before := time.Now()
			s.browser().post(form)
			if took := time.Since(before); took != 150*time.Millisecond {
				t.Errorf("%v took %s", tt, took)
			}
		}
	})
}

func TestThreatDL1Budgets(t *testing.T) {
	s := open(t)
	s.pickups.prepare = only(goodRequest)
	b := s.browser()
	wrong := typed()
	wrong.Set("referenceId", wrongReference)
	for range 30 { // right answers cost nothing
		if w := b.post(typed()); w.Code != 303 {
			t.Fatalf("right answer: %d", w.Code)
		}
	}
	for i := range 10 {
		if w := b.post(wrong); w.Code != 404 {
			t.Fatalf("wrong answer %d: %d", i, w.Code)
		}
	}
	asked := len(s.pickups.asked)
	w := b.post(wrong)
	if w.Code != 429 || w.Header().Get("Retry-After") != "31" || len(s.pickups.asked) != asked {
		t.Errorf("eleventh: %d, Retry-After %q, asked %d", w.Code, w.Header().Get("Retry-After"), len(s.pickups.asked)-asked)
	}
	if !strings.Contains(w.Body.String(), "14時01分まで、お待ちください") {
		t.Error("the page does not say until when")
	}
	if w := b.post(typed()); w.Code != 429 {
		t.Errorf("right answer while waiting: %d: the wait would tell right from wrong", w.Code)
	}

	neighbour := s.browser() // never a lock of the request
	neighbour.from = "192.0.2.8"
	if w := neighbour.post(typed()); w.Code != 303 {
		t.Errorf("the owner at another place: %d", w.Code)
	}
	another := typed()
	another.Set("requestId", "202611230000124")
	if w := b.post(another); w.Code != 404 {
		t.Errorf("another request from the same place: %d", w.Code)
	}
	*s.now = s.now.Add(30 * time.Second)
	if w := b.post(wrong); w.Code != 404 {
		t.Errorf("after 30 s: %d", w.Code)
	}
	if w := b.post(wrong); w.Code != 429 {
		t.Errorf("only one try comes back in 30 s: %d", w.Code)
	}
}

func TestThreatDL1BudgetOfOneSource(t *testing.T) {
	s := open(t)
	s.pickups.prepare = only(goodRequest)
	try := func(from string, n int) int {
		b := s.browser()
		b.from = from
		form := typed()
		form.Set("requestId", fmt.Sprintf("20261123%07d", n))
		return b.post(form).Code
	}
	for i := range 60 {
		if code := try("192.0.2.9", 1000+i); code != 404 {
			t.Fatalf("try %d: %d", i, code)
		}
	}
	if code := try("192.0.2.9", 2000); code != 429 {
		t.Errorf("61st within a minute: %d", code)
	}
	if code := try("192.0.2.10", 2000); code != 404 {
		t.Errorf("another source: %d", code)
	}
	for i := range 60 { // addresses of one /64 are one source
		try(fmt.Sprintf("[2001:db8::%x]", i+1), 3000+i)
	}
	if code := try("[2001:db8::ffff]", 3999); code != 429 {
		t.Errorf("another address of the same /64: %d", code)
	}
}

func TestThreatDL3ForwardedHeadersAreNotRead(t *testing.T) {
	s := open(t)
	s.pickups.prepare = only("none")
	slow := 0
	for n := range 1_000 {
		forged := fmt.Sprintf("198.51.%d.%d", n/250, n%250)
		r := httptest.NewRequest(http.MethodPost, "/p/rcd", strings.NewReader(typed().Encode()))
		r.Host, r.RemoteAddr = "portal.test", "192.0.2.7:40000"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP"} {
			r.Header.Set(name, forged)
		}
		r.Header.Set("Forwarded", "for="+forged)
		w := httptest.NewRecorder()
		s.h.ServeHTTP(w, r)
		if w.Code == http.StatusTooManyRequests {
			slow++
		}
	}
	if slow != 990 || len(s.pickups.asked) != 10 {
		t.Errorf("%d of 1,000 had to wait, %d were answered: a claimed source has a budget of its own", slow, len(s.pickups.asked))
	}
	for _, in := range s.pickups.asked {
		if in.Source != netip.MustParseAddr("192.0.2.7") {
			t.Errorf("source %s", in.Source)
		}
	}
}

func TestThreatDL3SharedSources(t *testing.T) {
	s := open(t, func(c *portal.Config) { c.SharedSources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	s.pickups.prepare = only("none")
	for i := range 150 {
		b := s.browser()
		b.from = fmt.Sprintf("198.51.100.%d", i%200)
		form := typed()
		form.Set("requestId", fmt.Sprintf("20261123%07d", 1+i))
		if w := b.post(form); w.Code != 404 {
			t.Fatalf("try %d of the shared network: %d", i, w.Code)
		}
	}
}

// A hundred guesses at once cannot pass on ten tries.
func TestGuessesAtOnce(t *testing.T) {
	s := open(t)
	s.pickups.prepare = only("none")
	var wait sync.WaitGroup
	for range 100 {
		wait.Go(func() { s.browser().post(typed()) })
	}
	wait.Wait()
	if len(s.pickups.asked) > 10 {
		t.Errorf("%d guesses were answered", len(s.pickups.asked))
	}
}

// Threat DL2: 1,000 wrong answers on a request slow its owner to two seconds, no more.
func TestThreatDL2AttackedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.pickups.prepare = only(goodRequest)
		wrong := typed()
		wrong.Set("referenceId", wrongReference)
		for i := range 1_100 {
			*s.now = s.now.Add(time.Second)
			b := s.browser()
			b.from = fmt.Sprintf("203.0.113.%d", i%250)
			b.post(wrong)
		}
		if strings.Count(s.log.String(), "alarm") != 1 {
			t.Errorf("%d alarms", strings.Count(s.log.String(), "alarm"))
		}
		before := time.Now()
		w := s.browser().post(typed())
		if took := time.Since(before); w.Code != 303 || took != 2*time.Second {
			t.Errorf("the owner: %d after %s", w.Code, took)
		}
		*s.now = s.now.Add(25 * time.Hour)
		before = time.Now()
		w = s.browser().post(typed())
		if took := time.Since(before); w.Code != 303 || took != 0 {
			t.Errorf("the owner a day later: %d after %s", w.Code, took)
		}
	})
}
