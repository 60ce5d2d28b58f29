package portal_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/portal/portaltest"
	"inkan/internal/webkit"
)

// typed sends the form of /p/rcr and gives the path of its flow.
func (b *browser) typed(t *testing.T, path string, form url.Values) string {
	t.Helper()
	w := b.do("POST", path, form)
	flow := w.Header().Get("Location")
	if w.Code != 303 || !strings.HasPrefix(flow, "/p/rcr/f/") {
		t.Fatalf("the form: %d to %q\n%s", w.Code, flow, w.Body)
	}
	return flow
}

// TestTypedApplicationIsKept: what was typed is there after a mistake, in another language,
// and when the form was sent after its session had ended; nothing goes on by itself then.
func TestTypedApplicationIsKept(t *testing.T) {
	d := open(t)
	b := d.browser()
	b.get("/p/rcr")
	form := applicationForm()
	form.Set("phone", "")
	flow, kept := b.typed(t, "/p/rcr", form), d.Now().Add(webkit.Kept)
	b.lang = "en"
	page := b.get(flow)
	if page.Code != 422 || !strings.Contains(page.Body.String(), `value="受付1号機"`) || !strings.Contains(page.Body.String(), `lang="en"`) {
		t.Fatalf("in English: %d", page.Code)
	}
	b.lang = ""
	form.Set("phone", "011-000-0009")
	form.Set("terminalName", "受付9号機")
	d.Advance(31 * time.Minute)
	ended := b.do("POST", flow, portaltest.Sealed(form, page.Body.String()))
	if ended.Code != 410 || !strings.Contains(b.get(flow).Body.String(), "ERR-6") {
		t.Fatalf("the form after the session's end: %d", ended.Code)
	}
	for _, said := range []string{"<h1>" + i18n.Text("ja", "rcr.title", nil) + "</h1>", i18n.Text("ja", "error.flow.ended.not", map[string]any{"Kept": kept})} {
		if !strings.Contains(ended.Body.String(), said) {
			t.Errorf("the page of the session's end does not say %q", said)
		}
	}
	b.pressed(flow, ended, "")
	page = b.get(flow)
	for _, kept := range []string{`value="受付9号機"`, `value="011-000-0009"`, `value="clinic@example.jp"`, `name="step" value="edit"`} {
		if page.Code != 200 || !strings.Contains(page.Body.String(), kept) {
			t.Errorf("resumed: %d, the form does not hold %s", page.Code, kept)
		}
	}
	if next := b.get(b.typed(t, flow, portaltest.Sealed(form, page.Body.String()))); next.Code != 200 || !strings.Contains(next.Body.String(), "<b>受付9号機</b>") {
		t.Errorf("the confirmation: %d", next.Code)
	}
}

// faultLink is a line of the summary of what is wrong.
var faultLink = regexp.MustCompile(`<li><a class="act-link" href="#([^"]+)">([^<]+)</a></li>`)

