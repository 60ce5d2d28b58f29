package sink

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
	"time"
)

//go:embed page.html
var pageText string

//go:embed sink.css
var style []byte

// japan is spoken by a page of a demo; pki.JST is not imported for one line.
var japan = time.FixedZone("JST", 9*60*60)

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.In(japan).Format("2006年1月2日 15:04:05") },
}).Parse(pageText))

const policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler shows what was caught: / lists, /mail/{id} shows one, /messages.json is for
// tests.
func (s *Sink) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		draw(w, http.StatusOK, view{Mails: s.Mails(), Keep: Keep})
	})
	mux.HandleFunc("GET /mail/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		m, ok := s.mail(id)
		if err != nil || !ok {
			draw(w, http.StatusNotFound, view{Missing: true})
			return
		}
		draw(w, http.StatusOK, view{Mail: &m})
	})
	mux.HandleFunc("GET /messages.json", func(w http.ResponseWriter, _ *http.Request) {
		var out bytes.Buffer
		err := json.NewEncoder(&out).Encode(s.Mails())
		write(w, http.StatusOK, "application/json", out.Bytes(), err)
	})
	mux.HandleFunc("GET /sink.css", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, "text/css; charset=utf-8", style, nil)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		draw(w, http.StatusNotFound, view{Missing: true})
	})
	return mux
}

type view struct {
	Mails   []Mail
	Mail    *Mail
	Missing bool
	Keep    int
}

func draw(w http.ResponseWriter, status int, v view) {
	var out bytes.Buffer
	err := page.Execute(&out, v)
	write(w, status, "text/html; charset=utf-8", out.Bytes(), err)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte, err error) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if err != nil {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the other end went away: nothing to do
}
