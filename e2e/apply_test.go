package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// applies: a holder applies on the site, two operators approve, the letter leaves, and
// /p/status says each time how far it is (M1).
func applies(t *testing.T, w *world) {
	const code = "0110119153"
	var result struct {
		Receipt, Heading, Status, Word string
		Problems                       []string
	}
	NewBrowser(t, w.TLSRoot).Run(t, "apply.mjs", map[string]any{"portal": w.Portal, "mail": w.Mail,
		"applicant": map[string]string{"code": code, "terminal": "申込1号機", "email": "apply@clinic.example.jp"}}, &result)
	for _, p := range result.Problems {
		t.Error(p)
	}
	if result.Word != "受付" || result.Heading == "" {
		t.Fatalf("after the application: %+v", result)
	}
	var all []struct{ TerminalName string }
	w.Must(t, &all, "request", "list", "--code", code, "--limit", "1000")
	found := 0
	for _, r := range all {
		if r.TerminalName == "申込1号機" {
			found++
		}
	}
	if found != 1 {
		t.Fatalf("%d requests for one application", found)
	}
	v := newVisitor(t, w.Demo, "")
	word := func(want string) {
		t.Helper()
		page := v.do(t, http.MethodPost, w.Portal+"/p/status", url.Values{"receiptNumber": {result.Receipt}, "holderCode": {code}})
		if !strings.Contains(page.body, "<h2>"+want+"</h2>") {
			t.Errorf("/p/status does not say %s", want)
		}
	}
	w.Must(t, nil, "request", "approve", result.Receipt, "--yes", "--as", "approver-1")
	word("受付")
	var checked Request
	w.Must(t, &checked, "request", "show", result.Receipt, "--as", "approver-1")
	w.Refused(t, "request", "approve", result.Receipt, "--content", checked.ContentHash, "--as", "approver-1")
	w.Must(t, nil, "request", "approve", result.Receipt, "--yes", "--as", "approver-2")
	word("発行済み（通知書の発送を準備しています）")
	w.Must(t, nil, "letter", "dispatch", result.Receipt, "--as", w.Operator(t, "letters"))
	word("発送済み")
	page := v.do(t, http.MethodGet, result.Status, nil)
	if page.status != http.StatusOK || strings.Contains(page.body, "取り下げる") {
		t.Errorf("the mailed link: %d", page.status)
	}
}
