package portal_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
	"inkan/internal/store"
)

// A person goes from the first page to the file and the end of the key, clicking twice,
// reloading and going back: one request, one certificate.
func TestRenewPages(t *testing.T) {
	s, hs := openRenewals(t, 1)
	p := s.person(&hs[0])
	home := p.get("/p/ru")
	if home.Code != 200 || screen(home) != "RU-1" || !strings.Contains(home.Body.String(), "あと60日") {
		t.Fatalf("home: %d %s", home.Code, screen(home))
	}
	for action, to := range map[string]string{"apply": "/p/ru/apply", "list": "/p/ru/list"} {
		if w := p.do("POST", "/p/ru", url.Values{"action": {action}}); w.Header().Get("Location") != to {
			t.Errorf("%s leads to %q", action, w.Header().Get("Location"))
		}
	}
	form := portaltest.Seal(p.get("/p/ru/apply").Body.String())
	if w := p.do("POST", "/p/ru/apply", url.Values{"form": {form}, "action": {"back"}}); w.Header().Get("Location") != "/p/ru" || s.Count("request WHERE kind = 'renewal'") != 0 {
		t.Errorf("back: %d to %q", w.Code, w.Header().Get("Location"))
	}
	at := p.renewed(t)
	for range 2 { // the same form again
		if w := p.do("POST", "/p/ru/apply", url.Values{"form": {form}}); w.Header().Get("Location") != at {
			t.Errorf("a second click leads to %q, not %q", w.Header().Get("Location"), at)
		}
	}
	if w := p.get("/p/ru/apply"); w.Code != 303 || w.Header().Get("Location") != at {
		t.Errorf("the page before, reloaded, leads to %q", w.Header().Get("Location"))
	}
	id := strings.TrimPrefix(at, "/p/ru/r/")
	page := p.get(at).Body.String()
	for _, want := range []string{"発行済み", "鍵の取得", "リファレンス ID", "Common Name", "Organizational Unit", "Country", "画面番号 RU-3"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the renewal does not hold %q", want)
		}
	}
	for pin, code := range map[string]string{"123": "RU-3P", "１２３４": "RU-3P"} {
		if w := p.do("POST", at, key(page, id, pin)); w.Code != 422 || screen(w) != code || portaltest.Seal(w.Body.String()) != portaltest.Seal(page) || strings.Contains(w.Body.String(), `value="`+pin) {
			t.Errorf("PIN %s: %d %s", pin, w.Code, screen(w))
		}
	}
	to := p.ticket(t, at)
	if w := p.get(to); w.Code != 200 || !strings.Contains(w.Body.String(), id+".p12") || strings.Contains(w.Body.String(), to+"/end") {
		t.Errorf("page of the file: %d", w.Code)
	}
	file := p.get(to + "/" + id + ".p12")
	if pair := catest.Open(s.Office, file.Body.Bytes(), "123456"); !bytes.Equal(pair.Leaf.Raw, s.Certificate(s.Request(id).Serial).DER) {
		t.Error("the file holds another certificate")
	}
	if w := p.do("POST", to+"/end", url.Values{"kept": {"yes"}}); w.Code != 303 || w.Header().Get("Location") != to+"#end" {
		t.Errorf("end: %d to %q", w.Code, w.Header().Get("Location"))
	}
	if w := p.get(at); w.Code != 200 || portaltest.Seal(w.Body.String()) != "" || !strings.Contains(w.Body.String(), "お渡しできません") {
		t.Errorf("after the end of the key: %d", w.Code)
	}
	if s.Count("request WHERE kind = 'renewal'") != 1 {
		t.Error("more than one renewal")
	}
}

// A bookmark of any page works in a browser that was never here: the form that it is
// shown is its own.
func TestRenewFirstVisit(t *testing.T) {
	s, hs := openRenewals(t, 1)
	at := s.person(&hs[0]).renewed(t)
	fresh := s.person(&hs[0])
	fresh.ticket(t, at)
	fresh.cookies = map[string]string{"__Host-inkan_p": "broken"}
	fresh.ticket(t, at)
}

// Whatever state a renewal is in, its page says so and leads on.
func TestRenewStates(t *testing.T) {
	s, hs := openRenewals(t, 3)
	away := func() error { return pki.E(pki.Busy, "signer.away") }
	p := s.person(&hs[0])
	s.Signer.Once("SignIntents", catest.Before, away)
	at := p.renewed(t)
	if page := p.get(at).Body.String(); !strings.Contains(page, "data-waiting") || !strings.Contains(page, "<script src=") || portaltest.Seal(page) != "" {
		t.Error("what is under way does not say so")
	}
	if page := p.get("/p/ru").Body.String(); !strings.Contains(page, "もう受け付けてあります") || strings.Contains(page, `value="apply"`) {
		t.Error("the first page offers to renew again")
	}
	if w := p.get("/p/ru/list"); !strings.Contains(w.Body.String(), "発行の途中") {
		t.Error("the list does not show it")
	}
	s.Advance(time.Minute)
	catest.Must(t, s.CA.Recover(t.Context(), 0))
	if page := p.get(at).Body.String(); !strings.Contains(page, "発行済み") || portaltest.Seal(page) == "" {
		t.Error("issued does not say so")
	}

	p = s.person(&hs[1])
	s.Signer.Once("SignIntents", catest.Before, away)
	at = p.renewed(t)
	catest.Must(t, s.DB.Update(t.Context(), func(tx *store.Tx) error {
		why := "profile.key"
		return tx.MoveRequest(s.Request(strings.TrimPrefix(at, "/p/ru/r/")), pki.Failed, store.RequestChange{Failure: &why})
	}))
	if page := p.get(at).Body.String(); !strings.Contains(page, "発行が止まっています") || strings.Contains(page, "data-waiting") {
		t.Error("what an operator must look at does not say so")
	}

	p = s.person(&hs[2])
	at = p.renewed(t)
	_, err := s.RA.Cancel(t.Context(), catest.Intake, strings.TrimPrefix(at, "/p/ru/r/"), "by mistake")
	catest.Must(t, err)
	s.Advance(time.Second)
	if page := p.get(at).Body.String(); !strings.Contains(page, "この更新は、取り消されました") || strings.Contains(page, "鍵生成中") {
		t.Error("what was cancelled does not say so")
	}
	if again := p.renewed(t); again == at {
		t.Error("a cancelled renewal stands in the way")
	}
}

// The renewal's page and the certificate that is asked for it, after its end.
func TestRenewGraceTime(t *testing.T) {
	s, hs := openRenewals(t, 2)
	p, without := s.person(&hs[0]), s.person(&hs[1])
	at := p.renewed(t)
	s.Set(hs[1].Pair.Leaf.NotAfter.AddDate(0, 0, 3))
	if w := p.get("/p/ru"); w.Code != 200 || !strings.Contains(w.Body.String(), "期限が切れています") || strings.Contains(w.Body.String(), `value="apply"`) {
		t.Errorf("home: %d", w.Code)
	}
	p.ticket(t, at)
	if w := without.get("/p/ru/list"); w.Code != 200 || !strings.Contains(w.Body.String(), "まだありません") {
		t.Errorf("list of who did not renew: %d", w.Code)
	}
	if w := without.get("/p/ru/apply"); w.Code != 410 || screen(w) != "RU-1X" {
		t.Errorf("apply: %d %s", w.Code, screen(w))
	}
}
