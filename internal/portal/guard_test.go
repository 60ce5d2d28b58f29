package portal_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/portal"
)

// Threat DL4: before both IDs are right there is one page, of one size, after one least
// time, whatever the cause.
func TestThreatDL4WrongIDsHaveOnePage(t *testing.T) {
	s := openLetter(t)
	open := s.Submit(catest.Application(2))
	void, voidRef := s.sent(3)
	s.SQL(`UPDATE reference SET voided_at = 1 WHERE request = $1`, void.ID) // its letter was sent again
	code, typedID := regexp.MustCompile(`\d{4} \d{4}</span>`), regexp.MustCompile(`value="[0-9A-Za-z]*"`)
	padding := regexp.MustCompile(`<!-- *-->\n$`)
	var first []byte
	sizes := map[int]bool{}
	for name, form := range map[string]url.Values{
		"unknown":         typedFor(pki.Request{ID: "202001010000001"}, s.ref),
		"wrong reference": typedFor(s.letter, wrongReference),
		"not issued":      typedFor(open, s.ref),
		"void":            typedFor(void, voidRef),
	} {
		w := s.browser().post(form)
		sizes[w.Body.Len()] = true
		body := padding.ReplaceAll(typedID.ReplaceAll(code.ReplaceAll(w.Body.Bytes(), []byte("CODE")), nil), nil)
		if first == nil {
			first = body
		}
		if w.Code != 404 || !bytes.Equal(body, first) {
			t.Errorf("%s: status %d, another body: %t", name, w.Code, !bytes.Equal(body, first))
		}
	}
	for _, ids := range [][2]string{{"1", "2"}, {"", ""}, {strings.Repeat("9", 64), strings.Repeat("<", 64)}} {
		sizes[s.browser().post(typedFor(pki.Request{ID: ids[0]}, pki.Secret(ids[1]))).Body.Len()] = true
	}
	if len(sizes) != 1 {
		t.Errorf("sizes of page W: %v", sizes)
	}
}

// The wait begins before anything is asked, and ends before anything is answered.
func TestThreatDL4AnswersTakeTheirTime(t *testing.T) {
	s := openLetter(t, func(c *portal.Config) { c.Floor = 0 }) // the default
	for name, form := range map[string]url.Values{
		"right": s.typed(), "wrong reference": typedFor(s.letter, wrongReference),
		"unknown": typedFor(pki.Request{ID: "202611230000999"}, s.ref), "no IDs": typedFor(pki.Request{ID: "1"}, "2"),
	} {
		asked := len(s.office.asked)
		s.timers.begun = nil
		s.browser().post(form)
		if waited := s.timers.waited(); !slices.Equal(waited, []time.Duration{150 * time.Millisecond}) {
			t.Errorf("%s waited %v", name, waited)
		}
		if !slices.Equal(s.timers.begun, []int{asked}) {
			t.Errorf("%s: the wait began after the question: %v", name, s.timers.begun)
		}
	}
}

func TestThreatDL1Budgets(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	wrong := typedFor(s.letter, wrongReference)
	for range 15 { // right answers cost nothing
		if w := b.post(s.typed()); w.Code != 303 {
			t.Fatalf("right answer: %d", w.Code)
		}
	}
	for i := range 10 {
		if w := b.post(wrong); w.Code != 404 {
			t.Fatalf("wrong answer %d: %d", i, w.Code)
		}
	}
	asked := len(s.office.asked)
	w := b.post(wrong)
	if w.Code != 429 || w.Header().Get("Retry-After") != "31" || len(s.office.asked) != asked {
		t.Errorf("eleventh: %d, Retry-After %q, asked %d", w.Code, w.Header().Get("Retry-After"), len(s.office.asked)-asked)
	}
	if !strings.Contains(w.Body.String(), "14時01分まで、お待ちください") {
		t.Error("the page does not say until when")
	}
	if w := b.post(s.typed()); w.Code != 429 {
		t.Errorf("right answer while waiting: %d: the wait would tell right from wrong", w.Code)
	}

	neighbour := s.browser() // never a lock of the request
	neighbour.from = "192.0.2.8"
	if w := neighbour.post(s.typed()); w.Code != 303 {
		t.Errorf("the owner at another place: %d", w.Code)
	}
	if w := b.post(typedFor(pki.Request{ID: "202611230000124"}, s.ref)); w.Code != 404 {
		t.Errorf("another request from the same place: %d", w.Code)
	}
	s.Advance(30 * time.Second)
	if w := b.post(wrong); w.Code != 404 {
		t.Errorf("after 30 s: %d", w.Code)
	}
	if w := b.post(wrong); w.Code != 429 {
		t.Errorf("only one try comes back in 30 s: %d", w.Code)
	}
}

