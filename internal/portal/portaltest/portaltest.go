// Package portaltest reads pages of the portal as a program does that fills in their
// forms.
//
// It owns how a page says which form, screen and file it has. It does not own what a page
// says to people. Program code must not import it.
package portaltest

import (
	"html"
	"net/url"
	"regexp"
)

var (
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
	screen = regexp.MustCompile(`画面番号 ([A-Z0-9-]+)`)
	file   = regexp.MustCompile(`href="([^"]+\.p12)"`)
)

// Sealed adds to a form what the hidden fields of its page hold, and gives it.
func Sealed(form url.Values, page string) url.Values {
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

// Seal is the hidden field by which a page knows its own form; "" where the page has no
// form.
func Seal(page string) string { return Sealed(url.Values{}, page).Get("form") }

// Screen is the number of a page that is told on the telephone (画面番号).
func Screen(page string) string { return first(screen, page) }

// File is the path of the PKCS#12 file that a page offers; "" where it offers none.
func File(page string) string { return first(file, page) }

func first(pattern *regexp.Regexp, page string) string {
	m := pattern.FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return m[1]
}
