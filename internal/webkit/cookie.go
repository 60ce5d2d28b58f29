package webkit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"inkan/internal/i18n"
)

// The cookies. The __Host- prefix makes browsers refuse them from another host, a
// subdomain or plain http.
const (
	browserCookie  = "__Host-inkan_p"
	languageCookie = "__Host-inkan_lang"
)

// Browser gives the hash of the cookie that tells one browser from another, and sets
// the cookie where there is none: from then on the request has it, too, so that the
// first page that a browser sees may hold a form. It says nothing about who the person is.
func Browser(w http.ResponseWriter, r *http.Request) [32]byte {
	hash, ok := KnownBrowser(r)
	if ok {
		return hash
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails; see crypto/rand
	value := base64.RawURLEncoding.EncodeToString(raw)
	http.SetCookie(w, &http.Cookie{
		Name: browserCookie, Value: value, Path: "/",
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	r.AddCookie(&http.Cookie{Name: browserCookie, Value: value})
	return sha256.Sum256([]byte(value))
}

// KnownBrowser is Browser without setting anything.
func KnownBrowser(r *http.Request) ([32]byte, bool) {
	cookie, err := r.Cookie(browserCookie)
	if err != nil {
		return [32]byte{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(raw) != 16 {
		return [32]byte{}, false
	}
	return sha256.Sum256([]byte(cookie.Value)), true
}

// Lang is the language of the answer.
func Lang(r *http.Request) string {
	chosen := ""
	cookie, err := r.Cookie(languageCookie)
	if err == nil {
		chosen = cookie.Value
	}
	return i18n.Match(r.Header.Get("Accept-Language"), chosen)
}

// withLanguage keeps the choice of a ?lang= link in a cookie and leads back to the
// same page without it, so that no address of ours carries the choice on.
func withLanguage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chosen := r.URL.Query().Get("lang")
		if r.Method != http.MethodGet || !slices.Contains(i18n.Languages, chosen) {
			next.ServeHTTP(w, r)
			return
		}
		http.SetCookie(w, &http.Cookie{
			Name: languageCookie, Value: chosen, Path: "/", MaxAge: 365 * 24 * 3600,
			Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
		w.Header().Set("Location", samePath(r.URL))
		w.WriteHeader(http.StatusSeeOther)
	})
}

// samePath never leads elsewhere: a path that begins with two slashes would be a host.
func samePath(u *url.URL) string {
	path := u.EscapedPath()
	if strings.HasPrefix(path, "//") || strings.HasPrefix(path, `/\`) || !strings.HasPrefix(path, "/") {
		return "/"
	}
	return path
}
