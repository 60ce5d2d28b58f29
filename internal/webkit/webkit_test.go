package webkit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"inkan/internal/pki"
	"inkan/internal/webkit"
)

// logged collects what a handler writes to the log.
func logged() (*slog.Logger, *bytes.Buffer) {
	var out bytes.Buffer
	return slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), &out
}

func stack(log *slog.Logger, routes http.Handler) http.Handler {
	zone := webkit.Zone{Name: "portal", Hosts: []string{"example.com"}}
	return webkit.Stack{Zone: zone, Report: webkit.NewReporter(log, nil)}.Wrap(routes)
}

func request(method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, target, body)
	r.RemoteAddr = "192.0.2.7:40000"
	return r
}

func TestFailJoinsPageAndLog(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		level  string
		code   string
	}{
		{"ours", pki.E(pki.Gone, "ticket.over").Because(errors.New("PRIVATE")), 410, "INFO", "ticket.over"},
		{"invalid", pki.E(pki.Invalid, "csr.form"), 422, "INFO", "csr.form"},
		{"not found", pki.ErrNotFound, 404, "INFO", "not_found"},
		{"conflict", pki.ErrConflict, 409, "INFO", "conflict"},
		{"forbidden", pki.E(pki.Forbidden, "x"), 403, "INFO", "x"},
		{"limited", pki.E(pki.Limited, "x"), 429, "INFO", "x"},
		{"not yet", pki.E(pki.NotYet, "x"), 409, "INFO", "x"},
		{"busy", pki.E(pki.Busy, "x"), 503, "INFO", "x"},
		{"foreign", errors.New("PRIVATE disk"), 500, "ERROR", "internal"},
	}
	for _, tt := range tests {
		log, out := logged()
		rep := webkit.NewReporter(log, nil)
		w := httptest.NewRecorder()
		rep.Handle(func(http.ResponseWriter, *http.Request) error { return tt.err }).ServeHTTP(w, request("GET", "/p/", nil))
		if w.Code != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, w.Code, tt.status)
		}
		if strings.Contains(w.Body.String(), "PRIVATE") {
			t.Errorf("%s: the private half reached the page", tt.name)
		}
		var record struct{ Level, Lookup, Code, Err string }
		err := json.Unmarshal(out.Bytes(), &record)
		if err != nil {
			t.Fatalf("%s: log %q: %v", tt.name, out, err)
		}
		if record.Level != tt.level || record.Code != tt.code || len(record.Lookup) != 8 {
			t.Errorf("%s: record %+v", tt.name, record)
		}
		if !strings.Contains(w.Body.String(), webkit.SpokenLookup(record.Lookup)) {
			t.Errorf("%s: the page does not hold the code %s of the log", tt.name, record.Lookup)
		}
	}
}

func TestFailWhenDrawingFails(t *testing.T) {
	log, out := logged()
	rep := webkit.NewReporter(log, func(http.ResponseWriter, *http.Request, webkit.Failure) error { return errors.New("template broke") })
	w := httptest.NewRecorder()
	r := request("GET", "/", nil)
	r.Header.Set("Accept-Language", "en")
	rep.Fail(w, r, pki.E(pki.Busy, "x"))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "look-up code") {
		t.Errorf("last-resort page: %d %s", w.Code, w.Body)
	}
	if !strings.Contains(out.String(), "template broke") {
		t.Error("the log does not say that drawing failed")
	}
}

// A panic's value may hold a PIN: net/http would print it (threat DL11).
func TestThreatDL11PanicKeepsItsValueToItself(t *testing.T) {
	log, out := logged()
	h := stack(log, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errors.New("PIN pin7391pin refused")) }))
	w := httptest.NewRecorder()
	r := request("GET", "/p/", nil)
	r.RequestURI = "/p/"
	h.ServeHTTP(w, r)
	if w.Code != 500 {
		t.Errorf("status %d", w.Code)
	}
	if strings.Contains(out.String()+w.Body.String(), "pin7391pin") {
		t.Errorf("the value of the panic got out:\n%s\n%s", out, w.Body)
	}
	for _, want := range []string{"*errors.errorString", "webkit_test.go"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log does not hold %s", want)
		}
	}
}

