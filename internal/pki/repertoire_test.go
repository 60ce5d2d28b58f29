package pki_test

import (
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"

	"inkan/internal/pki"
)

func accepts(letter string) bool {
	a := good()
	a.TerminalName = "端" + letter + "末"
	return a.Validate(pki.FromSite) == nil
}

// TestRepertoire compares the list of letters with what others encode: every letter of
// Shift_JIS and EUC-JP (JIS X 0208 and 0212) is there, but for those that have no ink of
// their own, and beyond them only the third and fourth level of JIS X 0213.
func TestRepertoire(t *testing.T) {
	encoders := []*encoding.Encoder{japanese.ShiftJIS.NewEncoder(), japanese.EUCJP.NewEncoder()}
	allowed, beyond := 0, 0
	for r := range rune(unicode.MaxRune + 1) {
		if r >= 0xd800 && r < 0xe000 {
			continue
		}
		encoded := false
		for _, e := range encoders {
			_, err := e.String(string(r))
			encoded = encoded || err == nil
		}
		ok := accepts(string(r))
		inkless := unicode.In(r, unicode.C, unicode.M) || unicode.In(r, unicode.Z) && r != ' ' && r != '\u3000'
		if encoded && !inkless && !ok {
			t.Errorf("%U %c is refused", r, r)
		}
		if ok && inkless {
			t.Errorf("%U is accepted", r)
		}
		if ok {
			allowed++
		}
		if ok && !encoded {
			beyond++
		}
	}
	if allowed < 13000 || allowed > 15000 || beyond > 2000 {
		t.Errorf("%d letters, %d of them beyond Shift_JIS and EUC-JP", allowed, beyond)
	}
	if !accepts("𠮟") || !accepts("𡈽") || !accepts("俱") {
		t.Error("JIS X 0213 is not whole")
	}
}

// TestThreatAP8: letters that a reviewer cannot see, or that few printers have, are
// refused in every field of free text; Japanese names as people write them are not.
func TestThreatAP8(t *testing.T) {
	for _, bad := range []string{
		"\u202e", "\u202d", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", // direction
		"\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u180e", "\u034f", // no width
		"\u3164", "\uffa0", "\u115f", "\u2800", // no ink
		"\ufe0f", "\U000e0100", "\U000e0041", // selectors, IVS, tags
		"\u0000", "\t", "\n", "\r\nBcc: a@example.org", "\u0085", "\u2028", "\u00a0", // controls and blanks
		"\ue000", "\ufffd", "\u0378", "\U0010ffff", // private, damaged, unassigned
		"\u0301", "e\u0301\u0302\u0303\u0304", "か\u3099", "\u20dd", // in pieces; the site composes before
		"😀", "ꓐ", "ᏔᎻ", "ℯ", "𝐀", "अ", "ا", "한", "简", "𝟙", // not in Japanese character sets
	} {
		a := good()
		a.TerminalName = "受" + bad + "付"
		if c := code(a.Validate(pki.FromSite)); c != "terminal.letters" {
			t.Errorf("%+q in a terminal's name: %q", bad, c)
		}
		a = good()
		a.Department = "医" + bad + "事"
		if c := code(a.Validate(pki.FromSite)); c != "department.letters" {
			t.Errorf("%+q in a department: %q", bad, c)
		}
	}
	for _, name := range []string{"受付1号機", "ﾚｾﾌﾟﾄ端末", "髙橋医院（本院）2F", "カルテ―A", "カルテ—A", "㈱診療〜1", "№3・会計", "Reception #1 (2F)", "﨑山", "①番", "㊤", "ヶ丘", "々", "德"} {
		a := good()
		a.TerminalName = name
		err := a.Validate(pki.FromSite)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestFormFaults: the site asks for more than an operator does, and says all at once.
func TestFormFaults(t *testing.T) {
	a := pki.Application{Holder: pki.Holder{Kind: pki.Medical, Code: "0110119153"}, TerminalName: "Windows 11", Email: "x", PaymentMethod: 1}
	var got []string
	for _, f := range a.FormFaults() {
		got = append(got, f.Field+" "+f.Err.Code)
	}
	want := "email email.form, department department.missing, phone phone.missing, terminalName terminal.system"
	if strings.Join(got, ", ") != want {
		t.Errorf("faults %v, want %s", got, want)
	}
	for name, system := range map[string]bool{"Windows": true, "ＷＩＮ１０": true, "windows 8.1 Pro": true, "macOS": true, "Linux": true,
		"Windows受付": false, "受付Windows10": false, "WIN-PC01": false, "マック1号機": false} {
		a.TerminalName = name
		found := false
		for _, f := range a.FormFaults() {
			found = found || f.Err.Code == "terminal.system"
		}
		if found != system {
			t.Errorf("%q is a system's name: %t", name, found)
		}
	}
}

func TestComplete(t *testing.T) {
	for _, c := range []struct {
		kind       pki.HolderKind
		prefecture int
		seven      string
		want, code string
	}{
		{pki.Medical, 1, "0119153", "0110119153", ""},
		{pki.Medical, 1, "０１１-9153", "0110119153", ""},
		{pki.Medical, 2, "0119153", "", "holder.code_check"},
		{pki.Dental, 1, "0119153", "", "holder.code_check"},
		{pki.Agent, 1, "0119153", "", "holder.code_digits"},
		{pki.Insurer, 1, "0119153", "", "holder.code_digits"},
		{pki.Medical, 0, "0119153", "", "holder.code_digits"},
		{pki.Medical, 48, "0119153", "", "holder.code_digits"},
		{pki.Medical, 1, "119153", "", "holder.code_digits"},
		{pki.Medical, 1, "011915x", "", "holder.code_digits"},
		{"nobody", 1, "0119153", "", "holder.kind"},
	} {
		h, err := pki.Complete(c.kind, c.prefecture, c.seven)
		if h.Code != c.want || code(err) != c.code {
			t.Errorf("%s %d %s: %q, %v", c.kind, c.prefecture, c.seven, h.Code, err)
		}
	}
}
