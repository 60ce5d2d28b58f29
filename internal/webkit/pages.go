package webkit

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"inkan/internal/i18n"
)

// Pages is a page set: a layout, partials and pages, parsed at start once for every
// language, so that a template with a mistake stops the start and not a person.
type Pages struct {
	sets map[string]map[string]*template.Template // language → page
}

// ParsePages reads layout.html, the partials _*.html and the pages *.html of a folder.
// In a template, words come from functions bound to the language:
//
//	t "key" "Name" value …       plain words
//	rich "key" "Name" value …    words with **bold** and [link], for {{template "rich"}}
//	steps "key" …                one rich line a step
//	date, clock, minute, months, groups, list
func ParsePages(fsys fs.FS, assets *Assets) (*Pages, error) {
	names, err := fs.Glob(fsys, "*.html")
	if err != nil {
		return nil, fmt.Errorf("list pages: %w", err)
	}
	p := &Pages{sets: map[string]map[string]*template.Template{}}
	for _, lang := range i18n.Languages {
		p.sets[lang] = map[string]*template.Template{}
		shared, err := template.New("layout.html").Option("missingkey=error").Funcs(words(lang, assets)).
			ParseFS(fsys, "layout.html", "_*.html")
		if err != nil {
			return nil, fmt.Errorf("parse layout: %w", err)
		}
		for _, name := range names {
			page := strings.TrimSuffix(path.Base(name), ".html")
			if page == "layout" || strings.HasPrefix(page, "_") {
				continue
			}
			set, err := shared.Clone() // sooner done than parsing it again
			if err == nil {
				set, err = set.ParseFS(fsys, name)
			}
			if err != nil {
				return nil, fmt.Errorf("parse page %s: %w", page, err)
			}
			p.sets[lang][page] = set
		}
	}
	return p, nil
}

// Render draws a page to memory. Nothing is written before it is whole.
func (p *Pages) Render(lang, page string, data any) ([]byte, error) {
	set, ok := p.sets[lang][page]
	if !ok {
		return nil, fmt.Errorf("render page %s: no such page in %s", page, lang)
	}
	var out bytes.Buffer
	err := set.Execute(&out, data)
	if err != nil {
		return nil, fmt.Errorf("render page %s: %w", page, err)
	}
	return out.Bytes(), nil
}

// WriteHTML sends a drawn page.
func WriteHTML(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the other end went away: nothing to do
}

// rich is what the partial "rich" draws.
type rich struct {
	Spans []i18n.Span
	Href  any
}

func words(lang string, assets *Assets) template.FuncMap {
	return template.FuncMap{
		"lang":  func() string { return lang },
		"asset": assets.URL,
		"t": func(key string, args ...any) (string, error) {
			named, err := pairs(args)
			return i18n.Text(lang, key, named), err
		},
		"has": i18n.Has,
		"rich": func(key string, args ...any) (rich, error) {
			named, err := pairs(args)
			return rich{Spans: i18n.Rich(lang, key, named), Href: named["Href"]}, err
		},
		"steps": func(key string, args ...any) ([]rich, error) {
			named, err := pairs(args)
			var out []rich
			for _, line := range i18n.RichLines(lang, key, named) {
				out = append(out, rich{Spans: line, Href: named["Href"]})
			}
			return out, err
		},
		"date":   func(t time.Time) string { return i18n.Date(lang, t) },
		"clock":  func(t time.Time) string { return i18n.Clock(lang, t) },
		"minute": func(t time.Time) string { return i18n.Minute(lang, t) },
		"months": func(n int) string { return i18n.Months(lang, n) },
		"groups": i18n.Groups,
		"list":   func(keys ...string) []string { return keys },
	}
}

// pairs reads "Name", value, "Name", value; one map stands for itself.
func pairs(args []any) (map[string]any, error) {
	named := map[string]any{}
	for len(args) > 0 {
		given, ok := args[0].(map[string]any)
		if ok {
			for k, v := range given {
				named[k] = v
			}
			args = args[1:]
			continue
		}
		name, ok := args[0].(string)
		if !ok || len(args) < 2 {
			return nil, fmt.Errorf("words: want a name and a value, have %d arguments", len(args))
		}
		named[name] = args[1]
		args = args[2:]
	}
	return named, nil
}
