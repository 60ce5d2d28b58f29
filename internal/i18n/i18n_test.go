package i18n_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/pki"
)

func TestText(t *testing.T) {
	at := time.Date(2027, 5, 23, 5, 5, 0, 0, time.UTC)
	tests := []struct {
		lang, key string
		args      map[string]any
		want      string
	}{
		{"ja", "error.pickup.slow.title", map[string]any{"Until": at}, "14時05分まで、お待ちください"},
		{"en", "error.pickup.slow.title", map[string]any{"Until": at}, "Please wait until 14:05"},
		{"ja", "lookup", map[string]any{"Lookup": "4821 7736"}, "お電話のときは、お問い合わせ番号 4821 7736 をお伝えください。"},
		{"fr", "must", nil, "必須"},                 // a language we do not speak
		{"ja", "no.such.key", nil, "no.such.key"}, // a hole is not a failure
		{"ja", "lookup", nil, "お電話のときは、お問い合わせ番号 {Lookup} をお伝えください。"},
	}
	for _, tt := range tests {
		got := i18n.Text(tt.lang, tt.key, tt.args)
		if got != tt.want {
			t.Errorf("Text(%s, %s) = %q, want %q", tt.lang, tt.key, got, tt.want)
		}
	}
}

func TestSay(t *testing.T) {
	newYear := time.Date(2026, 12, 31, 15, 0, 0, 0, time.UTC) // already 2027 in Japan
	for _, tt := range []struct{ got, want string }{
		{i18n.Date("ja", newYear), "2027年1月1日"},
		{i18n.Date("en", newYear), "1 January 2027"},
		{i18n.Minute("ja", newYear), "2027年1月1日 0時00分"},
		{i18n.Minute("en", newYear), "1 January 2027, 00:00 (Japan time)"},
		{i18n.Months("ja", 39), "3年3か月"},
		{i18n.Months("en", 39), "3 years 3 months"},
		{i18n.Months("en", 13), "1 year 1 month"},
		{i18n.Months("ja", 0), "0か月"},
		{i18n.Number(1234567), "1,234,567"},
		{i18n.Number(-1234), "-1,234"},
		{i18n.Number(999), "999"},
		{strings.Join(i18n.Groups("202611230000123"), " "), "2026 1123 0000 123"},
		{strings.Join(i18n.Groups("0110119153"), " "), "01 1 0119153"},
		{strings.Join(i18n.Groups("hT7kWm4Qzr"), " "), "hT7kW m4Qzr"},
		{strings.Join(i18n.Groups("48217736"), " "), "4821 7736"},
		{strings.Join(i18n.Groups(""), " "), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("said %q, want %q", tt.got, tt.want)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct{ accept, cookie, want string }{
		{"", "", "ja"},
		{"en-US,en;q=0.9,ja;q=0.8", "", "en"},
		{"ja,en;q=0.9", "", "ja"},
		{"fr-FR,fr;q=0.9", "", "ja"}, // libraries answered English here
		{"fr,en;q=0.5", "", "en"},
		{"en;q=0", "", "ja"},
		{"en;q=2,ja;q=0.1", "", "en"}, // no weight of RFC 9110; nobody sends it
		{"ja", "en", "en"},
		{"en", "ja", "ja"},
		{"en", "de", "en"},
		{strings.Repeat("xx,", 1000) + "en", "", "ja"},
		{"EN", "", "en"},
	}
	for _, tt := range tests {
		got := i18n.Match(tt.accept, tt.cookie)
		if got != tt.want {
			t.Errorf("Match(%.30q, %q) = %s, want %s", tt.accept, tt.cookie, got, tt.want)
		}
	}
}

// What a person typed must never become a link or bold.
func TestRichKeepsArgumentsPlain(t *testing.T) {
	spans := i18n.Rich("ja", "done.validity.value", map[string]any{"From": "**[x]**", "To": "[y]"})
	want := []i18n.Span{{Text: "**[x]** 〜 "}, {Text: "[y]", Bold: true}}
	if !slices.Equal(spans, want) {
		t.Errorf("spans = %v, want %v", spans, want)
	}
}

func TestErrorHidesThePrivateHalf(t *testing.T) {
	text, hint := i18n.Error("ja", pki.E(pki.Gone, "ticket.over").Because(errors.New("row 7")))
	if !strings.Contains(text, "10分間") || !strings.Contains(hint, "やり直してください") {
		t.Errorf("Error(ticket.over) = %q, %q", text, hint)
	}
	text, hint = i18n.Error("ja", pki.E(pki.NotFound, "pickup.wrong_ids"))
	if strings.Contains(text+hint, "**") || !strings.Contains(hint, "いちばん新しいもの") {
		t.Errorf("Error(pickup.wrong_ids) = %q, %q", text, hint)
	}
	_, hint = i18n.Error("ja", pki.E(pki.Conflict, "vault.exists"))
	if hint != "" {
		t.Errorf("advice where there is none: %q", hint)
	}
	text, _ = i18n.Error("en", errors.New("disk /dev/sda on fire"))
	if text != i18n.Text("en", "error.internal", nil) {
		t.Errorf("Error(foreign error) = %q", text)
	}
}

// catalogue reads the files anew, so that the test sees what translators see.
func catalogue(t *testing.T, lang string) map[string]string {
	t.Helper()
	all := map[string]string{}
	files, err := filepath.Glob(filepath.Join("text", lang, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no texts in %s: %v", lang, err)
	}
	line := regexp.MustCompile(`(?m)^\s*("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*"),?$`)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(raw), -1) {
			key, _ := strconv.Unquote(m[1])
			text, err := strconv.Unquote(m[2])
			if err != nil {
				t.Errorf("%s: key %s: %v", file, key, err)
			}
			all[key] = text
		}
	}
	return all
}

var placeholder = regexp.MustCompile(`\{(\w+)`)

func names(text string) []string {
	var out []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestLanguagesHaveTheSameKeys(t *testing.T) {
	ja, en := catalogue(t, "ja"), catalogue(t, "en")
	for key := range ja {
		_, ok := en[key]
		if !ok {
			t.Errorf("%s: no English text", key)
		}
	}
	for key := range en {
		_, ok := ja[key]
		if !ok {
			t.Errorf("%s: no Japanese text", key)
		}
	}
	for key, text := range ja {
		other := en[key]
		if !strings.HasPrefix(key, "span.join") && (strings.TrimSpace(text) == "" || strings.TrimSpace(other) == "") {
			t.Errorf("%s: empty text", key)
		}
		if !slices.Equal(names(text), names(other)) {
			t.Errorf("%s: arguments %v in Japanese, %v in English", key, names(text), names(other))
		}
		if strings.Count(text, "\n") != strings.Count(other, "\n") && !strings.HasPrefix(key, "error.") {
			t.Errorf("%s: %d and %d line breaks", key, strings.Count(text, "\n"), strings.Count(other, "\n"))
		}
		for _, s := range []string{text, other} {
			if strings.Count(s, "**")%2 != 0 || strings.Count(s, "[") != strings.Count(s, "]") {
				t.Errorf("%s: marks are not in pairs: %q", key, s)
			}
		}
	}
}

// TestVoice holds the rules of tone that a machine can check: no exclamation marks, no
// blame, no word that says only that something is wrong.
func TestVoice(t *testing.T) {
	for key, text := range catalogue(t, "ja") {
		for _, word := range []string{"！", "!", "してしまいました", "不正", "無効です", "エラーが"} {
			if strings.Contains(text, word) {
				t.Errorf("%s: %q is not our voice: %q", key, word, text)
			}
		}
	}
	for key, text := range catalogue(t, "en") {
		if strings.Contains(text, "!") {
			t.Errorf("%s: exclamation mark: %q", key, text)
		}
	}
}

// sources gives every Go and HTML file of the tree outside tests.
func sources(t *testing.T, ext string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "node_modules") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if filepath.Ext(path) != ext || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		out[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryUsedKeyHasText(t *testing.T) {
	ja := catalogue(t, "ja")
	inHTML := regexp.MustCompile(`[{( ](?:t|rich|steps) "([^"]+)"`)
	inGo := regexp.MustCompile(`i18n\.(?:Text|Lines|Rich|RichLines)\([\w.()]+, "([^"]+)"[,)]`)
	used := 0
	for ext, pattern := range map[string]*regexp.Regexp{".html": inHTML, ".go": inGo} {
		for file, text := range sources(t, ext) {
			for _, m := range pattern.FindAllStringSubmatch(text, -1) {
				used++
				_, ok := ja[m[1]]
				if !ok {
					t.Errorf("%s: no text for %q", file, m[1])
				}
			}
		}
	}
	if used < 100 {
		t.Errorf("only %d uses found: the scan is blind", used)
	}
}

// TestEveryErrorCodeHasText reads every pki.E(class, "code") of the tree. Codes that are
// put together from a field name are those of pki.checkText.
func TestEveryErrorCodeHasText(t *testing.T) {
	ja := catalogue(t, "ja")
	codes := map[string]string{}
	for file, text := range sources(t, ".go") {
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		if err != nil {
			continue // somebody is writing it
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if ok && makesError(call) {
				code, err := strconv.Unquote(call.Args[1].(*ast.BasicLit).Value)
				if err == nil {
					codes[code] = file
				}
			}
			return true
		})
	}
	for _, field := range []string{"terminal", "department"} {
		for _, fault := range []string{"missing", "letters", "long"} {
			codes[field+"."+fault] = "pki.checkText"
		}
	}
	delete(codes, "department.missing") // it may be left empty
	if len(codes) < 30 {
		t.Errorf("only %d codes found: the scan is blind", len(codes))
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		_, ok := ja["error."+code]
		if !ok {
			t.Errorf("%s: no text for error code %q", codes[code], code)
		}
	}
}

func makesError(call *ast.CallExpr) bool {
	name := ""
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
	}
	if name != "E" || len(call.Args) != 2 {
		return false
	}
	literal, ok := call.Args[1].(*ast.BasicLit)
	return ok && literal.Kind == token.STRING
}
