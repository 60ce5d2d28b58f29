package portal_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzForm: whatever a browser sends, the answer is one of ours: never an internal error,
// and for IDs that are wrong always of one size.
func FuzzForm(f *testing.F) {
	s := openLetter(f)
	legacy := s.typed()
	legacy.Set("format", "legacy")
	f.Add(legacy.Encode(), "ja", "Mozilla/5.0 (Windows NT 6.3)")
	f.Add("requestId=%EF%BC%92&referenceId=<svg onload=x>&password=%zz", "en;q=0.5,ja;q=nan", "Windows NT ")
	f.Add(strings.Repeat("a=b&", 200), "*;q=,,-", "Windows NT 6.")
	f.Add("requestId=1;referenceId=2", "", "")
	f.Fuzz(func(t *testing.T, form, language, agent string) {
		if len(form) > 64<<10 || len(language) > 1<<10 || len(agent) > 1<<10 {
			return
		}
		s.Advance(30 * time.Second) // budgets are another test's
		r := httptest.NewRequest(http.MethodPost, "/p/rcd", strings.NewReader(form))
		r.Host, r.RemoteAddr = plainHost, "192.0.2.7:40000"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept-Language", language)
		r.Header.Set("User-Agent", agent)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := httptest.NewRecorder()
		s.plain.ServeHTTP(w, r)
		page := w.Body.String()
		switch w.Code {
		case http.StatusSeeOther, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusTooManyRequests:
		default:
			t.Fatalf("status %d", w.Code)
		}
		if w.Code == http.StatusNotFound && len(page)%(24<<10) != 0 {
			t.Fatalf("a page of %d bytes", len(page))
		}
		if strings.Contains(page, "<svg onload") {
			t.Fatal("typed text became markup")
		}
	})
}
