package pki_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inkan/internal/pki"
)

func TestSecretStaysHidden(t *testing.T) {
	const text = "hT7kWm4Qzr"
	secret := pki.Secret(text)
	type holder struct {
		Secret pki.Secret
		List   []pki.Secret
		Map    map[string]pki.Secret
		Any    any
		Ptr    *pki.Secret
	}
	whole := holder{secret, []pki.Secret{secret}, map[string]pki.Secret{"a": secret}, secret, &secret}
	values := []any{secret, &secret, whole, &whole, []pki.Secret{secret}, [1]pki.Secret{secret}, map[string]pki.Secret{"a": secret}, []any{secret}}
	var out strings.Builder
	for verb := rune('A'); verb <= 'z'; verb++ {
		if strings.ContainsRune("pw", verb) {
			continue // fmt asks nobody there; see Secret
		}
		for _, flags := range []string{"", "+", "#", " ", "-20", "020", ".3"} {
			for _, v := range values {
				fmt.Fprintf(&out, "%"+flags+string(verb)+"\n", v)
			}
		}
	}
	for _, format := range []string{"no verb", "%[5]s", "%*d"} { // fmt complains, with the value
		fmt.Fprintf(&out, format, secret)
	}
	fmt.Fprint(&out, values...)
	fmt.Fprintln(&out, pki.E(pki.Invalid, "x").With("Secret", secret), fmt.Errorf("cause: %v", errors.New(secret.String())))

	var logs bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&logs, nil), slog.NewTextHandler(&logs, nil)} {
		log := slog.New(handler).With("with", secret)
		for _, v := range values {
			log.Info("m", "v", v, slog.Group("g", "v", v))
		}
	}
	out.Write(logs.Bytes())

	for _, v := range values {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(raw)
	}
	err := xml.NewEncoder(&out).Encode(struct {
		XMLName xml.Name   `xml:"a"`
		Attr    pki.Secret `xml:"b,attr"`
		Text    pki.Secret
	}{Attr: secret, Text: secret})
	if err != nil {
		t.Fatal(err)
	}
	err = template.Must(template.New("").Parse(`{{.}}<a b="{{.}}" href="/{{.}}?{{.}}"></a><script>{{.}}</script>`)).Execute(&out, secret)
	if err != nil {
		t.Fatal(err)
	}

	hex := fmt.Sprintf("%x", text)
	for _, leak := range []string{text, text[:3], hex, strings.ToUpper(hex), hex[:6], "104 84 55", "0x68"} {
		i := strings.Index(out.String(), leak)
		if i >= 0 {
			t.Errorf("leaks as %q: …%q…", leak, out.String()[max(0, i-60):min(out.Len(), i+60)])
		}
	}
	if !strings.Contains(out.String(), "***") || secret.Reveal() != text {
		t.Error("nothing was printed, or nothing comes out at all")
	}
}

func TestReferenceID(t *testing.T) {
	id := pki.NewReferenceID()
	if id == pki.NewReferenceID() {
		t.Error("the same ID twice")
	}
	for typed, want := range map[string]string{
		"hT7kWm4Qzr":            "hT7kWm4Qzr",
		"hT7kW m4Qzr":           "hT7kWm4Qzr",
		" hT7kW-m4Qzr\t":        "hT7kWm4Qzr",
		"ｈＴ７ｋＷｍ４Ｑｚｒ":            "hT7kWm4Qzr",
		"hT7kW　m4Qzr":           "hT7kWm4Qzr",
		"hT7kWm4Qz":             "",
		"hT7kWm4Qzrr":           "",
		"hT7kWm4Qz0":            "", // 0 O o 1 l I are not in the alphabet
		"hT7kWm4QzO":            "",
		"hT7kWm4Qzo":            "",
		"hT7kWm4Qz1":            "",
		"hT7kWm4Qzl":            "",
		"hT7kWm4QzI":            "",
		"hT7kWm4Qz\u200br":      "",
		"hT7kWm4Qzé":            "",
		"":                      "",
		"hT7kWm4Qzr\x00":        "",
		strings.Repeat("a", 99): "",
	} {
		got, ok := pki.ParseReferenceID(typed)
		if got.Reveal() != want || ok != (want != "") {
			t.Errorf("ParseReferenceID(%q) = %q, %t", typed, got.Reveal(), ok)
		}
	}
}