func TestPanicAfterTheFirstByteCutsTheAnswer(t *testing.T) {
	log, _ := logged()
	server := httptest.NewServer(stackFor(log, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 100<<10)) // more than net/http keeps back
		panic("late")
	}))
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		return // cut before the head: as good
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	if err == nil {
		t.Error("half an answer was read as a whole one")
	}
}

// stackFor is a stack for a test server: its host is the server's own.
func stackFor(log *slog.Logger, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		webkit.Stack{Zone: webkit.Zone{Hosts: []string{r.Host}}, Report: webkit.NewReporter(log, nil)}.Wrap(h).ServeHTTP(w, r)
	})
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	if strings.HasPrefix(r.RequestURI, "http") {
		r.RequestURI = r.URL.RequestURI()
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryAnswerCarriesTheHeaders(t *testing.T) {
	log, _ := logged()
	h := stack(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic(1)
		}
		_, _ = w.Write([]byte("x"))
	}))
	foreignHost := request("GET", "/", nil)
	foreignHost.Host = "evil.test"
	foreignSite := request("POST", "/", nil)
	foreignSite.Header.Set("Sec-Fetch-Site", "cross-site")
	for name, r := range map[string]*http.Request{
		"page": request("GET", "/", nil), "panic": request("GET", "/panic", nil), "other host": foreignHost, "other site": foreignSite,
	} {
		head := serve(h, r).Header()
		for key, want := range map[string]string{
			"Content-Security-Policy":    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"Referrer-Policy":            "no-referrer",
			"Cache-Control":              "no-store",
			"X-Content-Type-Options":     "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if head.Get(key) != want {
				t.Errorf("%s: %s = %q, want %q", name, key, head.Get(key), want)
			}
		}
	}
}

func TestThreatRS11ForeignSites(t *testing.T) {
	log, _ := logged()
	h := stack(log, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	tests := []struct {
		method, site, origin string
		want                 int
	}{
		{"POST", "same-origin", "null", 204}, // Referrer-Policy no-referrer makes browsers send null
		{"POST", "none", "", 204},
		{"POST", "cross-site", "", 403},
		{"POST", "same-site", "", 403}, // another port, another zone
		{"POST", "", "https://evil.test", 403},
		{"POST", "", "https://example.com", 204},
		{"GET", "cross-site", "", 204}, // a link in a mail
	}
	for _, tt := range tests {
		r := request(tt.method, "/", nil)
		r.Header.Set("Sec-Fetch-Site", tt.site)
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		w := serve(h, r)
		if w.Code != tt.want {
			t.Errorf("%+v: status %d", tt, w.Code)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	log, out := logged()
	rep := webkit.NewReporter(log, nil)
	h := stack(log, rep.Handle(func(_ http.ResponseWriter, r *http.Request) error {
		_, err := io.ReadAll(r.Body)
		return err
	}))
	w := serve(h, request("POST", "/", bytes.NewReader(make([]byte, webkit.BodyLimit))))
	if w.Code != 200 {
		t.Errorf("a body of the limit: %d", w.Code)
	}
	w = serve(h, request("POST", "/", bytes.NewReader(make([]byte, webkit.BodyLimit+1))))
	if w.Code != 413 || !strings.Contains(out.String(), "http.too_large") {
		t.Errorf("a body over the limit: %d", w.Code)
	}
}

func TestThreatDL7AccessLog(t *testing.T) {
	log, out := logged()
	h := stack(log, http.NotFoundHandler())
	serve(h, request("GET", "/p/rcd/t/TICKETTICKET/202611230000123.p12?pin=pin7391pin", nil))
	serve(h, request("GET", "/p/rcd/t/TICKETTICKET", nil))
	forwarded := request("GET", "/", nil)
	forwarded.Header.Set("X-Forwarded-For", "203.0.113.9")
	serve(h, forwarded)
	for _, secret := range []string{"TICKET", "pin7391pin", "203.0.113.9"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log holds %s:\n%s", secret, out)
		}
	}
	if strings.Count(out.String(), `"path":"/p/rcd/t/…"`) != 2 || !strings.Contains(out.String(), `"source":"192.0.2.7"`) {
		t.Errorf("log:\n%s", out)
	}
}

func TestBrowserCookie(t *testing.T) {
	w := httptest.NewRecorder()
	hash := webkit.Browser(w, request("GET", "/", nil))
	cookie := w.Result().Cookies()[0]
	if cookie.Name != "__Host-inkan_p" || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("cookie %+v", cookie)
	}
	again := request("GET", "/", nil)
	again.AddCookie(cookie)
	w2 := httptest.NewRecorder()
	if webkit.Browser(w2, again) != hash || len(w2.Result().Cookies()) != 0 {
		t.Error("the same browser was not known again")
	}
	for _, value := range []string{"", "short", strings.Repeat("A", 4000)} {
		r := request("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-inkan_p", Value: value})
		_, ok := webkit.KnownBrowser(r)
		if ok {
			t.Errorf("cookie %.10q was taken", value)
		}
	}
}

