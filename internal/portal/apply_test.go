package portal_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
)

func applicationForm() url.Values {
	return url.Values{"holderKind": {"medical"}, "holderCode": {"0110119153"}, "department": {"医事課"}, "phone": {"011-000-0000"},
		"email": {"clinic@example.jp"}, "emailConfirm": {"clinic@example.jp"}, "maintenanceEmail": {""}, "terminalName": {"受付1号機"}, "paymentMethod": {"1"}}
}

// applied types an application and presses 申請; it gives the flow's path.
func (b *browser) applied(t *testing.T, form url.Values) string {
	t.Helper()
	b.get("/p/rcr")
	w := b.do("POST", "/p/rcr", form)
	flow := w.Header().Get("Location")
	if w.Code != 303 {
		t.Fatalf("the form: %d\n%s", w.Code, w.Body)
	}
	w = b.pressed(flow, b.get(flow), "apply")
	if w.Code != 303 || w.Header().Get("Location") != flow {
		t.Fatalf("申請: %d to %q\n%s", w.Code, w.Header().Get("Location"), w.Body)
	}
	return flow
}

// mailed gives the path of the link in the newest mail of a kind.
func (s *site) mailed(kind string) string {
	s.T.Helper()
	db := s.Raw()
	defer func() { _ = db.Close() }()
	var args string
	var facts map[string]string
	err := db.QueryRowContext(s.T.Context(), `SELECT args FROM outbox WHERE kind = $1 ORDER BY made_at DESC LIMIT 1`, kind).Scan(&args)
	catest.Must(s.T, err)
	catest.Must(s.T, json.Unmarshal([]byte(args), &facts))
	return facts["Path"]
}

// TestApplication goes the whole way, pressing every button twice, going back and
// reloading; there is one request in the end.
func TestApplication(t *testing.T) {
	d := open(t)
	b := d.browser()
	flow := b.applied(t, applicationForm())
	sent := b.get(flow)
	if sent.Code != 200 || !strings.Contains(sent.Body.String(), "clinic@example.jp") || !strings.Contains(sent.Body.String(), "まだ受け付けられていません") {
		t.Fatalf("after 申請: %d\n%s", sent.Code, sent.Body)
	}
	for range 2 { // wrong address: back, the form with what was typed, and again
		w := b.pressed(flow, sent, "back")
		if w.Code != 303 {
			t.Fatalf("back: %d", w.Code)
		}
	}
	form := b.get(flow)
	for _, kept := range []string{`value="受付1号機"`, `value="clinic@example.jp"`, `value="medical" required checked`, `name="step" value="edit"`} {
		if !strings.Contains(form.Body.String(), kept) {
			t.Errorf("the form does not hold %s", kept)
		}
	}
	stale := d.mailed("confirm")
	typed := applicationForm()
	typed.Set("email", "right@example.jp")
	typed.Set("emailConfirm", "right@example.jp")
	portaltest.Sealed(typed, form.Body.String())
	for range 2 {
		if w := b.do("POST", flow, typed); w.Code != 303 {
			t.Fatalf("the form again: %d\n%s", w.Code, w.Body)
		}
	}
	confirm := b.get(flow)
	for range 3 { // a double click, and the page in another tab
		if w := b.pressed(flow, confirm, "apply"); w.Code != 303 {
			t.Fatalf("申請: %d", w.Code)
		}
	}
	if n := d.Count("outbox WHERE kind = 'confirm'"); n != 2 {
		t.Errorf("%d mails to confirm, want 2", n)
	}
	if w := b.get(stale); w.Code != 404 {
		t.Errorf("the corrected mail's link: %d", w.Code)
	}

	reader := d.browser() // the mail is read in another browser
	link := d.mailed("confirm")
	page := reader.get(link)
	if page.Code != 200 || !strings.Contains(page.Body.String(), "right@example.jp") || d.Count("request") != 0 {
		t.Fatalf("the link: %d, %d requests", page.Code, d.Count("request"))
	}
	if w := d.browser().pressed(link, page, ""); w.Code != 409 || d.Count("request") != 0 {
		t.Errorf("its button in another browser: %d", w.Code)
	}
	for range 2 {
		w := reader.pressed(link, page, "")
		if w.Code != 303 || w.Header().Get("Location") != link {
			t.Fatalf("the button: %d\n%s", w.Code, w.Body)
		}
	}
	if n := d.Count("request"); n != 1 {
		t.Fatalf("%d requests", n)
	}
	for path, who := range map[string]*browser{link: reader, flow: b} { // reload
		w := who.get(path)
		if w.Code != 200 || !strings.Contains(w.Body.String(), "申し込みを受け付けました") {
			t.Errorf("%s: %d", path, w.Code)
		}
	}

	status := d.mailed("receipt")
	page = reader.get(status)
	if page.Code != 200 || !strings.Contains(page.Body.String(), "受付1号機") || !strings.Contains(page.Body.String(), "取り下げる") {
		t.Fatalf("the receipt's link: %d", page.Code)
	}
	for range 2 {
		if w := reader.pressed(status, page, ""); w.Code != 303 {
			t.Fatalf("取下げ: %d\n%s", w.Code, w.Body)
		}
	}
	page = reader.get(status)
	if !strings.Contains(page.Body.String(), i18n.Text("ja", "state.cancelled.what", nil)) || strings.Contains(page.Body.String(), "<form") {
		t.Error("the withdrawn request does not say so")
	}
	for _, path := range []string{link, status, stale} {
		if token := path[strings.LastIndexByte(path, '/')+1:]; strings.Contains(d.log.String(), token) {
			t.Errorf("the log holds the token of %s", path)
		}
	}
	if !strings.Contains(d.log.String(), `"path":"/p/rcr/c/…"`) || !strings.Contains(d.log.String(), `"path":"/p/status/l/…"`) {
		t.Error("the log does not show that links were opened")
	}
}