// Every letter is drawn about equally often: a modulo without rejection would favour
// the first 32 letters by a quarter.
func TestReferenceIDIsUniform(t *testing.T) {
	count := map[rune]int{}
	const draws = 5600
	for range draws {
		id := pki.NewReferenceID().Reveal()
		if len(id) != pki.ReferenceIDLength {
			t.Fatalf("ID of %d letters", len(id))
		}
		for _, r := range id {
			count[r]++
		}
	}
	if len(count) != len(pki.ReferenceAlphabet) {
		t.Errorf("%d different letters", len(count))
	}
	for r, n := range count {
		if n < 800 || n > 1200 { // expected 1000, standard deviation 31
			t.Errorf("%c was drawn %d times of %d", r, n, draws*pki.ReferenceIDLength)
		}
	}
}

func TestReferenceIDComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringOfN(rapid.SampledFrom([]rune(pki.ReferenceAlphabet)), 10, 10, -1).Draw(t, "id")
		blank := rapid.SampledFrom([]string{"", " ", "-", "　", "－", "\u00a0"}).Draw(t, "blank")
		typed := blank + id[:5] + blank + id[5:] + blank
		if rapid.Bool().Draw(t, "wide") {
			typed = strings.Map(func(r rune) rune {
				if r > ' ' && r <= '~' {
					return r - '!' + '！'
				}
				return r
			}, typed)
		}
		got, ok := pki.ParseReferenceID(typed)
		if !ok || got.Reveal() != id {
			t.Fatalf("%q became %q", typed, got.Reveal())
		}
	})
}

func TestRequestID(t *testing.T) {
	lastSecond := time.Date(2026, 11, 23, 14, 59, 59, 0, time.UTC)
	for _, c := range []struct {
		now  time.Time
		seq  int
		want string
	}{
		{lastSecond, 1, "202611230000001"},
		{lastSecond.Add(time.Second), 1, "202611240000001"}, // midnight in Japan
		{lastSecond, 9_999_999, "202611239999999"},
		{lastSecond, 10_000_000, ""},
		{lastSecond, 0, ""},
		{lastSecond, -1, ""},
	} {
		got, err := pki.NewRequestID(c.now, c.seq)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && pki.ClassOf(err) != pki.Limited {
			t.Errorf("NewRequestID(%s, %d) = %q, %v", c.now, c.seq, got, err)
		}
	}
	for typed, want := range map[string]string{
		"202611230000123":         "202611230000123",
		"2026 1123 0000 123":      "202611230000123",
		"2026-1123-0000-123":      "202611230000123",
		"２０２６１１２３００００１２３":         "202611230000123",
		"202602290000123":         "", // no such day
		"202613010000123":         "",
		"20261123000012":          "",
		"2026112300001234":        "",
		"20261123000012x":         "",
		"202611230000123; DROP":   "",
		"":                        "",
		"202611230000123\u202e":   "",
		"٢٠٢٦١١٢٣٠٠٠٠١٢٣":         "",
		strings.Repeat("2", 9999): "",
	} {
		got, ok := pki.ParseRequestID(typed)
		if ok != (want != "") || ok && got != want {
			t.Errorf("ParseRequestID(%.30q) = %q, %t", typed, got, ok)
		}
	}
}

func TestPIN(t *testing.T) {
	for typed, want := range map[string]bool{"0000": true, "1234": true, "": false, "123": false, "12345": false, "12a4": false,
		"１２３４": false, " 1234": false, "1 23": false, "-123": false, "١٢٣٤": false} {
		_, ok := pki.ParsePIN(typed)
		if ok != want {
			t.Errorf("ParsePIN(%q) = %t", typed, ok)
		}
	}
}

func TestSerial(t *testing.T) {
	for typed, want := range map[string]string{"00ab": "ab", "AB:CD": "abcd", "7f": "7f", "": "", "abc": "", "xy": "", strings.Repeat("ff", 21): "",
		strings.Repeat("ff", 20): strings.Repeat("ff", 20)} {
		n, err := pki.ParseSerial(typed)
		if (err == nil) != (want != "") || err == nil && pki.SerialHex(n) != want {
			t.Errorf("ParseSerial(%.20q) = %v, %v", typed, n, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "raw")
		n := new(big.Int).SetBytes(raw)
		if n.Sign() == 0 {
			return
		}
		back, err := pki.ParseSerial(pki.SerialHex(n))
		if err != nil || back.Cmp(n) != 0 {
			t.Fatalf("%x came back as %x, %v", n, back, err)
		}
	})
}
