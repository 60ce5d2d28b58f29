package e2e

import (
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// lookup is the code on an error page that joins it to the log; it is new each time.
var lookup = regexp.MustCompile(`(?s)<span class="code"[^>]*>.*?</span>`)

// oneAnswer: before both IDs are right, every cause gives the same page, so that
// nobody learns from it which requests exist (threat DL4).
func oneAnswer(t *testing.T, w *world) {
	r := w.issue(t, "同じ答え1号機")
	open := w.Submit(t, "同じ答え2号機")
	wrongReference := strings.Map(func(c rune) rune {
		if c == 'A' {
			return 'B'
		}
		return 'A'
	}, r.ReferenceID)
	v := newVisitor(t, w.Demo, "")
	var first string
	for _, c := range []struct{ what, requestID, referenceID string }{
		{"no such request", "202001010000001", wrongReference},
		{"issued, wrong reference ID", r.RequestID, wrongReference},
		{"case of the reference ID", r.RequestID, swapCase(r.ReferenceID)},
		{"not issued yet", open.RequestID, wrongReference},
		{"revoked", w.Sample(t, "revoked").RequestID, wrongReference},
		{"expired", w.Sample(t, "expired").RequestID, wrongReference},
	} {
		page := v.submit(t, c.requestID, c.referenceID, w.pin)
		if page.file != "" {
			t.Fatalf("%s: a file is offered", c.what)
		}
		got := lookup.ReplaceAllString(page.body, "")
		got = strings.ReplaceAll(got, c.requestID, "REQUEST")
		got = strings.ReplaceAll(got, c.referenceID, "REFERENCE")
		switch {
		case first == "":
			first = got
		case got != first:
			t.Errorf("%s: the page differs from the first one:\n%s\n---\n%s", c.what, got, first)
		}
		if (secret{value: w.pin}).needle().MatchString(got) {
			t.Errorf("%s: the page repeats the PIN", c.what)
		}
	}

	// After both IDs are right, each cause has words of its own.
	seen := map[string]string{}
	for _, c := range []struct{ what, requestID, referenceID, pin, confirm string }{
		{"wrong IDs", r.RequestID, wrongReference, w.pin, w.pin},
		{"PIN of letters", r.RequestID, r.ReferenceID, "12ab", "12ab"},
		{"PINs differ", r.RequestID, r.ReferenceID, w.pin, "5999"},
		{"revoked", w.Sample(t, "revoked").RequestID, w.Sample(t, "revoked").ReferenceID, w.pin, w.pin},
		{"expired", w.Sample(t, "expired").RequestID, w.Sample(t, "expired").ReferenceID, w.pin, w.pin},
	} {
		page := v.do(t, http.MethodPost, w.Portal+"/p/rcd", url.Values{
			"requestId": {c.requestID}, "referenceId": {c.referenceID}, "password": {c.pin}, "passwordConfirm": {c.confirm},
		})
		before, twice := seen[page.heading]
		if twice || page.heading == "" || page.file != "" {
			t.Errorf("%s: heading %q (also of %q), file %q", c.what, page.heading, before, page.file)
		}
		seen[page.heading] = c.what
	}

	// What people type: full width, blanks, hyphens.
	page := v.submit(t, " "+r.RequestID[:8]+"－"+r.RequestID[8:]+"　", r.ReferenceID[:5]+" "+r.ReferenceID[5:], w.pin)
	if page.file == "" {
		t.Errorf("IDs with blanks and hyphens are refused: %q", page.heading)
	}
	for name, want := range map[string]string{
		"Referrer-Policy":        "no-referrer",
		"X-Content-Type-Options": "nosniff",
		"Cache-Control":          "no-store",
	} {
		if got := page.header.Get(name); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	csp := page.header.Get("Content-Security-Policy")
	if csp == "" || strings.Contains(csp, "unsafe-") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("Content-Security-Policy is %q", csp)
	}

	// A ticket works only in the browser it was made for.
	stranger := newVisitor(t, w.Demo, "")
	got := stranger.do(t, http.MethodGet, page.file, nil)
	if got.status == http.StatusOK || got.header.Get("Content-Type") == "application/x-pkcs12" {
		t.Errorf("another browser gets the file: %d", got.status)
	}
	// A form on another site cannot press the button.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.Portal+"/p/rcd", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a post from another site gets %s, want 403", resp.Status)
	}
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == 'i' || c == 'L': // I and l are no letters of a reference ID: a misspelt ID is told so
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return c
	}, s)
}

