package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// hostile is what an attacker would like a log, or the terminal of whoever reads it, to
// take for something else.
var hostile = []string{
	"two\nlines", "return\rover", "tab\there", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "null\x00byte", "delete\x7f", "C1 \u009b2J and \u0085",
	"bidi \u202e drow \u202c", "isolate \u2066x\u2069", "mark \u200f\u200e\u061c", "line \u2028 paragraph \u2029", "zero\u200bwidth\u200d\ufeff",
	"soft\u00adhyphen", "tag \U000e0041\U000e007f", "music \U0001d173", `"},{"level":"ERROR","msg":"forged`, "{\"a\":1}\n{\"b\":2}\n", "日本語 髙﨑 𠮷 ①",
}

// TestThreatAU5 logs hostile values in every way in which a value can come in, through
// both handlers: one event is one line, and the line does nothing to a terminal. As JSON
// it still says exactly what was logged.
func TestThreatAU5Logs(t *testing.T) {
	type inside struct{ Field string }
	for _, text := range hostile {
		var out bytes.Buffer
		newLog(&out, slog.LevelInfo).With("with", text).WithGroup("group").Info(text, "string", text, "error", errors.New(text),
			"list", []string{text}, "struct", inside{text}, slog.Group("inner", text, text))
		line := plainLine(t, "JSON", text, out.String())
		var record struct {
			Msg, With string
			Group     struct {
				String, Error string
				List          []string
				Struct        inside
				Inner         map[string]string
			}
		}
		err := json.Unmarshal([]byte(line), &record)
		g := record.Group
		if err != nil || record.Msg != text || record.With != text || g.String != text || g.Error != text || g.List[0] != text || g.Struct.Field != text || g.Inner[text] != text {
			t.Errorf("%q is logged as %s: %v", text, line, err)
		}

		out.Reset()
		slog.New(slog.NewTextHandler(inert{&out}, nil)).Info(text, "string", text, "list", []string{text}, text, text)
		plainLine(t, "text", text, out.String())
	}
}

func plainLine(t *testing.T, handler, text, out string) string {
	t.Helper()
	line, rest, ok := strings.Cut(out, "\n")
	if !ok || rest != "" {
		t.Errorf("%s: %q makes more than one line: %q", handler, text, out)
	}
	for _, r := range line {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			t.Errorf("%s: %q leaves %U in %q", handler, text, r, line)
		}
	}
	return line
}

// Bytes that are no UTF-8 do not get through either.
func TestInertBytes(t *testing.T) {
	var out bytes.Buffer
	n, err := inert{&out}.Write([]byte("a\x9b\xffz\n"))
	if n != 5 || err != nil || out.String() != `a\ufffd\ufffdz`+"\n" {
		t.Errorf("wrote %d, %v: %q", n, err, out.String())
	}
}

func TestLevelOf(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if got := levelOf(newLog(&bytes.Buffer{}, level)); got != level {
			t.Errorf("a log of level %s seems to have %s", level, got)
		}
	}
}