func TestLanguageLink(t *testing.T) {
	log, _ := logged()
	h := stack(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(webkit.Lang(r))) }))
	w := serve(h, request("GET", "/p/rcd?lang=en", nil))
	if w.Code != 303 || w.Header().Get("Location") != "/p/rcd" {
		t.Errorf("?lang=en: %d to %q", w.Code, w.Header().Get("Location"))
	}
	r := request("GET", "/p/rcd", nil)
	r.AddCookie(w.Result().Cookies()[0])
	if got := serve(h, r).Body.String(); got != "en" {
		t.Errorf("language after the link: %s", got)
	}
	w = serve(h, request("GET", "/p/rcd?lang=fr", nil))
	if w.Code != 200 || len(w.Result().Cookies()) != 0 {
		t.Errorf("?lang=fr: %d", w.Code)
	}
	r = request("GET", "/x?lang=en", nil)
	r.URL.Path = "//evil.test/"
	w = serve(h, r)
	if strings.HasPrefix(w.Header().Get("Location"), "//") {
		t.Errorf("the link leads away: %s", w.Header().Get("Location"))
	}
}

func TestBudget(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	b := webkit.NewBudget[string](10, 30*time.Second, 100, func() time.Time { return now })
	take := func(key string, want bool) {
		t.Helper()
		_, ok := b.Take(key)
		if ok != want {
			t.Errorf("Take(%s) at %s = %t", key, now.Format("04:05"), ok)
		}
	}
	for range 10 {
		take("a", true)
	}
	until, ok := b.Take("a")
	if ok || until.Sub(now) != 30*time.Second {
		t.Errorf("eleventh: %t until %s", ok, until)
	}
	take("b", true)
	b.Back("a")
	take("a", true) // given back
	take("a", false)
	now = now.Add(30 * time.Second)
	take("a", true)
	take("a", false)
	now = now.Add(time.Hour) // no more than the full budget comes back
	for range 10 {
		take("a", true)
	}
	take("a", false)
	b.Back("never seen")
}

func TestBudgetForgetsRatherThanGrows(t *testing.T) {
	now := time.Now()
	b := webkit.NewBudget[int](2, time.Hour, 50, func() time.Time { return now })
	for i := range 10_000 {
		_, ok := b.Take(i)
		if !ok {
			t.Fatalf("newcomer %d was refused", i)
		}
	}
	if b.Len() > 50 {
		t.Errorf("the map holds %d keys", b.Len())
	}
}

