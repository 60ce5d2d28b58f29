package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"inkan/internal/testkit"

	"golang.org/x/net/html"
)

// visitor is a browser without a window: for what has to be asked often, or to the
// byte.
type visitor struct {
	d      *Demo
	client *http.Client
	agent  string
}

func newVisitor(t *testing.T, d *Demo, agent string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := testkit.HTTP(t, &tls.Config{RootCAs: testkit.Roots(t, d.TLSRoot)}, true)
	client.Jar = jar
	return &visitor{d: d, agent: agent, client: client}
}

// seen is what a visitor gets to see.
type seen struct {
	status  int
	url     *url.URL
	header  http.Header
	body    string
	heading string // the alert's, or the page's
	file    string // address of the file, if the page offers one
}

func (v *visitor) do(t *testing.T, method, address string, form url.Values) seen {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Language", "ja")
	req.Header.Set("User-Agent", v.agent)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := seen{status: resp.StatusCode, url: resp.Request.URL, header: resp.Header, body: string(data)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		s.look(t)
	}
	return s
}

// look finds the heading and the file in the page.
func (s *seen) look(t *testing.T) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	var h1, alert string
	for n := range root.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "h1" && h1 == "":
			h1 = text(n)
		case n.Data == "h2" && alert == "" && within(n, "role", "alert"):
			alert = text(n)
		case n.Data == "a" && s.file == "" && (has(n, "download") || strings.HasSuffix(attr(n, "href"), ".p12")):
			at, err := s.url.Parse(attr(n, "href"))
			if err != nil {
				t.Fatal(err)
			}
			s.file = at.String()
		}
	}
	s.heading = h1
	if alert != "" {
		s.heading = alert
	}
}

// submit fills the form of the download site and follows where it leads.
func (v *visitor) submit(t *testing.T, requestID, referenceID, pin string) seen {
	t.Helper()
	v.do(t, http.MethodGet, v.d.Portal+"/p/rcd", nil)
	return v.do(t, http.MethodPost, v.d.Portal+"/p/rcd", url.Values{
		"requestId": {requestID}, "referenceId": {referenceID}, "password": {pin}, "passwordConfirm": {pin},
	})
}

// download fetches the file of a request.
func (v *visitor) download(t *testing.T, r Request, pin string) []byte {
	t.Helper()
	page := v.submit(t, r.RequestID, r.ReferenceID, pin)
	if page.file == "" {
		t.Fatalf("no file for request %s: %d %q", r.RequestID, page.status, page.heading)
	}
	got := v.do(t, http.MethodGet, page.file, nil)
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/x-pkcs12" {
		t.Fatalf("the file comes with %d and type %q", got.status, got.header.Get("Content-Type"))
	}
	return []byte(got.body)
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

func within(n *html.Node, name, value string) bool {
	for p := range n.Ancestors() {
		if attr(p, name) == value {
			return true
		}
	}
	return false
}

func text(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
