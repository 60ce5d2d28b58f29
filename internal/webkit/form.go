package webkit

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"net/http"

	"inkan/internal/pki"
)

// Leaf is the client certificate that the connection proved; nil where there was none.
// Nothing is known of it yet but that the other end has its key. No header is ever read
// for it (threat RS13).
func Leaf(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// Owner names who is at a page: a browser and the certificate it presents in a zone. A
// flow belongs to one owner (invariant 9). A browser without our cookie is nobody: zero.
func Owner(r *http.Request, zone string) [32]byte {
	browser, known := KnownBrowser(r)
	if !known {
		return [32]byte{}
	}
	return sha256.Sum256(seal(browser[:], zone, r))
}

// FormField is the hidden field in which a form carries its seal.
const FormField = "form"

// FormSeal is what the form of a page carries, so that it acts only from the page it was
// drawn for: the same browser, zone, path, step and certificate (threat RS11). The
// browser's own cookie is the key, so every node can check it and none has to keep it.
// Browser is called before.
func FormSeal(r *http.Request, zone, step string) string {
	browser, known := KnownBrowser(r)
	if !known {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(seal(browser[:], zone+"\x00"+r.URL.Path+"\x00"+step, r))
}

// CheckForm refuses with form.stale a form that was not drawn for this page, step and
// certificate, or in another browser. The form was parsed before.
func CheckForm(r *http.Request, zone, step string) error {
	want := FormSeal(r, zone, step)
	if want == "" || !hmac.Equal([]byte(want), []byte(r.PostForm.Get(FormField))) {
		return pki.E(pki.Conflict, "form.stale")
	}
	return nil
}

func seal(key []byte, text string, r *http.Request) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text + "\x00"))
	leaf := Leaf(r)
	if leaf != nil {
		mac.Write(leaf.Raw)
	}
	return mac.Sum(nil)
}
