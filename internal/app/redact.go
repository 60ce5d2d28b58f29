package app

import (
	"net/url"
	"regexp"
	"strings"
)

const redacted = "REDACTED"

var pinValue = regexp.MustCompile(`(pin-value=)[^;&?]*`)

// redactURI takes what opens something out of a DSN or a key URI.
func redactURI(text string) string {
	text = pinValue.ReplaceAllString(text, "${1}"+redacted)
	if strings.HasPrefix(text, "pkcs11:") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return redacted // a stray % or blank: what is secret in it cannot be told
	}
	_, has := u.User.Password()
	if has {
		u.User = url.UserPassword(u.User.Username(), redacted)
	}
	q := u.Query()
	for _, key := range []string{"password", "sslpassword"} {
		if q.Has(key) {
			q.Set(key, redacted)
			u.RawQuery = q.Encode()
		}
	}
	return u.String()
}
