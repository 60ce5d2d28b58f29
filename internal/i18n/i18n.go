// Package i18n owns every word that a person reads, in Japanese (complete, first)
// and English (complete), and the way in which times, numbers and languages are
// spoken. It does not own business: it is given keys and arguments.
//
// The catalogues are the files text/<language>/<area>.json, one flat object each,
// key → text. Every key stands in both languages; a test compares them with each
// other and with the source tree. A text may hold
//
//	{Name}           an argument as it is
//	{Name|date}      2027年5月23日 / 23 May 2027
//	{Name|clock}     14時05分 / 14:05
//	{Name|minute}    both
//	{Name|number}    12,345
//	{Name|id}        a request ID, code or fingerprint in its groups
//	**bold** [link]  for Rich, see there
//
// The text of an error code is "error."+code; ".title" is its heading, ".not" says
// what did not happen, ".hint" says what to do, one step a line.
package i18n

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"inkan/internal/pki"
)

//go:embed text
var texts embed.FS

// Languages lists what we speak; the first is the default.
var Languages = []string{"ja", "en"}

// catalogues are read once, for the first word that is said: the signer has none to say.
// A damaged file is a programming error.
var catalogues = sync.OnceValue(func() map[string]map[string]string {
	all, err := load(texts)
	if err != nil {
		panic("i18n: " + err.Error())
	}
	return all
})

func load(fsys fs.FS) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for _, lang := range Languages {
		all[lang] = map[string]string{}
		files, err := fs.Glob(fsys, path.Join("text", lang, "*.json"))
		if err != nil {
			return nil, fmt.Errorf("list texts: %w", err)
		}
		for _, name := range files {
			err = loadFile(fsys, name, all[lang])
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
		}
	}
	return all, nil
}

// loadFile refuses a key that stands twice, in one file or in two: the later one
// would win silently.
func loadFile(fsys fs.FS, name string, into map[string]string) error {
	file, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	dec := json.NewDecoder(file)
	_, err = dec.Token() // {
	if err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var text string
		err = dec.Decode(&text)
		if err != nil {
			return fmt.Errorf("key %v: %w", key, err)
		}
		_, double := into[key.(string)]
		if double {
			return fmt.Errorf("key %v stands twice", key)
		}
		into[key.(string)] = text
	}
	return nil
}

// Text gives the words of a key. A key that is unknown in the language is looked up
// in Japanese, and one that is unknown there is answered as it is, so that a page
// with a hole is still a page. A test sees to it that there is none.
func Text(lang, key string, args map[string]any) string {
	text, ok := lookUp(lang, key)
	if !ok {
		return key
	}
	return fill(lang, text, args)
}

// Has says whether the catalogues know the key.
func Has(key string) bool {
	_, ok := lookUp(Languages[0], key)
	return ok
}

func lookUp(lang, key string) (string, bool) {
	text, ok := catalogues()[lang][key]
	if !ok {
		text, ok = catalogues()[Languages[0]][key]
	}
	return text, ok
}

// Error gives the public words of any error for a command line or an API: what
// happened, and what to do ("" where there is no advice). The private half stays out.
func Error(lang string, err error) (text, hint string) {
	code := pki.CodeOf(err)
	args := ArgsOf(err)
	if !Has("error." + code) {
		code, args = "internal", nil
	}
	text = plain(lang, "error."+code, args)
	if Has("error." + code + ".hint") {
		hint = plain(lang, "error."+code+".hint", args)
	}
	return text, hint
}

// plain is Text without the marks of Rich.
func plain(lang, key string, args map[string]any) string {
	var out strings.Builder
	for _, span := range Rich(lang, key, args) {
		out.WriteString(span.Text)
	}
	return out.String()
}

// fill puts arguments into {Name} and {Name|form}. An argument that was not given
// leaves its name standing, which the tests of pages look for.
func fill(lang, text string, args map[string]any) string {
	var out strings.Builder
	for {
		before, rest, open := strings.Cut(text, "{")
		out.WriteString(before)
		if !open {
			return out.String()
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			out.WriteString("{" + rest)
			return out.String()
		}
		name, form, _ := strings.Cut(inside, "|")
		value, given := args[name]
		if given {
			out.WriteString(say(lang, form, value))
		} else {
			out.WriteString("{" + inside + "}")
		}
		text = after
	}
}

func say(lang, form string, value any) string {
	t, isTime := value.(time.Time)
	if isTime && form == "" {
		form = "date"
	}
	switch {
	case isTime && form == "date":
		return Date(lang, t)
	case isTime && form == "clock":
		return Clock(lang, t)
	case isTime && form == "minute":
		return Minute(lang, t)
	case form == "number":
		return Number(value)
	case form == "id":
		return strings.Join(Groups(fmt.Sprint(value)), " ")
	}
	return fmt.Sprint(value)
}
