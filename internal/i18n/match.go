package i18n

import (
	"slices"
	"strconv"
	"strings"
)

// Match picks the language of a page: the person's own choice (cookie) first, then
// the browser's wish, Japanese where neither says anything that we speak. We match
// ourselves: libraries answered English to a French browser.
func Match(acceptLanguage, cookie string) string {
	if slices.Contains(Languages, cookie) {
		return cookie
	}
	best, bestQ := Languages[0], 0.0
	for i, part := range strings.Split(acceptLanguage, ",") {
		if i == 16 { // nobody speaks more; a longer list is somebody's toy
			break
		}
		tag, params, _ := strings.Cut(part, ";")
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		q := quality(params)
		if q > bestQ && slices.Contains(Languages, primary) {
			best, bestQ = primary, q
		}
	}
	return best
}

func quality(params string) float64 {
	value, ok := strings.CutPrefix(strings.TrimSpace(params), "q=")
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(value, 64)
	if err != nil || q < 0 || q > 1 {
		return 0
	}
	return q
}
