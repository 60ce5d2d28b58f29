package e2e

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"inkan/internal/testkit"
)

// everyPage wants no page to have anything wrong with it, in either language, and each
// to be there in both.
func everyPage(t *testing.T, w *world) { bothLanguages(t, w, "") }

func bothLanguages(t *testing.T, w *world, screens string) {
	t.Helper()
	seen := map[string][]string{}
	for _, lang := range []string{"ja", "en"} {
		t.Run(lang, func(t *testing.T) { seen[lang] = walk(t, w, lang, screens) })
	}
	if !slices.Equal(seen["ja"], seen["en"]) {
		t.Errorf("pages in Japanese: %v\nin English: %v", seen["ja"], seen["en"])
	}
}

// walk looks at every page in one language and gives the names of the product's own in
// order.
func walk(t *testing.T, w *world, lang, screens string) []string {
	t.Helper()
	samples := append([]Sample(nil), w.Samples...)
	suspended := w.issue(t, "一時停止1号機 "+lang)
	w.Must(t, nil, "revoke", suspended.Serial, "--reason", "certificateHold", "--as", w.Operator(t, "officer"))
	samples = append(samples, Sample{Purpose: "suspended", RequestID: suspended.RequestID, ReferenceID: suspended.ReferenceID})
	cancelled := w.issue(t, "取消1号機 "+lang)
	w.Must(t, nil, "request", "cancel", cancelled.RequestID, "--why", "test", "--as", w.Operator(t, "intake"))
	samples = append(samples, Sample{Purpose: "cancelled", RequestID: cancelled.RequestID, ReferenceID: cancelled.ReferenceID})

	held := w.issue(t, "一時停止2号機 "+lang)
	file := testkit.WriteFile(t, t.TempDir(), "held.p12", newVisitor(t, w.Demo, "").download(t, held, w.pin))
	w.Must(t, nil, "revoke", held.Serial, "--reason", "certificateHold", "--as", w.Operator(t, "officer"))
	renewed := w.renewed(t, w.Sample(t, "renew"))

	asks := map[string]any{"held": w.issue(t, "漏えい1号機 "+lang), "waits": w.issue(t, "入れ替え1号機 "+lang), "own": w.own(t, "盗難1号機 "+lang)}

	type found struct {
		Pages []struct {
			Name, URL, Heading string
			Problems           []string
		}
	}
	var before, result found
	b := NewBrowser(t, w.TLSRoot)
	b.Run(t, "pages.mjs", map[string]any{"lang": lang, "portal": w.Portal, "screens": screens, "origins": []string{w.Portal},
		"only": map[string]string{"p-s-none": w.Portal + "/p/s"}}, &before)
	publish(t, w)
	defer unpublish(t, w)
	b.Run(t, "pages.mjs", map[string]any{
		"lang": lang, "portal": w.Portal, "mail": w.Mail, "samples": samples, "pin": w.pin, "screens": screens,
		"site": w.PortalAuth, "revoke": asks, "renewed": renewed, "holders": map[string]any{
			"open": w.Sample(t, "renew-2"), "renewed": w.Sample(t, "renew"), "early": w.Sample(t, "revoke"), "expired": w.Sample(t, "expired"),
			"revoked": w.Sample(t, "revoked"), "suspended": Sample{P12: file, Password: w.pin}, "foreign": Sample{P12: decoy(t, "0000"), Password: "0000"}, "none": Sample{},
		},
		"idle":    idle(t, w),
		"signer":  jam(t, w),
		"origins": []string{w.Portal, w.PortalAuth, w.Status, w.Mail},
		"starts":  map[string]string{"start": w.Portal + "/", "mail": w.Mail + "/", "status": w.Status + "/p/cert/about", "with-certificate": w.PortalAuth + "/"},
	}, &result)
	pages := append(before.Pages, result.Pages...)
	if len(pages) < 40 {
		t.Errorf("saw %d pages only", len(pages))
	}
	var names []string
	for _, page := range pages {
		t.Logf("%-24s %s  %q", page.Name, page.URL, page.Heading)
		if !strings.HasPrefix(page.URL, w.Mail) { // caught mails are named by their number
			names = append(names, page.Name)
		}
		for _, p := range page.Problems {
			t.Errorf("%s: %s", page.Name, p)
		}
	}
	slices.Sort(names)
	return names
}

// idle gives an address that makes every session on the site an hour older: nobody waits
// for the end of one.
func idle(t *testing.T, w *world) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.Dir, "inkan.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := db.ExecContext(r.Context(), `UPDATE flow SET seen_at = seen_at - 3600000000`)
		if err != nil {
			t.Errorf("make sessions older: %v", err)
		}
	}))
	t.Cleanup(func() {
		s.Close()
		_ = db.Close()
	})
	return s.URL
}

// jam gives an address that stops the signer of the demo (/stop) and lets it go on.
func jam(t *testing.T, w *world) string {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "signer --dir "+w.Dir+" ").Output()
	if err != nil {
		t.Fatalf("no signer: %v", err)
	}
	var pid int
	_, err = fmt.Sscan(string(out), &pid)
	if err != nil {
		t.Fatal(err)
	}
	send := func(number syscall.Signal) {
		err := syscall.Kill(pid, number)
		if err != nil {
			t.Errorf("signal the signer: %v", err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stop" {
			send(syscall.SIGSTOP)
			return
		}
		send(syscall.SIGCONT)
	}))
	t.Cleanup(func() {
		s.Close()
		send(syscall.SIGCONT)
	})
	return s.URL
}

// TestScreens writes every page as a picture into the directory INKAN_SCREENS
// (make screens), for people to look at.
func TestScreens(t *testing.T) {
	screens := testkit.Asked(t, "INKAN_SCREENS", "make screens")
	err := os.MkdirAll(screens, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	bothLanguages(t, &world{Demo: Start(t), pin: newPIN(t)}, screens)
}
