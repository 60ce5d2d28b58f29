package webkit_test

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/webkit"
)

// TestOneCodeARequest: the page, the record of the failure, what a handler logs with the
// request's context and the access record have the same look-up code, and the next
// request has another.
func TestOneCodeARequest(t *testing.T) {
	log, out := logged()
	var shown []string
	report := webkit.NewReporter(log, func(_ http.ResponseWriter, _ *http.Request, f webkit.Failure) error {
		shown = append(shown, f.Lookup)
		return nil
	})
	mux := http.NewServeMux()
	mux.Handle("GET /fails", report.Handle(func(_ http.ResponseWriter, r *http.Request) error {
		log.With("part", "office").InfoContext(r.Context(), "not correlated")
		return pki.E(pki.Gone, "ticket.over")
	}))
	mux.Handle("GET /panics", report.Handle(func(http.ResponseWriter, *http.Request) error { panic("x") }))
	zone := webkit.Zone{Name: "portal", Hosts: []string{"example.com"}}
	h := webkit.Stack{Zone: zone, Report: report}.Wrap(mux)
	for _, path := range []string{"/fails", "/panics"} {
		serve(h, request("GET", path, nil))
	}
	foreign := request("GET", "/fails", nil)
	foreign.Host = "b.test"
	serve(h, foreign)
	if len(shown) != 2 || shown[0] == shown[1] {
		t.Fatalf("codes shown: %v", shown)
	}
	codes := map[string]int{}
	lines := bufio.NewScanner(strings.NewReader(out.String()))
	for lines.Scan() {
		var record struct{ Msg, Lookup string }
		err := json.Unmarshal(lines.Bytes(), &record)
		if err != nil {
			t.Fatal(err)
		}
		if (record.Lookup == "") != (record.Msg == "not correlated") {
			t.Errorf("record %q has the code %q", record.Msg, record.Lookup)
		}
		codes[record.Lookup]++
	}
	if codes[shown[0]] != 2 || codes[shown[1]] != 3 || len(codes) != 4 { // refused, access; panic, refused, access; the foreign one
		t.Errorf("codes in the log: %v, shown %v\n%s", codes, shown, out)
	}
}

func newRecord(message string) slog.Record {
	return slog.NewRecord(time.Unix(0, 0), slog.LevelInfo, message, 0)
}

func TestCorrelate(t *testing.T) {
	log, out := logged()
	office := webkit.Correlate(webkit.Correlate(log.Handler())).WithAttrs(nil).WithGroup("")
	report := webkit.NewReporter(log, nil)
	zone := webkit.Zone{Name: "portal", Hosts: []string{"example.com"}}
	serve(webkit.Stack{Zone: zone, Report: report}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = office.Handle(r.Context(), newRecord("alarm"))
		_ = office.Handle(t.Context(), newRecord("elsewhere"))
	})), request("GET", "/", nil))
	lines := strings.Split(out.String(), "\n")
	if strings.Count(lines[0], `"lookup":"`) != 1 || strings.Contains(lines[1], "lookup") || strings.Count(lines[2], `"lookup":"`) != 1 {
		t.Errorf("log:\n%s", out)
	}
}

// TestVisits: what is counted of a request names its route by the pattern, never by the
// path.
func TestVisits(t *testing.T) {
	log, _ := logged()
	at := time.Unix(0, 0)
	var seen []webkit.Visit
	count := webkit.Recorder{Now: func() time.Time { at = at.Add(time.Second); return at }, Record: func(v webkit.Visit) { seen = append(seen, v) }}
	report := webkit.NewReporter(log, nil)
	mux := http.NewServeMux()
	mux.Handle("GET /p/rcd/t/{ticket}", report.Handle(func(http.ResponseWriter, *http.Request) error { return nil }))
	mux.Handle("/", report.Handle(webkit.NotFound))
	h := webkit.Stack{Zone: webkit.Zone{Name: "portal", Hosts: []string{"example.com"}}, Report: report, Count: count}.Wrap(mux)
	serve(h, request("GET", "/p/rcd/t/TICKET", nil))
	serve(h, request("GET", "/nowhere", nil))
	other := request("GET", "/", nil)
	other.Host = "b.test"
	serve(h, other)
	want := []webkit.Visit{
		{Zone: "portal", Route: "GET /p/rcd/t/{ticket}", Status: 0, Took: time.Second},
		{Zone: "portal", Route: "/", Status: 404, Code: "not_found", Took: time.Second},
		{Zone: "portal", Status: 421, Code: "http.zone", Took: time.Second},
	}
	if len(seen) != len(want) {
		t.Fatalf("seen %+v", seen)
	}
	for n := range want {
		if seen[n] != want[n] {
			t.Errorf("visit %d is %+v, want %+v", n, seen[n], want[n])
		}
	}
}
