package portal_test

import (
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/ra"
)

func TestDownload(t *testing.T) {
	s := open(t)
	b := s.browser()
	form := b.get("/p/rcd")
	if form.Code != 200 || !strings.Contains(form.Body.String(), "証明書の取得") {
		t.Fatalf("form: %d", form.Code)
	}
	for range 2 { // a double click, or the form in two tabs
		sent := b.post(typed())
		if sent.Code != 303 || sent.Header().Get("Location") != "/p/rcd/t/"+goodTicket {
			t.Fatalf("post: %d to %q", sent.Code, sent.Header().Get("Location"))
		}
	}
	in := s.pickups.asked[0]
	if in.RequestID != goodRequest || in.ReferenceID != goodReference || in.PIN != canaryPIN || in.PINConfirm != canaryPIN || in.Source.String() != "192.0.2.7" || in.Legacy {
		t.Errorf("asked %+v", in)
	}
	for range 2 { // reload
		done := b.get("/p/rcd/t/" + goodTicket)
		if done.Code != 200 {
			t.Fatalf("done: %d", done.Code)
		}
	}
	file := "/p/rcd/t/" + goodTicket + "/" + goodRequest + ".p12"
	head := b.do(http.MethodHead, file, nil)
	if head.Code != 200 || s.pickups.left != 3 {
		t.Errorf("HEAD: %d, %d fetches left", head.Code, s.pickups.left)
	}
	if w := b.get("/p/rcd/t/" + goodTicket + "/other.p12"); w.Code != 404 || s.pickups.left != 3 {
		t.Errorf("other name: %d, %d fetches left", w.Code, s.pickups.left)
	}
	for i := range 4 {
		got := b.get(file)
		if i == 3 {
			if got.Code != 410 || !strings.Contains(got.Body.String(), "番号の入力からやり直す") {
				t.Errorf("fourth fetch: %d", got.Code)
			}
			break
		}
		h := got.Header()
		if got.Code != 200 || got.Body.String() != string(theFile) || h.Get("Content-Type") != "application/x-pkcs12" ||
			h.Get("Content-Disposition") != `attachment; filename="`+goodRequest+`.p12"` || h.Get("Cache-Control") != "no-store" {
			t.Errorf("fetch %d: %d %v", i, got.Code, h)
		}
	}
	if w := b.get("/p/rcd/t/" + goodTicket); w.Code != 200 || strings.Contains(w.Body.String(), "class=\"file\"") {
		t.Errorf("page after three fetches: %d still offers the file", w.Code)
	}
	for _, secret := range []string{goodTicket, canaryPIN, goodReference} {
		if holds(s.log.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestDonePageSaysWhatItMust(t *testing.T) {
	s := open(t)
	b := s.browser()
	b.post(typed())
	page := b.get("/p/rcd/t/" + goodTicket).Body.String()
	for _, want := range []string{
		"受付1号機", "<span>01</span><span>1</span><span>0119153</span>", "2030年2月24日", "3年3か月", "2027年5月23日", "14時10分まで", "Test CA - G1",
		"数字のパスワードだけでは、ファイルを守れません", "控えを取ってください", "Windows 10・11", "Windows 8.1", "Linux（Firefox）", "macOS（Safari）",
		"<span>ec864fe9</span>", "画面番号 RCD-2", "新しい形式（AES）", `href="/p/rcd/t/` + goodTicket + `/` + goodRequest + `.p12"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	b.lang = "en"
	page = b.get("/p/rcd/t/" + goodTicket).Body.String()
	for _, want := range []string{"24 February 2030", "3 years 3 months", "Digits alone do not protect the file"} {
		if !strings.Contains(page, want) {
			t.Errorf("the English page does not hold %q", want)
		}
	}
}

// refusals are the codes of the agreement with ra, with their status and whether the
// form comes back.
var refusals = []struct {
	class  pki.Class
	code   string
	status int
	form   bool
	arg    string
}{
	{pki.NotFound, "pickup.wrong_ids", 404, true, ""},
	{pki.Invalid, "pickup.ids_form", 422, true, ""},
	{pki.Limited, "pickup.slow", 429, true, "Until"},
	{pki.Invalid, "pickup.pin_form", 422, true, ""},
	{pki.Invalid, "pickup.pin_differs", 422, true, ""},
	{pki.Busy, "pickup.busy", 503, true, ""},
	{pki.NotYet, "pickup.not_issued", 409, false, ""},
	{pki.NotYet, "pickup.not_dispatched", 409, false, ""},
	{pki.Gone, "pickup.deadline", 410, false, "Deadline"},
	{pki.Gone, "pickup.cancelled", 410, false, ""},
	{pki.Gone, "pickup.rejected", 410, false, ""},
	{pki.Gone, "pickup.revoked", 410, false, ""},
	{pki.Gone, "pickup.suspended", 410, false, ""},
	{pki.Gone, "pickup.expired", 410, false, ""},
	{pki.Gone, "pickup.key_destroyed", 410, false, ""},
	{pki.Invalid, "pickup.csr", 422, false, ""},
	{pki.NotFound, "ticket.unknown", 404, false, ""},
	{pki.Forbidden, "ticket.foreign", 403, false, ""},
	{pki.Gone, "ticket.over", 410, false, ""},
	{pki.Internal, "internal", 500, false, ""},
	{pki.Internal, "signer.away", 500, false, ""}, // words for operators only: this site says "internal"
}

func TestEveryRefusalHasItsWords(t *testing.T) {
	screens := map[string]string{}
	for _, tt := range refusals {
		for _, lang := range i18n.Languages {
			t.Run(tt.code+"/"+lang, func(t *testing.T) {
				s := open(t)
				b := s.browser()
				b.lang = lang
				refusal := pki.E(tt.class, tt.code)
				if tt.arg != "" {
					refusal = refusal.With(tt.arg, start.Add(24*time.Hour))
				}
				s.pickups.err = refusal.Because(errors.New("PRIVATE"))
				s.pickups.prepare = func(ra.PickupInput) (pki.Secret, error) { return "", s.pickups.err }
				w := b.post(typed())
				if strings.HasPrefix(tt.code, "ticket.") {
					w = b.get("/p/rcd/t/" + goodTicket)
				}
				page := w.Body.String()
				code := tt.code
				if code == "signer.away" {
					code = "internal"
				}
				args := map[string]any{tt.arg: start.Add(24 * time.Hour).Truncate(time.Minute).Add(time.Minute)}
				if w.Code != tt.status {
					t.Errorf("status %d, want %d", w.Code, tt.status)
				}
				wants := []string{i18n.Text(lang, "error."+code+".title", args), i18n.Text(lang, "three.what", nil), i18n.Text(lang, "three.do", nil),
					"0570-123-456", "tel:0570123456", `<span class="code">` + s.lookup() + `</span>`, `autofocus`}
				for _, part := range []string{"", ".not", ".hint"} {
					for _, line := range i18n.RichLines(lang, "error."+code+part, args) {
						for _, span := range line {
							wants = append(wants, html.EscapeString(span.Text))
						}
					}
				}
				for _, want := range wants {
					if !strings.Contains(page, want) {
						t.Errorf("the page does not hold %q", want)
					}
				}
				if holds(strings.ReplaceAll(page, s.lookup(), ""), canaryPIN) {
					t.Error("the page holds the PIN")
				}
				for _, never := range []string{"PRIVATE", "error." + code, "{", "}", "%!"} {
					if strings.Contains(page, never) {
						t.Errorf("the page holds %q", never)
					}
				}
				if strings.Contains(page, "<form") != tt.form {
					t.Errorf("form = %t, want %t", !tt.form, tt.form)
				}
				if tt.form && (!strings.Contains(page, `value="`+goodRequest+`"`) || !strings.Contains(page, `value="`+goodReference+`"`)) {
					t.Error("the typed IDs are lost")
				}
				if lang == "ja" && code == tt.code {
					_, screen, _ := strings.Cut(page, "画面番号 ")
					screen, _, _ = strings.Cut(screen, "（")
					other, taken := screens[screen]
					if taken {
						t.Errorf("screen %s is also that of %s", screen, other)
					}
					screens[screen] = tt.code
				}
			})
		}
	}
}

func TestFieldsThatAreWrongSaySo(t *testing.T) {
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
	for _, tt := range tests {
		s := open(t)
		s.pickups.prepare = func(ra.PickupInput) (pki.Secret, error) { return "", pki.E(pki.NotFound, "pickup.wrong_ids") }
		form := typed()
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
		if (len(s.pickups.asked) == 1) != tt.asked {
			t.Errorf("%s: asked %d times", tt.name, len(s.pickups.asked))
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
	for _, tt := range tests {
		s := open(t)
		b := s.browser()
		b.agent = tt.agent
		form := typed()
		form.Set("format", tt.format)
		b.post(form)
		if s.pickups.asked[0].Legacy != tt.legacy {
			t.Errorf("%q %q: legacy = %t", tt.agent, tt.format, !tt.legacy)
		}
	}
}

// Threat DL7: a ticket works only in the browser that asked for it.
func TestThreatDL7TicketInAnotherBrowser(t *testing.T) {
	s := open(t)
	b := s.browser()
	b.get("/p/rcd")
	b.post(typed())
	other := s.browser()
	other.get("/p/rcd") // has a cookie of its own
	bare := s.browser()
	for name, stranger := range map[string]*browser{"other": other, "bare": bare} {
		for _, path := range []string{"", "/" + goodRequest + ".p12"} {
			w := stranger.get("/p/rcd/t/" + goodTicket + path)
			if w.Code != 403 || strings.Contains(w.Body.String(), string(theFile)) {
				t.Errorf("%s browser, %q: %d", name, path, w.Code)
			}
		}
	}
	if s.pickups.left != 3 {
		t.Errorf("strangers used up fetches: %d left", s.pickups.left)
	}
}

// Threat DL7: after three fetches the page says so and offers to begin again.
func TestThreatDL7FourthFetch(t *testing.T) {
	s := open(t)
	b := s.browser()
	b.get("/p/rcd")
	b.post(typed())
	for range 3 {
		if w := b.get("/p/rcd/t/" + goodTicket + "/" + goodRequest + ".p12"); w.Code != 200 {
			t.Fatalf("fetch: %d", w.Code)
		}
	}
	w := b.get("/p/rcd/t/" + goodTicket + "/" + goodRequest + ".p12")
	if w.Code != 410 || !strings.Contains(w.Body.String(), `href="/p/rcd"`) || strings.Contains(w.Body.String(), string(theFile)) {
		t.Errorf("fourth fetch: %d", w.Code)
	}
}

// Threat DL6: nobody is let believe that four digits protect a file, in either language.
func TestThreatDL6PagesSayWhatThePINIs(t *testing.T) {
	s := open(t)
	for lang, words := range map[string]string{"ja": "1万通りしかなく", "en": "only ten thousand passwords"} {
		b := s.browser()
		b.lang = lang
		b.post(typed())
		page := b.get("/p/rcd/t/" + goodTicket).Body.String()
		if !strings.Contains(page, words) || !strings.Contains(page, html.EscapeString(i18n.Text(lang, "help.pin.lost", nil))) {
			t.Errorf("%s: the page of the file does not say it", lang)
		}
	}
}

// Threat DL11: what is typed stays out of the browser's memory and of caches.
func TestThreatDL11TypedSecrets(t *testing.T) {
	s := open(t)
	s.pickups.prepare = only("none")
	b := s.browser()
	for name, w := range map[string]*httptest.ResponseRecorder{"form": b.get("/p/rcd"), "refusal": b.post(typed())} {
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
		if w.Header().Get("Cache-Control") != "no-store" || holds(page, canaryPIN) {
			t.Errorf("%s may be kept, or holds the PIN: %q", name, w.Header().Get("Cache-Control"))
		}
	}
	if holds(s.log.String(), canaryPIN) || holds(s.log.String(), goodReference) {
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