// TestApplicationResumes: after the session's end one press leads back to the same step
// with everything typed.
func TestApplicationResumes(t *testing.T) {
	d := open(t)
	b := d.browser()
	b.get("/p/rcr")
	flow := b.do("POST", "/p/rcr", applicationForm()).Header().Get("Location")
	d.Advance(31 * time.Minute)
	ended := b.get(flow)
	if ended.Code != 410 {
		t.Fatalf("after the session's end: %d", ended.Code)
	}
	if w := b.pressed(flow, ended, ""); w.Code != 303 {
		t.Fatalf("続きから始める: %d", w.Code)
	}
	if page := b.get(flow); page.Code != 200 || !strings.Contains(page.Body.String(), "受付1号機") {
		t.Errorf("resumed: %d", page.Code)
	}
	if w := d.browser().get(flow); w.Code != 404 {
		t.Errorf("another browser sees the flow: %d", w.Code)
	}
}

// TestThreatAP3: number and code tell one coarse word, whatever else is true; a thousand
// numbers in a row give pages that differ in that word alone. Without its mailed link
// nobody sees or withdraws a request.
func TestThreatAP3(t *testing.T) {
	d := open(t)
	b := d.browser()
	b.applied(t, applicationForm())
	link := d.mailed("confirm")
	b.pressed(link, b.get(link), "")
	first := d.Request(d.only())
	neighbour := d.Submit(catest.Application(7)) // the next number, another institution's
	words := map[string]string{}
	for _, p := range []string{"received", "processing", "issued", "sent", "ended", "unknown"} {
		words[p] = i18n.Text("ja", "progress."+p, nil)
	}
	var page string
	ask := func(id, word string) {
		t.Helper()
		d.Advance(2 * time.Second) // the budget of a source
		w := b.do("POST", "/p/status", url.Values{"receiptNumber": {id}, "holderCode": {first.Application.Holder.Code}})
		got := strings.Replace(w.Body.String(), words[word], "WORD", 1)
		if page == "" {
			page = got
		}
		if w.Code != 200 || got != page || !strings.Contains(got, "WORD") {
			t.Fatalf("%s: %d, the page differs in more than its word:\n%s", id, w.Code, got)
		}
	}
	ask(first.ID, "received")
	for n := range 1000 {
		id := fmt.Sprintf("%s%07d", first.ID[:8], n+1)
		if id != first.ID {
			ask(id, "unknown")
		}
	}
	ask(neighbour.ID, "unknown")
	for _, by := range []pki.Actor{catest.Approver, catest.Second} {
		_, err := d.RA.Approve(t.Context(), by, first.ID, first.ContentHash)
		catest.Must(t, err)
	}
	ask(first.ID, "issued")
	d.Dispatch(first.ID)
	ask(first.ID, "sent")
	if strings.Contains(page, first.ID) || strings.Contains(page, "受付1号機") || strings.Contains(page, "clinic@example.jp") {
		t.Error("the page tells more than the word")
	}

	before := d.Count("audit WHERE kind = 'withdrawal.refused'")
	for _, token := range []string{"", "AAAAAAAAAAAAAAAAAAAAAA", first.ID} {
		for _, w := range []*httptest.ResponseRecorder{b.get("/p/status/l/" + token), b.do("POST", "/p/status/l/"+token, url.Values{"receiptNumber": {neighbour.ID}})} {
			if w.Code != 403 || strings.Contains(w.Body.String(), "受付1号機") {
				t.Errorf("link %q: %d", token, w.Code)
			}
		}
	}
	if n := d.Count("audit WHERE kind = 'withdrawal.refused'") - before; n != 3 {
		t.Errorf("%d refusals on the record, want 3", n)
	}
	for id, want := range map[string]pki.RequestState{first.ID: pki.Issued, neighbour.ID: pki.Received} {
		if got := d.Request(id).State; got != want {
			t.Errorf("%s is %s", id, got)
		}
	}
}

