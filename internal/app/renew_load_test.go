package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
	"inkan/internal/testkit"
)

var (
	hashOn = regexp.MustCompile(`<span class="hash">(.*?)</span></span>`)
)

// TestRenewals200 lets two hundred holders renew at once, each with a certificate in a
// TLS connection of its own, from the first page to the file. Nobody meets an error, and
// nobody waits for a key to be made: the pool has one for each.
func TestRenewals200(t *testing.T) {
	testkit.Long(t, "makes hundreds of certificates")
	const holders = 200
	o := catest.New(t, catest.Options{Activate: true, Grace: 30, PoolSize: holders})
	own := make([]catest.Held, holders)
	for n := range own {
		own[n] = o.Keeping(catest.Application(n))
	}
	o.DaysBefore(own[0], 60)
	catest.Must(t, o.CA.FillPool(t.Context()))
	if n := o.Count("sealed_key WHERE stage = 'pool'"); n != holders {
		t.Fatalf("the pool holds %d keys", n)
	}
	s := openAuthSite(t, o)
	made := len(sealings(o))
	working, stop := context.WithCancel(t.Context())
	var wait, worker sync.WaitGroup
	worker.Go(func() { // as serve has it: what a step could not do at once is done soon
		for working.Err() == nil {
			_ = o.CA.Recover(working, 0)
			time.Sleep(recoverEvery / 100)
		}
	})
	for n := range own {
		wait.Go(func() { renewWith(t, s, own[n]) })
	}
	wait.Wait()
	stop()
	worker.Wait()
	if n := o.Count("certificate WHERE predecessor <> ''"); n != holders {
		t.Errorf("%d certificates were renewed", n)
	}
	if again := len(sealings(o)); again != made {
		t.Errorf("keys were made %d times while the pool had some", again-made)
	}
	if n := o.Count("sealed_key WHERE stage = 'pool'"); n != 0 {
		t.Errorf("%d keys of the pool were not used", n)
	}
}

// sealings are the calls with which a fresh key goes into the pool.
func sealings(o *catest.Office) []string {
	var out []string
	for _, c := range o.Signer.Calls() {
		if c == "SealPool" {
			out = append(out, c)
		}
	}
	return out
}

// renewWith goes through all pages as one holder.
func renewWith(t *testing.T, s authSite, h catest.Held) {
	v := newVisitor(t, "h2", tls.VersionTLS13, with(&h.Pair))
	ask := func(method, path string, form url.Values) answered {
		got, err := v.try(t.Context(), method, "https://"+s.auth+path, form)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return answered{Response: &http.Response{}}
		}
		return got
	}
	// step gives the page that an answer leads to, and where it is.
	step := func(method, path string, form url.Values) (string, string) {
		got := ask(method, path, form)
		for got.StatusCode == 303 {
			path = got.Header.Get("Location")
			got = ask("GET", path, nil)
		}
		if got.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.screen)
		}
		return got.page, path
	}
	step("GET", "/p/ru", nil)
	page, _ := step("GET", "/p/ru/apply", nil)
	page, at := step("POST", "/p/ru/apply", url.Values{"form": {portaltest.Seal(page)}, "action": {"submit"}})
	for strings.Contains(page, "data-waiting") {
		time.Sleep(100 * time.Millisecond)
		page, _ = step("GET", at, nil)
	}
	id := strings.TrimPrefix(at, "/p/ru/r/")
	page, _ = step("POST", at, url.Values{"form": {portaltest.Seal(page)}, "requestId": {id}, "password": {"1234"}, "passwordConfirm": {"1234"}})
	link, hash := portaltest.File(page), hashOn.FindStringSubmatch(page)
	if link == "" || hash == nil {
		t.Errorf("no file for %s", id)
		return
	}
	file := ask("GET", link, nil)
	sum := sha256.Sum256([]byte(file.page))
	shown := regexp.MustCompile(`<[^>]*>|\s`).ReplaceAllString(hash[1], "")
	if file.StatusCode != 200 || hex.EncodeToString(sum[:]) != shown {
		t.Errorf("file of %s: %d", id, file.StatusCode)
	}
	if strings.HasSuffix(id, "0") { // opening one costs as much as making it
		if pair := catest.Open(s.Office, []byte(file.page), "1234"); !bytes.Equal(pair.Leaf.Raw, s.Certificate(s.Request(id).Serial).DER) {
			t.Errorf("%s: another certificate", pki.SerialHex(pair.Leaf.SerialNumber))
		}
	}
}
