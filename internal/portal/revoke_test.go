package portal_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca"
	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/ra"
)

func openRevocation(t testing.TB) *site {
	t.Helper()
	return openOver(catest.New(t, catest.Options{Activate: true}))
}

func ids(r pki.Request, ref pki.Secret) url.Values {
	return url.Values{"requestId": {r.ID}, "referenceId": {ref.Reveal()}}
}

func contact(reason pki.Reason) url.Values {
	return url.Values{"email": {"typed@example.jp"}, "emailConfirm": {"typed@example.jp"}, "reason": {reason.String()}}
}

func apply() url.Values { return url.Values{"action": {"apply"}} }

// TestRevocationByLetter walks the pages as people do: with mistakes, back, twice, from a
// page that is old. The reference ID is on no later page, in no flow and in no log.
func TestRevocationByLetter(t *testing.T) {
	s := openRevocation(t)
	r := s.Issued(catest.Application(1))
	ref := s.Reference(r.ID)
	b := s.as(nil)
	has(t, b.page("/p/rx"), "https://auth.test/p/rx", `name="referenceId"`)
	flow, page := b.next("/p/rx", "", ids(r, ref))
	has(t, page, "証明書失効申請情報の入力", r.Application.TerminalName, r.Application.Holder.Code[3:])

	for name, wrong := range map[string]url.Values{
		"上のアドレスと違っています": {"email": {"a@example.jp"}, "emailConfirm": {"b@example.jp"}, "reason": {"superseded"}},
		"同じアドレスをもう一度入力": {"email": {"a@example.jp"}, "emailConfirm": {""}, "reason": {"superseded"}},
		"メールアドレスの形では":   {"email": {"a"}, "emailConfirm": {"a"}, "reason": {"superseded"}},
		"理由を1つ選んで":      {"email": {"a@example.jp"}, "emailConfirm": {"a@example.jp"}},
		"理由を1つ選んでください。": {"email": {"a@example.jp"}, "emailConfirm": {"a@example.jp"}, "reason": {"certificateHold"}},
	} {
		w := b.press(flow, page, wrong)
		if w.Code == http.StatusSeeOther {
			t.Errorf("%s: led on", name)
		}
		has(t, w.Body.String(), name, "入力をお確かめください")
	}
	old := page
	_, page = b.next(flow, page, contact(pki.SupersededReason))
	has(t, page, "証明書失効申請情報の確認", "typed@example.jp", "新しい電子証明書に入れ替えた")
	_, page = b.next(flow, page, url.Values{"action": {"back"}})
	has(t, page, `value="typed@example.jp"`, `value="superseded" required checked`)
	_, page = b.next(flow, page, contact(pki.KeyCompromise))
	confirm := page
	for range 2 { // a double click
		_, page = b.next(flow, confirm, apply())
		has(t, page, "いま止まっています", "R-20261123-000001", "data-waiting")
	}
	_, page = b.next(flow, old, contact(pki.Unspecified)) // a tab that stayed behind
	has(t, page, "いま止まっています")
	if n := s.Count("revocation"); n != 1 {
		t.Fatalf("%d cases", n)
	}
	_, err := s.RA.ApproveRevocation(t.Context(), catest.Officer, "R-20261123-000001", s.CaseHash("R-20261123-000001"), "")
	catest.Must(t, err)
	has(t, b.page(flow), "失効しました", "data-waiting")
	_, err = s.CA.PublishCRL(t.Context(), issuance.G1)
	catest.Must(t, err)
	page = b.page(flow)
	has(t, page, "公開済み")
	if strings.Contains(page, "data-waiting") {
		t.Error("the page waits for what has happened")
	}
	has(t, s.as(nil).page(flow), "ERR-5") // somebody else's browser
	typed := strings.Count(b.all.String(), ref.Reveal())
	if typed != 0 || strings.Contains(s.Log.String()+s.log.String(), ref.Reveal()) || s.Count(`flow WHERE facts LIKE $1 OR subject LIKE $1`, "%"+ref.Reveal()+"%") != 0 {
		t.Error("the reference ID went further than the form")
	}

	s.Advance(time.Second)
	w := b.press("/p/rx", "", ids(r, ref)) // nothing more to revoke
	has(t, w.Body.String(), "もう失効しています")
}