// only gives the ID of the only request.
func (s *site) only() string {
	s.T.Helper()
	db := s.Raw()
	defer func() { _ = db.Close() }()
	var id string
	catest.Must(s.T, db.QueryRowContext(s.T.Context(), `SELECT id FROM request`).Scan(&id))
	return id
}

// TestThreatAP3Walkers: who asks for many states at once is slowed down, by source.
func TestThreatAP3Walkers(t *testing.T) {
	d := open(t)
	b := d.browser()
	for n := range 61 {
		w := b.do("POST", "/p/status", url.Values{"receiptNumber": {"202611230000001"}, "holderCode": {"0110119153"}})
		if want := map[bool]int{true: 200, false: 429}[n < 60]; w.Code != want {
			t.Fatalf("try %d: %d", n+1, w.Code)
		}
	}
	other := d.browser()
	other.from = "192.0.2.8"
	if w := other.do("POST", "/p/status", url.Values{"receiptNumber": {"1"}, "holderCode": {"1"}}); w.Code != 200 {
		t.Errorf("another source: %d", w.Code)
	}
}

// TestThreatAP4Sources: one source presses 申請 so often, and no more.
func TestThreatAP4Sources(t *testing.T) {
	d := open(t)
	b := d.browser()
	b.get("/p/rcr")
	code := 0
	for n := range 21 {
		form := applicationForm()
		form.Set("email", fmt.Sprintf("a%d@example.jp", n))
		form.Set("emailConfirm", fmt.Sprintf("a%d@example.jp", n))
		flow := b.do("POST", "/p/rcr", form).Header().Get("Location")
		code = b.pressed(flow, b.get(flow), "apply").Code
	}
	if code != 429 || d.Count("outbox") != 20 {
		t.Errorf("the last press: %d, %d mails", code, d.Count("outbox"))
	}
}

// TestThreatAP9: whatever is typed is text on every page that shows it.
func TestThreatAP9(t *testing.T) {
	polyglots := []string{`"><svg onload=alert(1)>`, `<a hx-post=/p/rcr>x</a>`, `]]><script>1</script>`, `{{.}}'onfocus=1 autofocus'`, `**[x]**<b>`}
	for _, evil := range polyglots {
		d := open(t)
		b := d.browser()
		b.get("/p/rcr")
		form := applicationForm()
		for field := range form {
			form.Set(field, evil)
		}
		pages := []string{b.get(b.typed(t, "/p/rcr", form)).Body.String()}
		form = applicationForm()
		form.Set("terminalName", evil)
		form.Set("department", evil)
		flow := b.applied(t, form)
		pages = append(pages, b.get(flow).Body.String())
		link := d.mailed("confirm")
		pages = append(pages, b.get(link).Body.String())
		b.pressed(link, b.get(link), "")
		pages = append(pages, b.get(link).Body.String(), b.get(d.mailed("receipt")).Body.String())
		for n, page := range pages {
			if strings.Contains(page, evil) || strings.Contains(page, "<svg onload") || strings.Contains(page, "<a hx-post") || strings.Contains(page, "<script>") {
				t.Errorf("page %d takes %s for markup", n, evil)
			}
		}
		for _, n := range []int{0, 2, 3, 4} { // those that show it
			if !strings.Contains(pages[n], "&lt;") && !strings.Contains(pages[n], "&#39;") && !strings.Contains(pages[n], "&#34;") {
				t.Errorf("page %d does not show %s", n, evil)
			}
		}
	}
}
