package i18n

import (
	"slices"

	"golang.org/x/text/language"
)

// maxAccept bounds the header that is read, in octets; a longer one is somebody's toy.
const maxAccept = 512

// Match picks the language of a page: the person's own choice (cookie) first, then the
// first of the browser's wishes that we speak, Japanese where there is none. It asks no
// language.Matcher, which gives a reader of French English.
func Match(acceptLanguage, cookie string) string {
	if slices.Contains(Languages, cookie) {
		return cookie
	}
	if len(acceptLanguage) > maxAccept {
		return Languages[0]
	}
	wishes, _, err := language.ParseAcceptLanguage(acceptLanguage) // by weight, the heaviest first
	if err != nil {
		return Languages[0]
	}
	for _, wish := range wishes {
		base, _ := wish.Base()
		if slices.Contains(Languages, base.String()) {
			return base.String()
		}
	}
	return Languages[0]
}
