package app

import (
	"context"
	"io"
	"log/slog"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"inkan/internal/webkit"
)

// newLog is the program's log: one JSON object a line, inert in every terminal.
func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(webkit.Correlate(slog.NewJSONHandler(inert{w}, &slog.HandlerOptions{Level: level})))
}

// inert writes the records of a log handler so that they show what they hold and do
// nothing: what a terminal obeys, a reader cannot see or reads in another order is
// escaped (threat AU5). It looks at what leaves and not at what comes in, so that no
// type of a value goes round it; a handler writes one whole record at a time.
type inert struct{ io.Writer }

func (w inert) Write(record []byte) (int, error) {
	out := make([]byte, 0, len(record))
	for at := 0; at < len(record); {
		r, size := utf8.DecodeRune(record[at:])
		last := at+size == len(record)
		switch {
		case r == '\n' && last, !acts(r):
			out = append(out, record[at:at+size]...)
		default:
			out = escape(out, r)
		}
		at += size
	}
	_, err := w.Writer.Write(out)
	if err != nil {
		return 0, err
	}
	return len(record), nil
}

// acts says whether a rune does something other than being seen.
func acts(r rune) bool {
	return r == utf8.RuneError || r < ' ' || r > '~' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// escape writes a rune as JSON does, which every log handler's readers know, too.
func escape(out []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	units := []rune{r}
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		units = []rune{high, low}
	}
	for _, u := range units {
		out = append(out, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	return out
}

// levelOf gives the level at which a log was made.
func levelOf(log *slog.Logger) slog.Level {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if log.Enabled(context.Background(), level) {
			return level
		}
	}
	return slog.LevelError
}
