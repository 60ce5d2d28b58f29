package portal_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Threat DL9: the holder may have the key destroyed on the page of the download, after
// a copy was saved, and only there.
func TestThreatDL9KeyEndsAtTheHoldersWish(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	b.get("/p/rcd")
	done := b.ticketFor(s.typed())
	ended := func() bool { return s.Count("sealed_key WHERE request = $1 AND stage = 'destroyed'", s.letter.ID) == 1 }
	kept := url.Values{"kept": {"yes"}}

	if page := b.get(done).Body.String(); strings.Contains(page, done+"/end") {
		t.Error("offered before the file was saved")
	}
	if w := b.do(http.MethodPost, done+"/end", kept); w.Code != 409 || !strings.Contains(w.Body.String(), "まだ消せません") || ended() {
		t.Errorf("before the file was saved: %d, ended %t", w.Code, ended())
	}
	b.get(done + "/" + s.letter.ID + ".p12")
	if page := b.get(done).Body.String(); !strings.Contains(page, `action="`+done+`/end"`) || !strings.Contains(page, "何度でも") {
		t.Error("not offered after the file was saved")
	}
	if w := b.do(http.MethodPost, done+"/end", nil); w.Code != 422 || !strings.Contains(w.Body.String(), "確認の印") || ended() {
		t.Errorf("without the box ticked: %d, ended %t", w.Code, ended())
	}
	other := s.browser()
	other.get("/p/rcd")
	if w := other.do(http.MethodPost, done+"/end", kept); w.Code != 403 || ended() {
		t.Errorf("another browser: %d, ended %t", w.Code, ended())
	}
	for range 2 { // a double click
		w := b.do(http.MethodPost, done+"/end", kept)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != done+"#end" {
			t.Fatalf("%d to %q", w.Code, w.Header().Get("Location"))
		}
	}
	if !ended() {
		t.Error("the key is still there")
	}
	page := b.get(done).Body.String()
	if !strings.Contains(page, "お預かりしていた鍵を消しました") || strings.Contains(page, "何度でも") || strings.Contains(page, done+"/end") {
		t.Error("the page still promises the file, or does not say that the key is gone")
	}
	b.lang = "en"
	if page := b.get(done).Body.String(); !strings.Contains(page, "The key that we kept is destroyed") {
		t.Error("not in English")
	}
}
