package portal_test

import (
	"crypto/sha256"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
)

func TestDownload(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	form := b.get("/p/rcd")
	if form.Code != 200 || !strings.Contains(form.Body.String(), "証明書の取得") {
		t.Fatalf("form: %d", form.Code)
	}
	b.ticketFor(s.typed())
	done := b.ticketFor(s.typed()) // a double click, or the form in two tabs
	in := s.office.asked[0]
	if in.RequestID != s.letter.ID || in.ReferenceID != s.ref || in.PIN != pin || in.PINConfirm != pin || in.Source.String() != "192.0.2.7" || in.Legacy {
		t.Errorf("asked %+v", in)
	}
	for range 2 { // reload
		if w := b.get(done); w.Code != 200 {
			t.Fatalf("done: %d", w.Code)
		}
	}
	uses := func() int { return s.Count("audit WHERE kind = 'pickup.fetched' AND subject = $1", s.letter.ID) }
	file := done + "/" + s.letter.ID + ".p12"
	head := b.do(http.MethodHead, file, nil)
	if head.Code != 200 || uses() != 0 {
		t.Errorf("HEAD: %d, %d fetches", head.Code, uses())
	}
	if w := b.get(done + "/other.p12"); w.Code != 404 || uses() != 0 {
		t.Errorf("other name: %d, %d fetches", w.Code, uses())
	}
	for i := range ra.TicketUses {
		got := b.get(file)
		h := got.Header()
		if got.Code != 200 || h.Get("Content-Type") != "application/x-pkcs12" ||
			h.Get("Content-Disposition") != `attachment; filename="`+s.letter.ID+`.p12"` || h.Get("Cache-Control") != "no-store" {
			t.Fatalf("fetch %d: %d %v", i, got.Code, h)
		}
		if pair := catest.Open(s.Office, got.Body.Bytes(), pin); !pair.Leaf.Equal(s.Leaf(s.letter.Serial)) {
			t.Error("the file holds another certificate")
		}
	}
	got := b.get(file)
	if got.Code != 410 || !strings.Contains(got.Body.String(), "番号の入力からやり直す") || uses() != ra.TicketUses {
		t.Errorf("fetch after all: %d, %d fetches", got.Code, uses())
	}
	if w := b.get(done); w.Code != 200 || strings.Contains(w.Body.String(), "class=\"file\"") {
		t.Errorf("page after three fetches: %d still offers the file", w.Code)
	}
	for _, secret := range []string{strings.TrimPrefix(done, "/p/rcd/t/"), pin, s.ref.Reveal()} {
		if holds(s.log.String()+s.Log.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestDonePageSaysWhatItMust(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	done := b.ticketFor(s.typed())
	page := b.page(done)
	file := b.get(done + "/" + s.letter.ID + ".p12").Body.Bytes()
	for _, want := range []string{
		"受付1号機", "<span>01</span><span>1</span><span>0119153</span>", "2030年2月24日", "3年3か月", "2027年5月23日", "14時10分まで", issuerName,
		"数字のパスワードだけでは、ファイルを守れません", "控えを取ってください", "Windows 10・11", "Windows 8.1", "Linux（Firefox）", "macOS（Safari）",
		fmt.Sprintf("<span>%x</span>", sha256.Sum256(file))[:14], "画面番号 RCD-2", "新しい形式（AES）", `href="` + done + `/` + s.letter.ID + `.p12"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	b.lang = "en"
	page = b.page(done)
	for _, want := range []string{"24 February 2030", "3 years 3 months", "Digits alone do not protect the file"} {
		if !strings.Contains(page, want) {
			t.Errorf("the English page does not hold %q", want)
		}
	}
}

func TestFieldsThatAreWrongSaySo(t *testing.T) {
	const goodRequest, goodReference = "202611230000123", "hT7kWm4Qzr" // by their form
	tests := []struct {
		name, request, reference string
		want                     []string // marked fields
		asked                    bool
	}{
		{"fourteen digits", "20261123000012", goodReference, []string{"requestId", "14文字が入力されています"}, false},
		{"no such day", "202613230000123", goodReference, []string{"requestId", "始めの8桁は日付です"}, false},
		{"nothing", "", "", []string{"requestId", "referenceId"}, false},
		{"a zero", goodRequest, "hT7kWm4Qz0", []string{"referenceId", "使われていない文字"}, false},
		{"nine letters", goodRequest, "hT7kWm4Qz", []string{"referenceId", "9文字が入力されています"}, false},
		{"full width and blanks", "２０２６ 1123-0000　123", "ｈT7kW m4Qzr", nil, true},
		{"well formed", goodRequest, goodReference, nil, true},
	}
	s := open(t)
	for _, tt := range tests {
		before := len(s.office.asked)
		form := typedFor(pki.Request{}, "")
		form.Set("requestId", tt.request)
		form.Set("referenceId", tt.reference)
		w := s.browser().post(form)
		page := w.Body.String()
		status, heading := 404, "番号が一致しないため"
		if !tt.asked {
			status, heading = 422, "番号の欄をお確かめください" // nothing was compared, so nothing “does not match”
		}
		if w.Code != status || !strings.Contains(page, heading) {
			t.Errorf("%s: %d, want %d and %q", tt.name, w.Code, status, heading)
		}
		if asked := len(s.office.asked) - before; (asked == 1) != tt.asked {
			t.Errorf("%s: asked %d times", tt.name, asked)
		}
		if strings.Contains(page, `aria-invalid="true"`) != (tt.want != nil) {
			t.Errorf("%s: aria-invalid", tt.name)
		}
		for _, want := range tt.want {
			if strings.HasSuffix(want, "Id") {
				want = `aria-describedby="` + want + `-h ` + want + `-e" aria-invalid="true"`
			}
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not hold %s", tt.name, want)
			}
		}
	}
}

func TestFileFormat(t *testing.T) {
	const win = "Mozilla/5.0 (Windows NT %; Win64; x64) AppleWebKit/537.36 Chrome/109.0 Edg/109.0"
	tests := []struct {
		agent, format string
		legacy        bool
	}{
		{strings.Replace(win, "%", "6.3", 1), "", true},
		{strings.Replace(win, "%", "6.1", 1), "auto", true},
		{strings.Replace(win, "%", "5.1", 1), "auto", true},
		{strings.Replace(win, "%", "10.0", 1), "auto", false},
		{strings.Replace(win, "%", "6.4", 1), "auto", false}, // previews of Windows 10
		{strings.Replace(win, "%", "10.0", 1), "legacy", true},
		{strings.Replace(win, "%", "6.3", 1), "aes", false},
		{strings.Replace(win, "%", "6.3", 1), "nonsense", true},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "auto", false},
		{"Windows NT ", "auto", false},
		{"", "", false},
	}
	s := openLetter(t)
	for _, tt := range tests {
		b := s.browser()
		b.agent = tt.agent
		form := s.typed()
		form.Set("format", tt.format)
		page := b.page(b.ticketFor(form))
		if strings.Contains(page, i18n.Text("ja", "rcd.format.aes", nil)) == tt.legacy || strings.Contains(page, i18n.Text("ja", "rcd.format.legacy", nil)) != tt.legacy {
			t.Errorf("%q %q: legacy = %t", tt.agent, tt.format, !tt.legacy)
		}
	}
}

// Threat DL7: a ticket works only in the browser that asked for it.
func TestThreatDL7TicketInAnotherBrowser(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	b.get("/p/rcd")
	done := b.ticketFor(s.typed())
	other := s.browser()
	other.get("/p/rcd") // has a cookie of its own
	bare := s.browser()
	for name, stranger := range map[string]*browser{"other": other, "bare": bare} {
		for _, path := range []string{"", "/" + s.letter.ID + ".p12"} {
			w := stranger.get(done + path)
			if w.Code != 403 || strings.Contains(w.Body.String(), s.letter.ID) || w.Header().Get("Content-Disposition") != "" {
				t.Errorf("%s browser, %q: %d", name, path, w.Code)
			}
		}
	}
	if n := s.Count("audit WHERE kind = 'pickup.fetched'"); n != 0 {
		t.Errorf("strangers used up %d fetches", n)
	}
}

// Threat DL7: after three fetches the page says so and offers to begin again.
func TestThreatDL7FourthFetch(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	b.get("/p/rcd")
	file := b.ticketFor(s.typed()) + "/" + s.letter.ID + ".p12"
	for range 3 {
		if w := b.get(file); w.Code != 200 {
			t.Fatalf("fetch: %d", w.Code)
		}
	}
	w := b.get(file)
	if w.Code != 410 || !strings.Contains(w.Body.String(), `href="/p/rcd"`) || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("fourth fetch: %d", w.Code)
	}
}

// Threat DL6: nobody is let believe that four digits protect a file, in either language.
func TestThreatDL6PagesSayWhatThePINIs(t *testing.T) {
	s := openLetter(t)
	for lang, words := range map[string]string{"ja": "1万通りしかなく", "en": "only ten thousand passwords"} {
		b := s.browser()
		b.lang = lang
		page := b.page(b.ticketFor(s.typed()))
		if !strings.Contains(page, words) || !strings.Contains(page, html.EscapeString(i18n.Text(lang, "help.pin.lost", nil))) {
			t.Errorf("%s: the page of the file does not say it", lang)
		}
	}
}

// Threat DL11: what is typed stays out of the browser's memory and of caches.
func TestThreatDL11TypedSecrets(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	for name, w := range map[string]*httptest.ResponseRecorder{"form": b.get("/p/rcd"), "refusal": b.post(typedFor(s.letter, wrongReference))} {
		page := w.Body.String()
		for field, want := range map[string]string{"requestId": "off", "referenceId": "off", "password": "new-password", "passwordConfirm": "new-password"} {
			input := regexp.MustCompile(`<input id="` + field + `"[^>]*>`).FindString(page)
			if !strings.Contains(input, `autocomplete="`+want+`"`) {
				t.Errorf("%s: %s", name, input)
			}
			if strings.HasPrefix(field, "password") && (!strings.Contains(input, `type="password"`) || strings.Contains(input, "value=")) {
				t.Errorf("%s shows the PIN: %s", name, input)
			}
		}
		if w.Header().Get("Cache-Control") != "no-store" || holds(page, pin) {
			t.Errorf("%s may be kept, or holds the PIN: %q", name, w.Header().Get("Cache-Control"))
		}
	}
	if holds(s.log.String(), pin) || holds(s.log.String(), wrongReference) {
		t.Error("the log holds what was typed")
	}
}

func TestOddRequests(t *testing.T) {
	s := open(t)
	b := s.browser()
	tests := []struct {
		method, path string
		form         url.Values
		want         int
	}{
		{"GET", "/", nil, 200},
		{"GET", "/p/", nil, 200},
		{"GET", "/nothing", nil, 404},
		{"PUT", "/p/rcd", nil, 404},
		{"GET", "/p/rcd/t/", nil, 404},
		{"GET", "/p/rcd/t/x/y/z", nil, 404},
		{"POST", "/p/rcd", url.Values{"password": {strings.Repeat("1", 70_000)}}, 413},
		{"POST", "/p/rcd?lang=en", url.Values{}, 422},
	}
	for _, tt := range tests {
		w := b.do(tt.method, tt.path, tt.form)
		if w.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
		if !strings.Contains(w.Body.String(), "<main") {
			t.Errorf("%s %s: not one of our pages", tt.method, tt.path)
		}
	}
	for lang, words := range map[string]string{"ja": "送られた内容が大きすぎました", "en": "That was too much to receive"} {
		b.lang = lang
		page := b.post(url.Values{"password": {strings.Repeat("1", 70_000)}}).Body.String()
		if !strings.Contains(page, words) || !strings.Contains(page, "ERR-2") {
			t.Errorf("too large in %s:\n%s", lang, page)
		}
	}
}
