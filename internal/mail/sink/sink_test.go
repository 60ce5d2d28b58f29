package sink_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/internal/mail"
	"inkan/internal/mail/sink"
	"inkan/internal/mail/sink/sinktest"
	"inkan/internal/testkit"
)

func start(t *testing.T) (*sink.Sink, *mail.Sender) {
	t.Helper()
	s, address := sinktest.Start(t)
	sender, err := mail.New(mail.Config{Address: address, From: "no-reply@pki.example.jp", TLS: mail.TLSNone})
	must(t, err)
	return s, sender
}

var must = testkit.Must

func get(t *testing.T, s *sink.Sink, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	csp := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("%s: headers %v", path, w.Header())
	}
	return w
}

func TestCatchAndShow(t *testing.T) {
	s, sender := start(t)
	if body := get(t, s, "/messages.json").Body.String(); strings.TrimSpace(body) != "[]" {
		t.Errorf("empty list is %s", body)
	}
	if body := get(t, s, "/").Body.String(); !strings.Contains(body, "まだ1通も") || !strings.Contains(body, `<html lang="ja">`) {
		t.Errorf("empty page: %s", body)
	}
	const subject, text = `【お知らせ】"><svg onload=x>`, "<script>x</script>\n.点\n二行目"
	must(t, sender.Send(t.Context(), mail.Message{To: "one@example.jp", Subject: "一通目", Text: "a", ID: "1"}))
	must(t, sender.Send(t.Context(), mail.Message{To: "two@example.jp", Subject: subject, Text: text, ID: "2"}))

	var mails []sink.Mail
	must(t, json.Unmarshal(get(t, s, "/messages.json").Body.Bytes(), &mails))
	if len(mails) != 2 || mails[0].Subject != subject || mails[1].Subject != "一通目" {
		t.Fatalf("mails %+v, want the newest first", mails)
	}
	m := mails[0]
	if strings.TrimRight(m.Text, "\n") != text || m.To[0] != "two@example.jp" || m.From != "no-reply@pki.example.jp" ||
		m.MessageID != mail.MessageID("2")+"@pki.example.jp" {
		t.Errorf("mail %+v", m)
	}
	for path, want := range map[string]string{"/": "&lt;svg onload=x&gt;", "/mail/2": "&lt;script&gt;x&lt;/script&gt;"} {
		body := get(t, s, path).Body.String()
		if !strings.Contains(body, want) || strings.Contains(body, "<svg") || strings.Contains(body, "<script") {
			t.Errorf("%s does not show the mail as it is: %s", path, body)
		}
	}
	for _, path := range []string{"/mail/3", "/mail/x", "/nothing"} {
		w := get(t, s, path)
		if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "このメールはありません") {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := get(t, s, "/sink.css"); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
		t.Errorf("style sheet: %d %v", w.Code, w.Header())
	}
}

func TestKeepsTheLast(t *testing.T) {
	testkit.Long(t, "sends 503 mails")
	s, sender := start(t)
	for i := range sink.Keep + 3 {
		must(t, sender.Send(t.Context(), mail.Message{To: "a@example.jp", Subject: fmt.Sprint("mail ", i), Text: "a", ID: fmt.Sprint(i)}))
	}
	mails := s.Mails()
	if len(mails) != sink.Keep || mails[0].ID != sink.Keep+3 || mails[len(mails)-1].ID != 4 {
		t.Errorf("%d mails, from %d to %d", len(mails), mails[len(mails)-1].ID, mails[0].ID)
	}
	if w := get(t, s, "/mail/3"); w.Code != http.StatusNotFound {
		t.Errorf("a forgotten mail answers %d", w.Code)
	}
}

func TestOnlyOnThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	err = sink.New(time.Now, testkit.Quiet).Serve(l)
	if err == nil {
		t.Error("serves the whole network")
	}
	_, err = net.Dial("tcp", l.Addr().String())
	if err == nil {
		t.Error("listener is still open")
	}
}