// TestRevocationAfterACrash: the wish was committed and the step of the flow was not. A
// reload shows the receipt, whether it was a hold or final.
func TestRevocationAfterACrash(t *testing.T) {
	s := openRevocation(t)
	for n, byCertificate := range []bool{false, true} {
		r := s.Issued(catest.Application(n + 1))
		way, b := ra.RevocationWay{RequestID: r.ID}, s.as(nil)
		var flow, page string
		if byCertificate {
			way = ra.RevocationWay{Leaf: s.Leaf(r.Serial)}
			b = s.as(way.Leaf)
			flow, page = b.next("/p/rx", b.page("/p/rx"), url.Values{})
		} else {
			b.page("/p/rx")
			flow, page = b.next("/p/rx", "", ids(r, s.Reference(r.ID)))
		}
		_, page = b.next(flow, page, contact(pki.KeyCompromise))
		_, err := s.RA.AskRevocation(t.Context(), ra.RevocationInput{RevocationWay: way, Flow: flow[len("/p/rx/f/"):], Email: "typed@example.jp",
			Reason: pki.KeyCompromise, Language: "ja"})
		catest.Must(t, err)
		has(t, b.page(flow), "失効申請の状況")
		_, page = b.next(flow, page, apply())
		has(t, page, "失効申請の状況")
		if got := s.Count("revocation WHERE serial = $1", r.Serial); got != 1 {
			t.Errorf("%d cases", got)
		}
	}
}

// TestRevocationProgress: the page says what was seen of the answers by OCSP and of the
// list, and promises no time where the list is late.
func TestRevocationProgress(t *testing.T) {
	s := openRevocation(t)
	view := ca.NewView(s.DB, []string{issuance.G1}, s.Now, s.Log.Logger())
	s = openOver(s.Office, func(c *portal.Config) { c.Status = view })
	_, err := s.CA.PublishCRL(t.Context(), issuance.G1)
	catest.Must(t, err)
	s.Advance(time.Second)
	r := s.Issued(catest.Application(1))
	b := s.as(s.Leaf(r.Serial))
	flow, page := b.next("/p/rx", b.page("/p/rx"), url.Values{})
	_, page = b.next(flow, page, contact(pki.KeyCompromise))
	catest.Must(t, view.Load(t.Context()))
	b.next(flow, page, apply())
	const answered, waits, late, listed = "すでに「失効」と答えています", "失効リストには、まだ載っていません", "公開が遅れています", "の失効リストに載っています"
	for _, row := range []struct {
		name string
		then func() error
		says []string
	}{
		{"recorded", func() error { return nil }, []string{waits}},
		{"this node knows it", func() error { return view.Load(t.Context()) }, []string{answered, waits}},
		{"nobody signs a list", func() error { s.Advance(time.Minute); return nil }, []string{answered, late}},
		{"a list is signed", func() error {
			_, err := s.CA.PublishCRL(t.Context(), issuance.G1)
			return errors.Join(err, view.Load(t.Context()))
		}, []string{answered, listed, "公開済み"}},
	} {
		catest.Must(t, row.then())
		page := b.page(flow)
		for _, words := range []string{answered, waits, late, listed} {
			if strings.Contains(page, words) != slices.Contains(row.says, words) {
				t.Errorf("%s: %q is on the page: %v", row.name, words, strings.Contains(page, words))
			}
		}
		has(t, page, row.says...)
	}
}

// TestRevocationByCertificate: the presented certificate is the proof; a report of
// compromise is final at once. Another certificate sees nothing of it.
func TestRevocationByCertificate(t *testing.T) {
	s := openRevocation(t)
	mine, other := s.Issued(catest.Application(1)), s.Issued(catest.Application(2))
	b := s.as(s.Leaf(mine.Serial))
	first := b.page("/p/rx")
	has(t, first, "https://portal.test/p/rx", mine.Application.TerminalName, "次へ")
	flow, page := b.next("/p/rx", first, url.Values{})
	_, page = b.next(flow, page, contact(pki.KeyCompromise))
	has(t, page, "押すと、この電子証明書は使えなくなります")
	neighbour := *b // the same browser chose another certificate
	neighbour.leaf = s.Leaf(other.Serial)
	has(t, neighbour.press(flow, page, apply()).Body.String(), "ERR-4")
	has(t, neighbour.page(flow), "ERR-5")
	_, page = b.next(flow, page, apply())
	has(t, page, "失効しました", "公開済み")
	if strings.Contains(page, "審査") {
		t.Error("the page speaks of a decision where there was none")
	}
	if c := s.Certificate(mine.Serial); c.Reason != pki.KeyCompromise || c.RevokedAt.IsZero() || !s.Certificate(other.Serial).RevokedAt.IsZero() {
		t.Errorf("revoked %s for %s", c.RevokedAt, c.Reason)
	}

	for name, row := range map[string]struct {
		leaf *x509.Certificate
		want string
	}{
		"revoked": {b.leaf, "RX-1F"}, "another CA's": {s.CAs[issuance.TLS], "RX-1O"}, "an operator's": {s.CAs[issuance.Operations], "RX-1O"},
	} {
		page := s.as(row.leaf).page("/p/rx")
		has(t, page, row.want, "https://portal.test/p/rx")
		if strings.Contains(page, "次へ") {
			t.Errorf("%s: a way on", name)
		}
	}
	none := s.as(b.leaf)
	none.leaf = nil
	has(t, none.page("/p/rx"), "RX-1N", "https://portal.test/p/rx", `<a href="/p/check">この端末の電子証明書を確かめる</a>`)
}

