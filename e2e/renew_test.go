package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"inkan/internal/testkit"

	"software.sslmate.com/src/go-pkcs12"
)

// owner has certificates in a browser's own database; the policy of an institution's
// administrator picks the one that the site asks for.
func (w *world) owner(t *testing.T, origin string, files map[string]string) *Browser {
	t.Helper()
	b := NewBrowser(t, w.TLSRoot)
	for file, password := range files {
		b.Own(t, file, password)
	}
	b.Choose(t, origin)
	return b
}

// renewal: the holder of the sample that ends soon renews in a browser, with the file in
// the browser's own database; the new file opens in OpenSSL, logs in elsewhere, and opens
// the site of renewals.
func renewal(t *testing.T, w *world) {
	s := w.Sample(t, "renew")
	h := held{File: filepath.Join(t.TempDir(), "renewed.p12")}
	var result struct {
		Request, FileName string
		Seen, Problems    []string
		Rows              int
	}
	b := w.owner(t, w.PortalAuth, map[string]string{s.P12: s.Password, decoy(t, "0000"): "0000"})
	pin := w.pin + w.pin[:2] // more than four digits
	w.secret("PIN of the renewal", pin)
	b.Run(t, "renew.mjs", map[string]any{"site": w.PortalAuth, "pin": pin, "file": h.File}, &result)
	for _, p := range result.Problems {
		t.Error(p)
	}
	t.Logf("%s", strings.Join(result.Seen, "\n"))
	if result.FileName != result.Request+".p12" || result.Rows != 1 {
		t.Errorf("file %q of request %s, %d rows in the list", result.FileName, result.Request, result.Rows)
	}
	var r Request
	w.Must(t, &r, "request", "show", result.Request, "--as", w.Operator(t, "approver"))
	h.unpack(t, pin)
	if r.State != "issued" || r.Serial != h.Serial {
		t.Errorf("the renewal is %s, serial %s; the file holds %s", r.State, r.Serial, h.Serial)
	}
	relying := newRelying(t, w.Demo, tls.VersionTLS13)
	says(t, testkit.Run(t, "curl", "-sS", "--cacert", relying.Root, "--cert-type", "P12", "--cert", h.File+":"+pin, relying.URL), fmt.Sprintf("welcome %x", h.number(t)))
	pages := w.look(t, h.File, pin, "/p/check", "/p/ru", "/p/ru/list", "/p/ru/r/"+result.Request)
	for n, want := range []string{"使える電子証明書です", "からです", "", "発行が終わりました"} {
		if pages[n].Status != 200 || !strings.Contains(pages[n].Text, want) {
			t.Errorf("with the new certificate, page %d: %d %q", n, pages[n].Status, pages[n].Heading)
		}
	}
	if old := w.look(t, s.P12, s.Password, "/p/check"); !strings.Contains(old[0].Text, "更新前の、古いほう") {
		t.Errorf("the old certificate: %q", old[0].Says)
	}
}

type looked struct {
	Status              int
	Heading, Says, Text string
}

// look opens pages of the zone that asks for a certificate.
func (w *world) look(t *testing.T, p12, password string, paths ...string) []looked {
	t.Helper()
	var result struct{ Pages []looked }
	NewBrowser(t, w.TLSRoot).Run(t, "look.mjs", map[string]any{"site": w.PortalAuth, "p12": p12, "password": password, "paths": paths}, &result)
	return result.Pages
}

// checked: /p/check says in a browser what each certificate is, and the site of renewals
// gives a page to each.
func checked(t *testing.T, w *world) {
	for _, c := range []struct{ what, p12, password, verdict, renew string }{
		{"none", "", "", "届きませんでした", "選ばれていません"},
		{"another CA's", decoy(t, "0000"), "0000", "ほかの認証局", "開けません"},
		{"expired", w.Sample(t, "expired").P12, w.Sample(t, "expired").Password, "期限の切れた", "期限が切れて"},
		{"revoked", w.Sample(t, "revoked").P12, w.Sample(t, "revoked").Password, "失効した電子証明書です", "失効しています"},
		{"valid", w.Sample(t, "revoke").P12, w.Sample(t, "revoke").Password, "使える電子証明書です", "更新できるのは"},
	} {
		pages := w.look(t, c.p12, c.password, "/p/check", "/p/ru")
		if pages[0].Status != 200 || !strings.Contains(pages[0].Says, c.verdict) {
			t.Errorf("%s: /p/check %d %q", c.what, pages[0].Status, pages[0].Says)
		}
		if pages[1].Status >= 500 || !strings.Contains(pages[1].Text, c.renew) {
			t.Errorf("%s: /p/ru %d %q", c.what, pages[1].Status, pages[1].Heading)
		}
	}
}

// renewalTabs: two people with a certificate each and somebody at the download site, ten
// tabs and more, at random.
func renewalTabs(t *testing.T, w *world) {
	type ids map[string]string
	people, all := []map[string]any{}, []ids{}
	var letters []ids
	for _, terminal := range []string{"乱数1号機", "乱数2号機"} {
		r := w.issue(t, terminal)
		letters = append(letters, ids{"requestId": r.RequestID, "referenceId": r.ReferenceID, "pin": w.pin})
	}
	all = append(all, letters...)
	people = append(people, map[string]any{"tabs": 10, "requests": []int{0, 1}})
	for n, purpose := range []string{"renew", "renew-2"} {
		c := w.Sample(t, purpose)
		request := w.renewed(t, c)
		all = append(all, ids{"requestId": request, "pin": w.pin})
		people = append(people, map[string]any{"tabs": 5, "requests": []int{2 + n}, "p12": c.P12, "password": c.Password})
	}
	for _, p := range people {
		mine := []ids{}
		for _, n := range p["requests"].([]int) {
			mine = append(mine, all[n])
		}
		p["requests"] = mine
	}
	seed := time.Now().UnixNano() & 0x7fffffff
	t.Logf("seed %d", seed)
	var result struct {
		Problems []string
		Files    []struct{ Of, Sum string }
	}
	NewBrowser(t, w.TLSRoot).Run(t, "renewtabs.mjs", map[string]any{"site": w.PortalAuth, "portal": w.Portal, "people": people, "all": all, "seed": seed, "steps": 200}, &result)
	for _, p := range result.Problems {
		t.Errorf("seed %d: %s", seed, p)
	}
	t.Logf("%d files", len(result.Files))
	if len(result.Files) < 5 {
		t.Errorf("seed %d: %d files were made", seed, len(result.Files))
	}
}

// renewed is the request ID of a sample's renewal, which is asked for if it was not yet.
func (w *world) renewed(t *testing.T, s Sample) string {
	t.Helper()
	key, leaf, _, err := pkcs12.DecodeChain(testkit.ReadFile(t, s.P12), s.Password)
	if err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t, w.Demo, "")
	v.client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}
	page := v.do(t, http.MethodGet, w.PortalAuth+"/p/ru/apply", nil)
	if form := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(page.body); form != nil && page.url.Path == "/p/ru/apply" {
		page = v.do(t, http.MethodPost, w.PortalAuth+"/p/ru/apply", url.Values{"form": {form[1]}, "action": {"submit"}})
	}
	id, ok := strings.CutPrefix(page.url.Path, "/p/ru/r/")
	if !ok {
		t.Fatalf("submit leads to %s: %q", page.url, page.heading)
	}
	return id
}
