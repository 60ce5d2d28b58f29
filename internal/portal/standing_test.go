package portal_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"html"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"inkan/internal/i18n"
	"inkan/internal/portal"
	"inkan/internal/testkit"
)

var (
	hrefs   = regexp.MustCompile(`href="(/[^"]*)"`)
	screens = regexp.MustCompile(`class="screen-no">[^<]*?([A-Z]+(?:-\d[A-Z]?)?)[（ ]`)
	unsaid  = regexp.MustCompile(`\{[A-Z]\w*(\|\w+)?\}|>(help|start|root|client|system)\.[\w.]+<`)
	opened  = regexp.MustCompile(`<details class="how"[^>]* open><summary>([^<]*)`)
)

// elsewhere are the pages to which the standing ones lead, and which are others' work.
var elsewhere = []string{"/p/check", "/p/rcd", "/p/rcr", "/p/ru", "/p/rx", "/p/status"}

// TestEveryLinkLeadsSomewhere walks from the start page: every page answers, has a screen
// number of its own, and says all its words; every link and anchor is there.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	s := open(t, func(c *portal.Config) {
		c.Authorities = []portal.Authority{{Name: "Test", URL: "http://status.test/ca/g1.cer"}}
	})
	for _, lang := range i18n.Languages {
		b := s.browser()
		b.lang = lang
		pages, left := map[string]string{}, map[string]bool{}
		queue := []string{"/p/"}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			if _, seen := pages[at]; seen {
				continue
			}
			w := b.get(at)
			if w.Code != http.StatusOK {
				t.Errorf("%s: a link leads to %s: %d", lang, at, w.Code)
			}
			pages[at] = w.Body.String()
			if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
				continue
			}
			for _, m := range hrefs.FindAllStringSubmatch(pages[at], -1) {
				to, _, _ := strings.Cut(html.UnescapeString(m[1]), "#")
				if slices.Contains(elsewhere, to) {
					left[to] = true
				} else {
					queue = append(queue, to)
				}
			}
		}
		if got := slices.Sorted(maps.Keys(left)); !slices.Equal(got, elsewhere) {
			t.Errorf("%s: leads out to %v, want %v", lang, got, elsewhere)
		}
		numbers := map[string]string{}
		for at, page := range pages {
			if !strings.Contains(page, "<main") {
				continue
			}
			m := screens.FindStringSubmatch(page)
			switch {
			case m == nil:
				t.Errorf("%s %s: no screen number", lang, at)
			case numbers[m[1]] != "":
				t.Errorf("%s: %s and %s are both %s", lang, at, numbers[m[1]], m[1])
			default:
				numbers[m[1]] = at
			}
			if left := unsaid.FindString(page); left != "" {
				t.Errorf("%s %s: %s was left standing", lang, at, left)
			}
		}
		if len(numbers) != 11 {
			t.Errorf("%s: %d pages: %v", lang, len(numbers), slices.Sorted(maps.Values(numbers)))
		}
	}
}

// Pages of the zone that asks for a certificate have the same head and the same steps, so
// their links lead over to this one.
func TestTheOtherZoneLeadsHere(t *testing.T) {
	s := open(t)
	for _, path := range []string{"/", "/p/", "/p/rcd", "/p/help", "/p/help/install", "/p/cert", "/p/cert/about", "/p/s"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "auth.test"
		w := httptest.NewRecorder()
		s.auth.ServeHTTP(w, r)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "https://portal.test"+path {
			t.Errorf("%s: %d to %q", path, w.Code, w.Header().Get("Location"))
		}
	}
}

// Instructions of all systems are on the page, those of the present one open; without
// JavaScript.
func TestInstructionsForThisTerminal(t *testing.T) {
	s := open(t)
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0 Edg/142.0":                     "Windows 10・11（Edge）",
		"Mozilla/5.0 (Windows NT 6.3; Win64; x64) Chrome/109.0 Edg/109.0":                      "Windows 8.1",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0":                              "Linux（Firefox）",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15": "macOS（Safari）",
		"": "Windows 10・11（Edge）",
	} {
		b := s.browser()
		b.agent = agent
		for _, path := range []string{"/p/help/install", "/p/help/check", "/p/help/delete", "/p/cert/about"} {
			page := b.get(path).Body.String()
			open := opened.FindAllStringSubmatch(page, -1)
			if len(open) != 1 || open[0][1] != want {
				t.Errorf("%s for %q: open are %q, want %q", path, agent, open, want)
			}
			for _, system := range []string{"windows", "windows81", "linux", "mac"} {
				if !strings.Contains(page, "<summary>"+i18n.Text("ja", "system."+system, nil)) {
					t.Errorf("%s: nothing for %s", path, system)
				}
			}
		}
	}
}