// TestThreatRV2: whatever happens at the download site, a revocation can be asked for:
// its budgets are its own. Wrong IDs cost their budget here, too, and the certificate
// still opens the way.
func TestThreatRV2(t *testing.T) {
	s := openRevocation(t)
	r := s.Issued(catest.Application(1))
	ref := s.Reference(r.ID)
	wrong := ids(r, pki.NewReferenceID())
	wrong.Set("password", "1234")
	wrong.Set("passwordConfirm", "1234")
	b := s.as(nil)
	b.page("/p/rcd")
	last := 0
	for range 300 { // more than pair, source and everybody together have
		last = b.press("/p/rcd", "", wrong).Code
	}
	if last != http.StatusTooManyRequests {
		t.Fatalf("the download site is not saturated: %d", last)
	}
	_, page := b.next("/p/rx", "", ids(r, ref))
	has(t, page, "証明書失効申請情報の入力")

	for n := range 11 {
		w := b.press("/p/rx", "", wrong)
		want := http.StatusNotFound
		if n == 10 {
			want = http.StatusTooManyRequests
			has(t, w.Body.String(), "RX-1L", "https://auth.test/p/rx")
		}
		if w.Code != want {
			t.Errorf("wrong IDs, try %d: %d", n+1, w.Code)
		}
	}
	mine := s.as(s.Leaf(r.Serial))
	flow, page := mine.next("/p/rx", mine.page("/p/rx"), url.Values{})
	_, page = mine.next(flow, page, contact(pki.KeyCompromise))
	_, page = mine.next(flow, page, apply())
	has(t, page, "失効しました")
}

// Wrong IDs have one page of one size at the revocation site, too (threat DL4). What can
// be no ID is told as such: it says nothing of any request.
func TestThreatDL4AtTheRevocationSite(t *testing.T) {
	s := openRevocation(t)
	r, open := s.Issued(catest.Application(1)), s.Submit(catest.Application(2))
	sizes := map[int]bool{}
	for _, typed := range []url.Values{ids(r, pki.NewReferenceID()), ids(open, pki.NewReferenceID()), {"requestId": {"202001010000001"}, "referenceId": {"ABCDEFGHJK"}},
		{"requestId": {"1"}, "referenceId": {"2"}}, {}} {
		b := s.as(nil)
		b.page("/p/rx")
		w := b.press("/p/rx", "", typed)
		status, screen := http.StatusNotFound, "RX-1E"
		if len(typed.Get("requestId")) != len("202001010000001") {
			status, screen = http.StatusUnprocessableEntity, "RX-1G"
		}
		if w.Code != status {
			t.Errorf("%v: %d", typed, w.Code)
		}
		has(t, w.Body.String(), screen)
		sizes[w.Body.Len()] = true
	}
	if len(sizes) != 1 {
		t.Errorf("sizes %v", sizes)
	}
}

// A session that ended leads back to the same step with what was typed.
func TestRevocationSessionEnds(t *testing.T) {
	s := openRevocation(t)
	r := s.Issued(catest.Application(1))
	b := s.as(nil)
	b.page("/p/rx")
	flow, page := b.next("/p/rx", "", ids(r, s.Reference(r.ID)))
	s.Advance(time.Hour) // what was typed meanwhile is kept, and is not sent on
	has(t, b.press(flow, page, contact(pki.CessationOfOperation)).Body.String(), "ERR-6")
	_, page = b.next(flow, b.page(flow), url.Values{})
	has(t, page, "証明書失効申請情報の入力", "typed@example.jp")
	_, page = b.next(flow, page, contact(pki.CessationOfOperation))
	s.Advance(time.Hour)
	has(t, b.press(flow, page, apply()).Body.String(), "ERR-6")
	if n := s.Count("revocation"); n != 0 {
		t.Fatalf("%d cases after the session's end", n)
	}
	_, page = b.next(flow, b.page(flow), url.Values{})
	has(t, page, "typed@example.jp", "申請")
	_, page = b.next(flow, page, apply())
	has(t, page, "申請を受け付けました")
}
