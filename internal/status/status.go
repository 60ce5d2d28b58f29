// Package status answers everybody (CRL, OCSP, CA certificates) over plain http, as
// RFC 5280 and RFC 5019 want it.
//
// It owns the wire: paths, encodings, caching headers. It does not own the answers:
// those come from memory (ca), so that status is served with the database down.
package status

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"inkan/internal/ca"
	"inkan/internal/issuance"
	"inkan/internal/store"
	"inkan/internal/webkit"
)

// Answers answers OCSP requests.
type Answers interface {
	// Answer answers one request; fresh says whether its nonce may be echoed.
	Answer(ctx context.Context, request []byte, fresh func() bool) (ca.Answer, error)
}

// Lists gives the newest CRL of an issuer.
type Lists interface {
	CRL(issuer string) (store.CRL, time.Time)
}

// Config is what the audience is served from.
type Config struct {
	Answers Answers
	Lists   Lists
	CAs     map[string]*x509.Certificate // by issuer ID; "tls" is the site's root of /p/cert
	// AboutRoot is the page that explains the site's root, with its style sheet; nil: none.
	AboutRoot http.Handler
	// OCSP is told of every OCSP answer: what it says, and whether it was signed for an
	// earlier question; nil: nobody counts.
	OCSP func(says string, kept bool)
	Now  func() time.Time
	Log  *slog.Logger
}

// maxAge is the longest time a cache may keep an answer: a revocation is seen through
// any cache within a minute (threat ST1).
const maxAge = time.Minute

// caAge is how long a CA certificate may be kept: it never changes.
const caAge = 24 * time.Hour

// The budget of answers with a nonce, which are signed one by one: a relying system that
// checks a certificate at each log-in keeps within it, a flood is answered from memory
// (threat ST2).
const (
	nonceTries, nonceEvery = 200, 20 * time.Millisecond // per source
	maxSources             = 50_000
)

// Handler serves the audience. The OCSP path goes before any mux: a base64 request
// may hold "//", which a mux would redirect to another request (threat ST5).
func Handler(c Config) http.Handler {
	nonces := webkit.NewBudget[netip.Addr](nonceTries, nonceEvery, maxSources, c.Now)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /crl/{file}", c.crl)
	mux.HandleFunc("GET /ca/{file}", c.certificate)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound) })
	if c.AboutRoot != nil {
		mux.Handle("GET /p/cert/about", c.AboutRoot)
		mux.Handle("GET "+webkit.AssetPath, c.AboutRoot)
	}
	mux.HandleFunc("GET /p/cert", func(w http.ResponseWriter, r *http.Request) { c.serveCA(w, r, issuance.TLS) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		rest, ok := strings.CutPrefix(r.URL.Path, "/ocsp")
		if ok && (rest == "" || rest[0] == '/') {
			r.Pattern = "/ocsp" // for those who count
			c.ocsp(w, r, strings.TrimPrefix(rest, "/"), nonces)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (c Config) ocsp(w http.ResponseWriter, r *http.Request, encoded string, nonces *webkit.Budget[netip.Addr]) {
	var request []byte
	var err error
	switch {
	case r.Method == http.MethodPost && encoded == "":
		request, err = io.ReadAll(http.MaxBytesReader(w, r.Body, issuance.MaxOCSPRequest))
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && encoded != "":
		request, err = decodeGET(encoded)
	default:
		w.Header().Set("Allow", "GET, POST")
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	answer := ca.Answer{Body: issuance.OCSPMalformed, Says: "malformed"}
	if err == nil {
		answer, err = c.Answers.Answer(r.Context(), request, func() bool {
			_, ok := nonces.Take(webkit.Network(webkit.Source(r)))
			return ok
		})
		if err != nil {
			c.Log.Error("OCSP answer failed", "err", err)
			answer = ca.Answer{Body: issuance.OCSPInternal, Says: "internal"}
		}
	}
	if c.OCSP != nil {
		c.OCSP(answer.Says, answer.Kept)
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	if answer.ThisUpdate.IsZero() || r.Method == http.MethodPost {
		w.Header().Set("Cache-Control", "no-store")
		write(w, r, answer.Body)
		return
	}
	c.cache(w, r, answer.Body, answer.ETag, answer.ThisUpdate, answer.NextUpdate, maxAge)
}

var errTooLong = errors.New("longer than any request")

// usual puts the characters that clients use for "+" and "/" into the standard ones.
var usual = strings.NewReplacer(" ", "+", "-", "+", "_", "/")

// decodeGET reads the base64 of RFC 6960 §A.1 as clients really write it: with "+" and
// "/" in either form, with or without padding. Escaped or not, net/url has read that.
func decodeGET(encoded string) ([]byte, error) {
	if len(encoded) > base64.StdEncoding.EncodedLen(issuance.MaxOCSPRequest) {
		return nil, errTooLong
	}
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(usual.Replace(encoded), "="))
}

func (c Config) crl(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutSuffix(r.PathValue("file"), ".crl")
	crl, _ := c.Lists.CRL(id)
	if !ok || len(crl.DER) == 0 {
		refuse(w, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	// A number and a moment are one list, on every node. Hashing a list of a million
	// entries would take longer than sending it.
	etag := fmt.Sprintf(`"%d-%d"`, crl.Number, crl.ThisUpdate.UnixMicro())
	c.cache(w, r, crl.DER, etag, crl.ThisUpdate, crl.NextUpdate, maxAge)
}

func (c Config) certificate(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutSuffix(r.PathValue("file"), ".cer")
	if !ok || c.CAs[id] == nil {
		refuse(w, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-cert")
	cert := c.CAs[id]
	c.cache(w, r, cert.Raw, ca.ETag(cert.Raw), cert.NotBefore, cert.NotAfter, caAge)
}

func (c Config) serveCA(w http.ResponseWriter, r *http.Request, id string) {
	cert := c.CAs[id]
	w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	w.Header().Set("Content-Disposition", `attachment; filename="`+id+`-root.cer"`)
	c.cache(w, r, cert.Raw, ca.ETag(cert.Raw), cert.NotBefore, cert.NotAfter, caAge)
}

// cache writes a body with the headers of RFC 9111 and RFC 5019 §6.
func (c Config) cache(w http.ResponseWriter, r *http.Request, body []byte, etag string, from, until time.Time, limit time.Duration) {
	now := c.Now()
	age := max(0, min(limit, until.Sub(now)))
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Last-Modified", from.UTC().Format(http.TimeFormat))
	h.Set("Expires", now.Add(age).UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "public, no-transform, must-revalidate, max-age="+strconv.Itoa(int(age.Seconds())))
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	write(w, r, body)
}

func write(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func refuse(w http.ResponseWriter, code int) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(code), code)
}