// TestApplicationFields: each field that is wrong is marked at the first press, and the
// summary names it and leads to it.
func TestApplicationFields(t *testing.T) {
	tests := []struct {
		name   string
		change map[string]string
		want   []string // fields that are wrong
		text   string
	}{
		{"nothing", map[string]string{"holderKind": "", "holderCode": "", "department": "", "phone": "", "email": "", "emailConfirm": "", "terminalName": "", "paymentMethod": ""},
			[]string{"holderKind", "holderCode", "department", "phone", "email", "emailConfirm", "terminalName", "paymentMethod"}, "コードを入力してください"},
		{"no kind", map[string]string{"holderKind": ""}, []string{"holderKind"}, "種別を選んでください"},
		{"no address again", map[string]string{"emailConfirm": ""}, []string{"emailConfirm"}, "もう一度入力してください"},
		{"no code", map[string]string{"holderCode": ""}, []string{"holderCode"}, "コードを入力してください"},
		{"check digit", map[string]string{"holderCode": "0110119154"}, []string{"holderCode"}, "検査数字"},
		{"kind", map[string]string{"holderKind": "dental"}, []string{"holderCode"}, "点数表番号"},
		{"seven digits", map[string]string{"holderCode": "0119153"}, []string{"holderCode"}, `<select id="prefecture"`},
		{"seven digits of an agent", map[string]string{"holderCode": "0119153", "holderKind": "agent"}, []string{"holderCode"}, "7桁"},
		{"mails differ", map[string]string{"emailConfirm": "klinik@example.jp"}, []string{"emailConfirm"}, "上のメールアドレスと違います"},
		{"a system's name", map[string]string{"terminalName": "Ｗｉｎｄｏｗｓ 11 Pro"}, []string{"terminalName"}, "OSの名前"},
		{"an unseen letter", map[string]string{"terminalName": "受付\u202e1号機"}, []string{"terminalName"}, "使えない文字"},
		{"payment", map[string]string{"paymentMethod": "3"}, []string{"paymentMethod"}, "支払い方法"},
		{"maintenance", map[string]string{"maintenanceEmail": "vendor"}, []string{"maintenanceEmail"}, "メールアドレスの形"},
	}
	d := open(t)
	b := d.browser()
	b.get("/p/rcr")
	for _, tt := range tests {
		form := applicationForm()
		for field, value := range tt.change {
			form.Set(field, value)
		}
		d.Advance(5 * time.Second) // the budget of a source
		flow := b.typed(t, "/p/rcr", form)
		w := b.get(flow) // and as often as it is opened again
		page := w.Body.String()
		if w.Code != 422 || !strings.Contains(page, tt.text) || !strings.Contains(page, fmt.Sprintf("直していただくところが%dつ", len(tt.want))) {
			t.Errorf("%s: %d\n%s", tt.name, w.Code, page)
		}
		var led []string
		for _, m := range faultLink.FindAllStringSubmatch(page, -1) {
			led = append(led, m[1])
			if !strings.Contains(page, `id="`+m[1]+`"`) || !strings.HasPrefix(m[2], i18n.Text("ja", "rcr."+m[1], nil)+"：") {
				t.Errorf("%s: the summary says %q and leads to %s", tt.name, m[2], m[1])
			}
		}
		if !slices.Equal(led, tt.want) || strings.Count(page, `class="field wrong"`) != len(tt.want) {
			t.Errorf("%s: the summary leads to %v, want %v, and %d are marked", tt.name, led, tt.want, strings.Count(page, `class="field wrong"`))
		}
		for field, value := range form {
			if tt.change[field] == "" && field != "paymentMethod" && field != "holderKind" && value[0] != "" && !strings.Contains(page, `value="`+value[0]+`"`) {
				t.Errorf("%s: what was typed into %s is lost", tt.name, field)
			}
		}
	}
	if n := d.Count("draft") + d.Count("outbox"); n != 0 {
		t.Errorf("%d drafts and mails of what was wrong", n)
	}
	// What people type is folded, not refused; a browser that comes without our cookie gets it.
	b = d.browser()
	form := applicationForm()
	for field, value := range map[string]string{"holderCode": "０１-1　0119153", "email": "ｃｌｉｎｉｃ@example.jp", "phone": "０１１ー０００ー００００", "terminalName": "カ\u3099ラス1号機　"} {
		form.Set(field, value)
	}
	page := b.get(b.do("POST", "/p/rcr", form).Header().Get("Location")).Body.String()
	for _, want := range []string{"<span>0119153</span>", "clinic@example.jp", "011-000-0000", "<b>ガラス1号機</b>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the confirmation does not hold %q", want)
		}
	}
}

// TestSevenDigits: kind and prefecture make ten digits of seven, and the person says yes.
func TestSevenDigits(t *testing.T) {
	d := open(t)
	b := d.browser()
	b.get("/p/rcr")
	form := applicationForm()
	form.Set("holderCode", "0119153")
	form.Set("prefecture", "13")
	flow := b.typed(t, "/p/rcr", form)
	w := b.get(flow)
	if w.Code != 422 || !strings.Contains(w.Body.String(), "検査数字") {
		t.Errorf("a prefecture that does not fit: %d", w.Code)
	}
	form.Set("prefecture", "1")
	w = b.get(b.typed(t, flow, portaltest.Sealed(form, w.Body.String())))
	if w.Code != 422 || !strings.Contains(w.Body.String(), "北海道・医科なら") || !strings.Contains(w.Body.String(), "<span>01</span><span>1</span><span>0119153</span>") {
		t.Fatalf("the suggestion: %d\n%s", w.Code, w.Body)
	}
	form.Set("action", "useCode")
	if page := b.get(b.typed(t, flow, portaltest.Sealed(form, w.Body.String()))); page.Code != 200 || !strings.Contains(page.Body.String(), "<span>01</span><span>1</span><span>0119153</span>") {
		t.Error("the confirmation does not show the ten digits")
	}
}
