package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/webkit"
)

// problem is a document of RFC 9457. Programs branch on code; lookup is what the help
// desk asks for.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Lookup string `json:"lookup"`
}

// Problem draws failures of the api zone.
type Problem struct {
	Now func() time.Time // for Retry-After; nil: a guess is told
}

// protocol are the codes for which HTTP itself has a status. All others have that of
// their class (webkit.Status).
var protocol = map[string]int{
	errNoCertificate.Code: http.StatusUnauthorized,
	"json.form":           http.StatusBadRequest,
	"json.field":          http.StatusBadRequest,
	"json.type":           http.StatusUnsupportedMediaType,
	errMethod.Code:        http.StatusMethodNotAllowed,
}

// Draw is the webkit.Draw of the zone.
func (p Problem) Draw(w http.ResponseWriter, _ *http.Request, f webkit.Failure) error {
	status := f.Status
	special, ok := protocol[f.Code]
	if ok {
		status = special
	}
	wait := p.retryAfter(f)
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(wait))
	}
	text, hint := i18n.Error(f.Lang, &pki.Error{Class: f.Class, Code: f.Code, Args: f.Args})
	if hint != "" {
		text += "\n" + hint
	}
	title := http.StatusText(status)
	if i18n.Has("error." + f.Code + ".title") {
		title = i18n.Text(f.Lang, "error."+f.Code+".title", f.Args)
	}
	w.Header().Set("Content-Language", f.Lang)
	return writeJSON(w, status, "application/problem+json", problem{
		Type: "urn:inkan:error:" + f.Code, Title: title, Detail: text, Status: status, Code: f.Code, Lookup: f.Lookup,
	})
}

// busySeconds is how long a caller should leave a part alone that is away.
const busySeconds = 5

// retryAfter gives whole seconds; 0 where waiting does not help.
func (p Problem) retryAfter(f webkit.Failure) int {
	if f.Class != pki.Busy && f.Class != pki.Limited {
		return 0
	}
	until, known := f.Args["Until"].(time.Time)
	if !known || p.Now == nil {
		return busySeconds
	}
	wait := until.Sub(p.Now())
	return max(1, int((wait+time.Second-1)/time.Second))
}

// writeJSON encodes to memory first: nothing is written before it is whole. Every <
// is escaped, so that no reader takes an answer for a page.
func writeJSON(w http.ResponseWriter, status int, contentType string, value any) error {
	var out bytes.Buffer
	err := json.NewEncoder(&out).Encode(value)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the other end went away: nothing to do
	return nil
}