func TestPages(t *testing.T) {
	assets, err := webkit.LoadAssets()
	if err != nil {
		t.Fatal(err)
	}
	good := fstest.MapFS{
		"layout.html": {Data: []byte(`{{lang}} {{block "main" .}}{{end}}`)},
		"_p.html":     {Data: []byte(`{{define "rich"}}{{$h := .Href}}{{range .Spans}}{{if .Link}}<a href="{{$h}}">{{.Text}}</a>{{else}}{{.Text}}{{end}}{{end}}{{end}}`)},
		"a.html":      {Data: []byte(`{{define "main"}}{{t "must"}} {{.X}}{{end}}`)},
		"b.html":      {Data: []byte(`{{define "main"}}{{template "rich" (rich "help.install.windows.tip" "Href" .X)}}{{end}}`)},
	}
	pages, err := webkit.ParsePages(good, assets)
	if err != nil {
		t.Fatal(err)
	}
	body, err := pages.Render("ja", "a", map[string]any{"X": "<script>"})
	if err != nil || string(body) != "ja 必須 &lt;script&gt;" {
		t.Errorf("page a: %q, %v", body, err)
	}
	body, err = pages.Render("en", "b", map[string]any{"X": "javascript:alert(1)"})
	if err != nil || strings.Contains(string(body), "javascript:") {
		t.Errorf("page b: %q, %v", body, err)
	}
	_, err = pages.Render("ja", "a", map[string]any{})
	if err == nil {
		t.Error("a page with a missing value was drawn")
	}
	_, err = pages.Render("ja", "none", nil)
	if err == nil {
		t.Error("an unknown page was drawn")
	}
	_, err = webkit.ParsePages(fstest.MapFS{"layout.html": {Data: []byte("x")}, "_p.html": {Data: []byte("")}, "bad.html": {Data: []byte(`{{nosuch}}`)}}, assets)
	if err == nil {
		t.Error("a template with a mistake was parsed")
	}
}

func TestAssets(t *testing.T) {
	log, _ := logged()
	assets, err := webkit.LoadAssets()
	if err != nil {
		t.Fatal(err)
	}
	url, err := assets.URL("inkan.css")
	if err != nil || !regexp.MustCompile(`^/assets/inkan\.[0-9a-f]{12}\.css$`).MatchString(url) {
		t.Fatalf("URL = %q, %v", url, err)
	}
	h := stack(log, webkit.NewReporter(log, nil).Handle(assets.Serve))
	w := serve(h, request("GET", url, nil))
	if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for _, wrong := range []string{"/assets/inkan.000000000000.css", "/assets/", "/assets/..%2fdoc.go"} {
		if w := serve(h, request("GET", wrong, nil)); w.Code != 404 {
			t.Errorf("%s: %d", wrong, w.Code)
		}
	}
	css, err := os.ReadFile("assets/inkan.css")
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`url\(|@import|https?:`).Match(css) {
		t.Error("the style sheet asks for something elsewhere")
	}
	_, err = assets.URL("none.css")
	if err == nil {
		t.Error("an unknown asset has a URL")
	}
}

// The types that switch off escaping are not used anywhere (style habit 14).
func TestThreatAP9NobodySwitchesOffEscaping(t *testing.T) {
	unsafe := regexp.MustCompile(`template\.(HTML|JS|URL|HTMLAttr|CSS|JSStr|Srcset)\b`)
	seen := 0
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		seen++
		raw, err := os.ReadFile(path)
		if unsafe.Match(raw) {
			t.Errorf("%s uses %s", path, unsafe.Find(raw))
		}
		return err
	})
	if err != nil || seen < 10 {
		t.Errorf("saw %d files: %v", seen, err)
	}
}

// A name that no block declares counts for nothing: the rule that uses it is silently void.
func TestStyleUsesDeclaredNames(t *testing.T) {
	css, err := os.ReadFile("assets/inkan.css")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`var\((--[a-z0-9-]+)`).FindAllSubmatch(css, -1)
	if len(used) < 100 {
		t.Fatalf("found %d uses only", len(used))
	}
	for _, m := range used {
		if !regexp.MustCompile(`[\s;{]` + string(m[1]) + `:`).Match(css) {
			t.Errorf("%s is used and not declared", m[1])
		}
	}
}
