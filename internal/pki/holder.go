package pki

import (
	"fmt"
	"strings"
)

// HolderKind is the kind of an institution (利用者種別). It decides the scheme of
// the code and one OU of the subject.
type HolderKind string

// The kinds that are known today. History of the service shows that kinds are
// added, so everything about a kind is a row of kinds below.
const (
	Medical  HolderKind = "medical"  // 医科
	Dental   HolderKind = "dental"   // 歯科
	Pharmacy HolderKind = "pharmacy" // 薬局
	Visiting HolderKind = "visiting" // 訪問看護
	Insurer  HolderKind = "insurer"  // 医療保険者等
	Checkup  HolderKind = "checkup"  // 特定健診・保健指導 実施機関
	Agent    HolderKind = "agent"    // 請求事務代行者
	Vendor   HolderKind = "vendor"   // システムベンダ
)

// KindInfo says what follows from a kind.
type KindInfo struct {
	Kind   HolderKind
	OU     string // the kind's OU in the subject DN
	Digits int    // length of the code; all schemes end in a Luhn check digit
	Table  byte   // 点数表番号, third digit of a ten-digit code; 0 where any is allowed
}

var kinds = []KindInfo{
	{Medical, "medical", 10, '1'},
	{Dental, "dental", 10, '3'},
	{Pharmacy, "pharmacy", 10, '4'},
	{Visiting, "visiting", 10, '6'},
	{Insurer, "insurer", 8, 0},
	{Checkup, "checkup", 10, 0},
	{Agent, "agent", 10, 0},
	{Vendor, "vendor", 10, 0},
}

// Kinds lists every kind in the order of screens.
func Kinds() []KindInfo { return append([]KindInfo(nil), kinds...) }

// Info gives the row of the kind.
func (k HolderKind) Info() (KindInfo, bool) {
	for _, info := range kinds {
		if info.Kind == k {
			return info, true
		}
	}
	return KindInfo{}, false
}

// prefectures are the romaji names of JIS X 0401, index = number.
var prefectures = []string{
	"", "hokkaido", "aomori", "iwate", "miyagi", "akita", "yamagata", "fukushima",
	"ibaraki", "tochigi", "gunma", "saitama", "chiba", "tokyo", "kanagawa",
	"niigata", "toyama", "ishikawa", "fukui", "yamanashi", "nagano", "gifu",
	"shizuoka", "aichi", "mie", "shiga", "kyoto", "osaka", "hyogo", "nara",
	"wakayama", "tottori", "shimane", "okayama", "hiroshima", "yamaguchi",
	"tokushima", "kagawa", "ehime", "kochi", "fukuoka", "saga", "nagasaki",
	"kumamoto", "oita", "miyazaki", "kagoshima", "okinawa",
}

// Holder names an institution: its kind and code. (Kind, Code) is unique.
type Holder struct {
	Kind HolderKind
	Code string // 医療機関コード (10 digits) or 保険者番号 (8 digits)
}

// ParseHolder checks a code against the scheme of its kind: length, digits,
// prefecture, 点数表番号 and the Luhn check digit. The manual's 0110119153 is a
// medical institution in Hokkaido. Errors are *Error of class Invalid:
// holder.kind, holder.code_short (seven digits typed, with the digits to add),
// holder.code_digits, holder.code_prefecture, holder.code_kind, holder.code_check.
func ParseHolder(kind HolderKind, code string) (Holder, error) {
	info, ok := kind.Info()
	if !ok {
		return Holder{}, E(Invalid, "holder.kind").With("Kind", string(kind))
	}
	code = NarrowDigits(code)
	if len(code) == 7 && info.Digits == 10 && allDigits(code) {
		return Holder{}, E(Invalid, "holder.code_short").With("Code", code)
	}
	if len(code) == 6 && kind == Insurer && allDigits(code) {
		code = "00" + code // municipal insurers write six digits; 法別 00 is meant
	}
	if len(code) != info.Digits || !allDigits(code) {
		return Holder{}, E(Invalid, "holder.code_digits").With("Digits", info.Digits)
	}
	h := Holder{Kind: kind, Code: code}
	if h.Prefecture() == "" {
		return Holder{}, E(Invalid, "holder.code_prefecture").With("Code", code)
	}
	if info.Table != 0 && code[2] != info.Table {
		return Holder{}, E(Invalid, "holder.code_kind").With("Code", code)
	}
	if !luhn(code) {
		return Holder{}, E(Invalid, "holder.code_check").With("Code", code)
	}
	return h, nil
}

// Complete makes the ten digits of a code from the seven that institutions know by heart
// and the number of their prefecture. The kind gives the digit between; where a kind has
// none of its own, the error is holder.code_digits.
func Complete(kind HolderKind, prefecture int, seven string) (Holder, error) {
	info, ok := kind.Info()
	if !ok {
		return Holder{}, E(Invalid, "holder.kind").With("Kind", string(kind))
	}
	seven = NarrowDigits(seven)
	if info.Table == 0 || len(seven) != 7 || prefecture < 1 || prefecture >= len(prefectures) {
		return Holder{}, E(Invalid, "holder.code_digits").With("Digits", info.Digits)
	}
	return ParseHolder(kind, fmt.Sprintf("%02d%c%s", prefecture, info.Table, seven))
}

// Prefecture gives the romaji name of the prefecture in the code, or "".
func (h Holder) Prefecture() string {
	at := 0
	if h.Kind == Insurer {
		at = 2
	}
	if len(h.Code) < at+2 {
		return ""
	}
	n := int(h.Code[at]-'0')*10 + int(h.Code[at+1]-'0')
	if n < 1 || n >= len(prefectures) {
		return ""
	}
	return prefectures[n]
}

// Prefectures lists the romaji names, index 0 is 01 hokkaido.
func Prefectures() []string { return append([]string(nil), prefectures[1:]...) }

// CheckDigit gives the Luhn check digit for a code without its last digit.
func CheckDigit(body string) byte {
	for d := byte('0'); d <= '9'; d++ {
		if luhn(body + string(d)) {
			return d
		}
	}
	return 0
}

func luhn(code string) bool {
	sum := 0
	for i := range len(code) {
		d := int(code[len(code)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
			if d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// NarrowDigits folds what people type into digit fields: full-width digits become
// ASCII; spaces and hyphens of every kind are dropped.
func NarrowDigits(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '０' && r <= '９':
			return r - '０' + '0'
		case strings.ContainsRune(" \t\u00a0\u3000-‐‑‒–—―−ーｰ－", r):
			return -1
		}
		return r
	}, s)
}
