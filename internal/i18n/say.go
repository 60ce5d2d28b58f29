package i18n

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"inkan/internal/pki"
)

// Date speaks a day in Japan: 2027年5月23日, 23 May 2027.
func Date(lang string, t time.Time) string {
	j := t.In(pki.JST)
	if lang == "en" {
		return j.Format("2 January 2006")
	}
	return fmt.Sprintf("%d年%d月%d日", j.Year(), j.Month(), j.Day())
}

// Clock speaks a time of day in Japan: 14時05分, 14:05.
func Clock(lang string, t time.Time) string {
	j := t.In(pki.JST)
	if lang == "en" {
		return j.Format("15:04")
	}
	return fmt.Sprintf("%d時%02d分", j.Hour(), j.Minute())
}

// Minute speaks day and time. English names the zone: its reader may sit elsewhere.
func Minute(lang string, t time.Time) string {
	if lang == "en" {
		return Date(lang, t) + ", " + Clock(lang, t) + " (Japan time)"
	}
	return Date(lang, t) + " " + Clock(lang, t)
}

// Months speaks a life in years and months: 3年3か月, 3 years 3 months.
func Months(lang string, months int) string {
	years, rest := months/12, months%12
	var parts []string
	if years > 0 {
		parts = append(parts, Text(lang, count("span.years", years), map[string]any{"N": years}))
	}
	if rest > 0 || years == 0 {
		parts = append(parts, Text(lang, count("span.months", rest), map[string]any{"N": rest}))
	}
	return strings.Join(parts, Text(lang, "span.join", nil))
}

// count picks the form for one; Japanese has the same words in both.
func count(key string, n int) string {
	if n == 1 {
		return key + ".one"
	}
	return key
}

// Number groups the digits of an integer by three.
func Number(value any) string {
	digits := fmt.Sprint(value)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	_, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return sign + digits
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Groups cuts a number into the groups in which people read it aloud: request ID
// 4-4-4-3, institution code 2-1-7, reference ID 5-5, insurer number and look-up code
// 4-4, hashes by eight.
func Groups(s string) []string {
	switch len(s) {
	case 15:
		return cut(s, 4, 4, 4, 3)
	case 10:
		if strings.Trim(s, "0123456789") == "" {
			return cut(s, 2, 1, 7)
		}
		return cut(s, 5, 5)
	case 8:
		return cut(s, 4, 4)
	}
	if len(s) >= 32 {
		var sizes []int
		for range (len(s) + 7) / 8 {
			sizes = append(sizes, 8)
		}
		return cut(s, sizes...)
	}
	return []string{s}
}

func cut(s string, sizes ...int) []string {
	var out []string
	for _, n := range sizes {
		n = min(n, len(s))
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

// ArgsOf gives the public arguments of any error.
func ArgsOf(err error) map[string]any {
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		return nil
	}
	return e.Args
}