func TestThreatDL1BudgetOfOneSource(t *testing.T) {
	s := open(t)
	try := func(from string, n int) int {
		b := s.browser()
		b.from = from
		return b.post(guess(n)).Code
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

// guess is what somebody types who has no letter.
func guess(n int) url.Values {
	return typedFor(pki.Request{ID: fmt.Sprintf("20261123%07d", n)}, wrongReference)
}

func TestThreatDL3ForwardedHeadersAreNotRead(t *testing.T) {
	s := open(t)
	slow := 0
	for n := range 1_000 {
		forged := fmt.Sprintf("198.51.%d.%d", n/250, n%250)
		r := httptest.NewRequest(http.MethodPost, "/p/rcd", strings.NewReader(guess(1).Encode()))
		r.Host, r.RemoteAddr = plainHost, "192.0.2.7:40000"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP"} {
			r.Header.Set(name, forged)
		}
		r.Header.Set("Forwarded", "for="+forged)
		w := httptest.NewRecorder()
		s.plain.ServeHTTP(w, r)
		if w.Code == http.StatusTooManyRequests {
			slow++
		}
	}
	if slow != 990 || len(s.office.asked) != 10 {
		t.Errorf("%d of 1,000 had to wait, %d were answered: a claimed source has a budget of its own", slow, len(s.office.asked))
	}
	for _, in := range s.office.asked {
		if in.Source != netip.MustParseAddr("192.0.2.7") {
			t.Errorf("source %s", in.Source)
		}
	}
}

func TestThreatDL3SharedSources(t *testing.T) {
	s := open(t, func(c *portal.Config) { c.SharedSources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	for i := range 150 {
		b := s.browser()
		b.from = fmt.Sprintf("198.51.100.%d", i%200)
		if w := b.post(guess(1 + i)); w.Code != 404 {
			t.Fatalf("try %d of the shared network: %d", i, w.Code)
		}
	}
}

// A hundred guesses at once cannot pass on ten tries.
func TestGuessesAtOnce(t *testing.T) {
	s := open(t)
	var wait sync.WaitGroup
	for range 100 {
		wait.Go(func() { s.browser().post(guess(1)) })
	}
	wait.Wait()
	if len(s.office.asked) != 10 {
		t.Errorf("%d guesses were answered", len(s.office.asked))
	}
}

// Threat DL2: 1,000 wrong answers on a request slow its owner to two seconds, no more.
func TestThreatDL2AttackedRequest(t *testing.T) {
	s := openLetter(t)
	s.portal.Guess(s.letter.ID, 1_000)
	for range 2 { // the alarm is raised once
		s.browser().post(typedFor(s.letter, wrongReference))
	}
	if n := strings.Count(s.log.String(), "alarm"); n != 1 {
		t.Errorf("%d alarms", n)
	}
	s.timers.waited()
	w := s.browser().post(s.typed())
	if waited := s.timers.waited(); w.Code != 303 || !slices.Equal(waited, []time.Duration{0, 2 * time.Second}) {
		t.Errorf("the owner: %d after %v", w.Code, waited)
	}
	s.Advance(25 * time.Hour)
	w = s.browser().post(s.typed())
	if waited := s.timers.waited(); w.Code != 303 || !slices.Equal(waited, []time.Duration{0}) {
		t.Errorf("the owner a day later: %d after %v", w.Code, waited)
	}
}
