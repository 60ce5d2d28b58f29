package relay

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"inkan/internal/pki"
)

// FuzzIssueBody: a body that is understood means the same when it is written anew in its
// plain form; any other is a refusal of class Invalid.
func FuzzIssueBody(f *testing.F) {
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("0123")}))
	plain := func(kind, code, terminal, csr, key string) []byte {
		raw, err := json.Marshal(map[string]string{fieldKind: kind, fieldCode: code, fieldTerminal: terminal, fieldCSR: csr, fieldKey: key})
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	f.Add(plain("medical", "0110119153", "受付1号機", csr, "k1"))
	f.Add([]byte(`{"holderKind":"medical","holderKind":"dental"}`))
	f.Add([]byte(`{"csr":"\ud800"}`))
	f.Add([]byte(`{"csr":{"a":["b"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > MaxBody {
			return
		}
		read := func(body []byte) (string, string, error) {
			limited := http.MaxBytesReader(httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(body)).Body, MaxBody)
			in, err := readIssue(limited, "application/json; charset=utf-8")
			return in.Application.Hash(), in.IdempotencyKey, err
		}
		hash, key, err := read(body)
		if err != nil {
			if pki.ClassOf(err) != pki.Invalid {
				t.Fatalf("class of %v", err)
			}
			return
		}
		var said map[string]string
		err = json.Unmarshal(body, &said)
		if err != nil {
			t.Fatalf("encoding/json does not read %q: %v", body, err)
		}
		again := plain(said[fieldKind], said[fieldCode], said[fieldTerminal], said[fieldCSR], said[fieldKey])
		if len(again) > MaxBody { // what JSON writes as an escape may be longer
			return
		}
		hash2, key2, err := read(again)
		if err != nil || hash2 != hash || key2 != key {
			t.Fatalf("two readers of %q see two requests: %v", body, err)
		}
	})
}
