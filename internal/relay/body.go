package relay

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"inkan/internal/pki"
	"inkan/internal/ra"
)

// The names of the fields of POST /api/v1/certificates; all are strings.
const (
	fieldKind     = "holderKind"
	fieldCode     = "holderCode"
	fieldTerminal = "terminalName"
	fieldCSR      = "csr"
	fieldKey      = "idempotencyKey"
)

var issueFields = []string{fieldKind, fieldCode, fieldTerminal, fieldCSR, fieldKey}

// readIssue reads the body of POST /api/v1/certificates.
func readIssue(body io.Reader, contentType string) (ra.APIRequest, error) {
	var in ra.APIRequest
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/json" {
		return in, pki.E(pki.Invalid, "json.type")
	}
	raw, err := io.ReadAll(body)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	if tooLarge {
		return in, err
	}
	if err != nil {
		return in, pki.E(pki.Invalid, "json.form").Because(err) // the caller went away
	}
	fields, err := readFields(raw, issueFields)
	if err != nil {
		return in, err
	}
	in.Application.Holder, err = pki.ParseHolder(pki.HolderKind(fields[fieldKind]), fields[fieldCode])
	if err != nil {
		return in, err
	}
	in.Application.TerminalName = fields[fieldTerminal]
	in.Application.CSR, err = readCSR(fields[fieldCSR])
	if err != nil {
		return in, err
	}
	in.IdempotencyKey = fields[fieldKey]
	return in, nil
}

// readFields reads one flat JSON object of strings. encoding/json would match names
// without regard to case and let the last of two equal names win: two readers of one
// body could see two requests. Absent fields are empty; the use case refuses those it
// needs.
func readFields(raw []byte, known []string) (map[string]string, error) {
	malformed := pki.E(pki.Invalid, "json.form")
	if !utf8.Valid(raw) {
		return nil, malformed
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	token, err := dec.Token()
	if err != nil || token != json.Delim('{') {
		return nil, malformed
	}
	fields := map[string]string{}
	for dec.More() {
		token, err = dec.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, malformed
		}
		wrong := pki.E(pki.Invalid, "json.field").With("Field", clip(name))
		_, twice := fields[name]
		if twice || !slices.Contains(known, name) {
			return nil, wrong
		}
		token, err = dec.Token()
		if err != nil {
			return nil, malformed
		}
		text, isText := token.(string)
		if !isText {
			return nil, wrong
		}
		fields[name] = text
	}
	_, err = dec.Token() // }
	if err != nil {
		return nil, malformed
	}
	_, err = dec.Token()
	if !errors.Is(err, io.EOF) {
		return nil, malformed // something follows
	}
	return fields, nil
}

// clip bounds what an error repeats of a stranger's name.
func clip(name string) string {
	const limit = 40
	runes := []rune(name)
	if len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return name
}

// readCSR reads one PEM block of a PKCS#10 request and nothing else.
func readCSR(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 || len(block.Headers) > 0 || !strings.HasPrefix(text, "-----BEGIN "+block.Type) ||
		block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, pki.E(pki.Invalid, "csr.form")
	}
	return block.Bytes, nil
}
