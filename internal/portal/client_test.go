package portal_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/release"
)

const installer = "inkan-agent-1.2.0-windows.msi"

// offering is a site that gives out one installer of the given bytes.
func offering(t *testing.T, body []byte) *site {
	t.Helper()
	f := release.File{ReleaseFile: pki.ReleaseFile{Name: installer, Size: int64(len(body)), SHA256: sha256.Sum256(body)}, Body: body}
	offer := release.Offer{Signer: "test-release", Note: []byte("the note\n"), Files: []release.File{f},
		Release: pki.Release{Version: pki.Version{1, 2, 0}, Minimum: pki.Version{1, 1, 0}, Until: start.AddDate(0, 0, 60)}}
	return open(t, func(c *portal.Config) { c.Releases = func() (release.Offer, bool) { return offer, true } })
}

func TestClientPage(t *testing.T) {
	body := []byte(strings.Repeat("installer", 300_000))
	sum := fmt.Sprintf("%x", sha256.Sum256(body))
	b := offering(t, body).browser()
	page := b.get("/p/s").Body.String()
	for _, want := range []string{installer, "1.2.0", "2,700,000 バイト", "2.6 MB", "test-release", "2027年1月23日", "1.1.0 より前", "<span>" + sum[:8] + "</span><span>" + sum[8:16],
		`href="/p/s/` + installer + `" download`, `href="/p/s/release.note"`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	if w := b.get("/p/s/release.note"); w.Body.String() != "the note\n" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("note: %v", w.Header())
	}

	b = open(t).browser()
	page = b.get("/p/s").Body.String()
	if !strings.Contains(page, "いま、お渡しできるソフトはありません") || !strings.Contains(page, `href="/p/ru"`) || strings.Contains(page, "download") {
		t.Error("the page without an installer does not say so, or offers one")
	}
	for _, name := range []string{installer, "release.note"} {
		if w := b.get("/p/s/" + name); w.Code != http.StatusNotFound {
			t.Errorf("%s without a release: %d", name, w.Code)
		}
	}
}

func TestClientFile(t *testing.T) {
	body := []byte(strings.Repeat("installer", 300_000))
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(body))
	s := offering(t, body)
	for _, tt := range []struct {
		name, method string
		header       [2]string
		also         [2]string
		code, length int
	}{
		{"whole", "GET", [2]string{}, [2]string{}, 200, len(body)},
		{"head", "HEAD", [2]string{}, [2]string{}, 200, len(body)},
		{"the rest", "GET", [2]string{"Range", "bytes=2699991-"}, [2]string{}, 206, 9},
		{"the rest of the same file", "GET", [2]string{"Range", "bytes=2699991-"}, [2]string{"If-Range", etag}, 206, 9},
		{"the rest of another file", "GET", [2]string{"Range", "bytes=2699991-"}, [2]string{"If-Range", `"other"`}, 200, len(body)},
		{"beyond the end", "GET", [2]string{"Range", "bytes=2700000-"}, [2]string{}, 416, -1},
		{"known", "GET", [2]string{"If-None-Match", etag}, [2]string{}, 304, -1},
	} {
		r := httptest.NewRequest(tt.method, "/p/s/"+installer, nil)
		r.Host = "portal.test"
		for _, h := range [][2]string{tt.header, tt.also} {
			if h[0] != "" {
				r.Header.Set(h[0], h[1])
			}
		}
		w := httptest.NewRecorder()
		s.plain.ServeHTTP(w, r)
		if w.Code != tt.code || tt.length >= 0 && w.Header().Get("Content-Length") != fmt.Sprint(tt.length) {
			t.Errorf("%s: %d, %v", tt.name, w.Code, w.Header())
		}
		if tt.method == "GET" && tt.length >= 0 && w.Body.String() != string(body[len(body)-tt.length:]) {
			t.Errorf("%s: other bytes", tt.name)
		}
		if tt.length >= 0 && (w.Header().Get("Content-Type") != "application/x-msi" || w.Header().Get("Content-Disposition") != `attachment; filename="`+installer+`"`) {
			t.Errorf("%s: %v", tt.name, w.Header())
		}
	}
}

// connection notes the deadlines that an answer sets.
type connection struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (c *connection) SetWriteDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return nil
}

// A slow line is given time for each piece, however long the whole takes.
func TestLargeFilesOnSlowLines(t *testing.T) {
	s := offering(t, make([]byte, 1<<20))
	r := httptest.NewRequest("GET", "/p/s/"+installer, nil)
	r.Host = "portal.test"
	c := &connection{ResponseRecorder: httptest.NewRecorder()}
	s.plain.ServeHTTP(c, r)
	if len(c.deadlines) < 8 || c.Body.Len() != 1<<20 {
		t.Fatalf("%d deadlines for %d bytes", len(c.deadlines), c.Body.Len())
	}
	for _, d := range c.deadlines {
		if !d.Equal(s.Now().Add(30 * time.Second)) {
			t.Errorf("deadline %s at %s", d, s.Now())
		}
	}
}