// withoutJavaScript: the download works in a browser that runs no script.
func withoutJavaScript(t *testing.T, w *world) {
	r := w.issue(t, "スクリプトなし1号機")
	h := held{Request: r, File: filepath.Join(t.TempDir(), "noscript.p12")}
	var page struct{ FileName, Heading, Text string }
	NewBrowser(t, w.TLSRoot).Run(t, "download.mjs", map[string]any{
		"portal": w.Portal, "requestId": r.RequestID, "referenceId": r.ReferenceID, "pin": w.pin, "file": h.File, "javaScript": false,
	}, &page)
	w.opens(t, h)
	for _, want := range []string{"0110119153", "スクリプトなし1号機"} {
		if !strings.Contains(strings.ReplaceAll(page.Text, " ", ""), want) {
			t.Errorf("the page does not say what was downloaded: %q is missing in\n%s", want, page.Text)
		}
	}
}

// opens wants a file to hold the certificate of its own request.
func (w *world) opens(t *testing.T, h held) {
	t.Helper()
	want := h.Serial
	h.Serial = ""
	h.unpack(t, w.pin)
	if h.Serial != want {
		t.Errorf("the file of request %s holds certificate %s, want %s", h.RequestID, h.Serial, want)
	}
}

// impatientPeople click twice, go back, reload, and get the same certificate.
func impatientPeople(t *testing.T, w *world) {
	r := w.issue(t, "二度押し1号機")
	dir := t.TempDir()
	var result struct {
		DoubleClick, AfterBack, AfterReload string // files
		TypedAfterBack                      string // what the PIN field holds
		Problems                            []string
	}
	NewBrowser(t, w.TLSRoot).Run(t, "impatient.mjs", map[string]any{
		"portal": w.Portal, "requestId": r.RequestID, "referenceId": r.ReferenceID, "pin": w.pin, "dir": dir,
	}, &result)
	for _, p := range result.Problems {
		t.Error(p)
	}
	if result.TypedAfterBack != "" {
		t.Error("the PIN is still in its field after going back")
	}
	for _, file := range []string{result.DoubleClick, result.AfterBack, result.AfterReload} {
		w.opens(t, held{Request: r, File: file})
	}
}

// tenTabs of one browser with two requests: every tab gives its own file.
func tenTabs(t *testing.T, w *world) {
	requests := []Request{w.issue(t, "タブ1号機"), w.issue(t, "タブ2号機")}
	var ids []map[string]string
	for i := range 10 {
		r := requests[i%2]
		ids = append(ids, map[string]string{"requestId": r.RequestID, "referenceId": r.ReferenceID, "pin": w.pin})
	}
	var result struct {
		Tabs []struct{ File, FileName, Heading string }
	}
	NewBrowser(t, w.TLSRoot).Run(t, "tabs.mjs", map[string]any{"portal": w.Portal, "tabs": ids, "dir": t.TempDir()}, &result)
	if len(result.Tabs) != 10 {
		t.Fatalf("%d tabs", len(result.Tabs))
	}
	for i, tab := range result.Tabs {
		r := requests[i%2]
		if want := r.RequestID + ".p12"; tab.FileName != want {
			t.Errorf("tab %d: file %q, want %q (%s)", i, tab.FileName, want, tab.Heading)
			continue
		}
		w.opens(t, held{Request: r, File: tab.File})
	}
}
