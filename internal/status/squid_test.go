package status_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/status"
	"inkan/internal/testkit"
)

// changing answers with a hash of the question and of what is true now, and counts how
// often it was asked.
type changing struct {
	mu    sync.Mutex
	says  string
	life  time.Duration
	asked int
}

func (c *changing) set(says string, life time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.says, c.life = says, life
}

func (c *changing) Answer(_ context.Context, der []byte, _ func() bool) (ca.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if string(der) == "malformed" {
		return ca.Answer{Body: []byte("malformed")}, nil
	}
	said := body(string(der), c.says)
	return ca.Answer{Body: said, ETag: ca.ETag(said), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(c.life)}, nil
}

func body(question, says string) []byte {
	return fmt.Appendf(nil, "%x %s", sha256.Sum256([]byte(question)), says)
}

// squid starts a real cache in front of an origin.
func squid(t *testing.T, origin string) string {
	t.Helper()
	program := testkit.Find("squid", "/usr/sbin")
	if program == "" {
		testkit.Missing(t, "squid; scripts/setup-tests.sh installs it")
	}
	dir, err := os.MkdirTemp("", "squid") // squid leaves root: the directory is for its own user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	err = os.Chmod(dir, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", testkit.Ports(t, 0))
	u, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "squid.conf")
	err = os.WriteFile(config, fmt.Appendf(nil, `http_port %s accel defaultsite=%s
cache_peer %s parent %s 0 no-query no-digest originserver
http_access allow all
cache_mem 8 MB
pid_filename %s/pid
cache_log %s/log
access_log none
coredump_dir %s
netdb_filename none
visible_hostname squid.test
shutdown_lifetime 0 seconds
pinger_enable off
`, at, u.Host, u.Hostname(), u.Port(), dir, dir, dir), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-N", "-f", config)
	err = cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	listens := testkit.Soon(func() bool {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if !listens {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("squid does not listen: %s", log)
	}
	return "http://" + at
}

// TestThreatST1ST11Cache: a real cache in between keeps answers, each to its question,
// for a minute at the most, and never an error or the answer to a POST. What changed is
// told as soon as the age that we allowed is over.
func TestThreatST1ST11Cache(t *testing.T) {
	answers := &changing{says: "good", life: time.Hour}
	handler := status.Handler(status.Config{Answers: answers, Now: time.Now, Log: testkit.Quiet,
		Lists: lists{"g1": {Issuer: "g1", Number: 7, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), DER: []byte("crl")}}})
	var others int // requests that are not for OCSP
	var mu sync.Mutex
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if !strings.HasPrefix(r.URL.Path, "/ocsp") {
			others++
		}
		mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	defer origin.Close()
	cache := squid(t, origin.URL)

	ask := func(method, path, question string) (string, *http.Response) {
		t.Helper()
		r, err := http.NewRequest(method, cache+path, strings.NewReader(question))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if age, life := seconds(resp.Header.Get("Age")), maxAgeOf(resp); age > life || life > 60 {
			t.Errorf("%s %s: %d s old of %d s", method, path, age, life)
		}
		return string(text), resp
	}
	hit := func(resp *http.Response) bool { return strings.HasPrefix(resp.Header.Get("X-Cache"), "HIT") }
	get := func(question string) string { return "/ocsp/" + base64.StdEncoding.EncodeToString([]byte(question)) }

	// Two questions; the path of one holds "//".
	slashes := string([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	for path, question := range map[string]string{
		get("one"): "one", get(slashes): slashes,
		"/ocsp/" + strings.ReplaceAll(strings.TrimPrefix(get(slashes), "/ocsp/"), "/", "%2F"): slashes,
	} {
		first, _ := ask("GET", path, "")
		second, resp := ask("GET", path, "")
		if first != string(body(question, "good")) || second != first {
			t.Errorf("%s: another question's answer", path)
		}
		if !hit(resp) {
			t.Errorf("%s: the cache keeps nothing: %v", path, resp.Header)
		}
	}
	crl, _ := ask("GET", "/crl/g1.crl", "")
	again, resp := ask("GET", "/crl/g1.crl", "")
	if crl != "crl" || again != crl || !hit(resp) {
		t.Errorf("CRL: %q, %q, %v", crl, again, resp.Header)
	}

	for name, row := range map[string][3]string{"POST": {"POST", "/ocsp", "question"}, "malformed": {"GET", get("malformed"), ""}} {
		before := answers.asked
		for range 3 {
			_, resp := ask(row[0], row[1], row[2])
			if hit(resp) {
				t.Errorf("%s: from the cache", name)
			}
		}
		if answers.asked != before+3 {
			t.Errorf("%s: asked %d times of 3", name, answers.asked-before)
		}
	}
	before := others
	for range 3 {
		_, resp := ask("GET", "/p/rcd", "")
		if resp.StatusCode != http.StatusNotFound || hit(resp) {
			t.Errorf("another zone's page: %d, %v", resp.StatusCode, resp.Header)
		}
	}
	if others != before+3 {
		t.Errorf("a refusal was kept: %d of 3 arrived", others-before)
	}

	// A certificate is revoked behind the cache.
	answers.set("good", 2*time.Second)
	path := get("revoked soon")
	text, _ := ask("GET", path, "")
	if text != string(body("revoked soon", "good")) {
		t.Fatalf("got %q", text)
	}
	answers.set("revoked", time.Hour)
	testkit.Await(t, "revocation behind the cache", func() bool { // each answer's age is checked; the old one may be two seconds old
		text, _ = ask("GET", path, "")
		return text == string(body("revoked soon", "revoked"))
	})
}

func seconds(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// maxAgeOf is how long an answer may be kept; no-store is 0.
func maxAgeOf(resp *http.Response) int {
	_, after, _ := strings.Cut(resp.Header.Get("Cache-Control"), "max-age=")
	return seconds(after)
}