// The page on which a file was saved and the pages of how-to say the same.
func TestOneTextForDownloadAndHelp(t *testing.T) {
	s := openLetter(t)
	b := s.browser()
	b.get("/p/rcd")
	done := b.page(b.ticketFor(s.typed()))
	steps := regexp.MustCompile(`(?s)<details class="how"[^>]*><summary>[^<]*</summary><div><ol>.*?</details>`)
	install := b.get("/p/help/install").Body.String()
	same := 0
	for _, block := range steps.FindAllString(done, -1) {
		if strings.Contains(install, block) {
			same++
		}
	}
	if same != 4 {
		t.Errorf("%d of 4 sets of steps are the same", same)
	}
	if apart := "鍵のかかる場所に置いてください"; !strings.Contains(done, apart) || !strings.Contains(b.get("/p/help/backup").Body.String(), apart) {
		t.Error("not both say how to keep the file")
	}
}

// The root of the site is served as it is; the pages show its fingerprints as the letter
// and Windows have them, and say that the letter decides (threat ST9).
func TestThreatST9RootIsCompared(t *testing.T) {
	root := testkit.SelfSigned(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Test Site Root"}, NotBefore: start, NotAfter: start.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, PermittedDNSDomains: []string{plainHost},
		PermittedIPRanges: []*net.IPNet{{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(32, 32)}}}, testkit.Key(t)).Leaf
	s := open(t, func(c *portal.Config) { c.SiteRoot = root })
	b := s.browser()
	w := b.get("/p/cert")
	got, err := x509.ParseCertificate(w.Body.Bytes())
	if err != nil || !got.Equal(root) || w.Header().Get("Content-Type") != "application/x-x509-ca-cert" {
		t.Errorf("%q, %v", w.Header().Get("Content-Type"), err)
	}
	long, short := fmt.Sprintf("%X", sha256.Sum256(root.Raw)), fmt.Sprintf("%X", sha1.Sum(root.Raw))
	plain := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.aboutRoot.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	group := regexp.MustCompile(`<span>([0-9A-F]{4}|[0-9A-F]{8})</span>`)
	pages := map[string]string{"https": b.get("/p/cert/about").Body.String(), "http": plain("/p/cert/about").Body.String(), "http en": plain("/p/cert/about?lang=en").Body.String()}
	for name, page := range pages {
		var sums string
		for _, m := range group.FindAllStringSubmatch(page, -1) {
			sums += m[1]
		}
		if sums != long+short {
			t.Errorf("%s shows %s, want %s%s", name, sums, long, short)
		}
		for _, want := range []string{`href="/p/cert" download`, "portal.test", "192.0.2.1", "certutil -hashfile &#34;%USERPROFILE%"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %s", name, want)
			}
		}
	}
	for name, words := range map[string]string{"http": "この画面は、暗号で守られていません", "http en": "not protected by encryption"} {
		if !strings.Contains(pages[name], words) || strings.Contains(pages["https"], words) {
			t.Errorf("%s: the warning of plain http stands on the wrong page", name)
		}
		if strings.Contains(pages[name], `href="/p/"`) || !strings.Contains(pages[name], `href="https://portal.test/p/"`) {
			t.Errorf("%s: its links do not lead to the site", name)
		}
	}
	for _, page := range []string{pages["https"], pages["http"]} {
		if strings.Index(page, "通知書と見比べるまで") > strings.Index(page, `href="/p/cert"`) {
			t.Error("the warning stands below the certificate")
		}
	}
	if w := plain("/p/cert/about?lang=en"); len(w.Result().Cookies()) != 0 || w.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("plain http: %v", w.Header())
	}
	if w := plain(regexp.MustCompile(`/assets/inkan[^"]*`).FindString(pages["http"])); w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(".print")) {
		t.Errorf("style sheet: %d", w.Code)
	}
	for _, path := range []string{"/p/", "/p/rcd", "/p/help"} {
		if w := plain(path); w.Code != http.StatusNotFound {
			t.Errorf("plain http has %s: %d", path, w.Code)
		}
	}
}

func TestNoSuchTopic(t *testing.T) {
	b := open(t).browser()
	for _, path := range []string{"/p/help/nothing", "/p/help/" + url.PathEscape("../start"), "/p/s/nothing.msi", "/p/cert/root.cer"} {
		if w := b.get(path); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "ERR-404") {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
