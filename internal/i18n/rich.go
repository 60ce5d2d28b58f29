package i18n

import "strings"

// Span is a piece of a sentence with one look.
type Span struct {
	Text string
	Bold bool
	Link bool // the page knows where it leads
}

// Rich gives the words of a key cut at **bold** and [link], so that templates draw
// the marks and no catalogue holds HTML. The marks are read before the arguments are
// put in: what a person typed can never become a mark.
func Rich(lang, key string, args map[string]any) []Span {
	text, ok := lookUp(lang, key)
	if !ok {
		return []Span{{Text: key}}
	}
	return spans(lang, text, args)
}

// RichLines is Rich for a key that holds one sentence or step a line.
func RichLines(lang, key string, args map[string]any) [][]Span {
	text, ok := lookUp(lang, key)
	if !ok {
		return [][]Span{{{Text: key}}}
	}
	var out [][]Span
	for line := range strings.SplitSeq(text, "\n") {
		out = append(out, spans(lang, line, args))
	}
	return out
}

func spans(lang, text string, args map[string]any) []Span {
	var out []Span
	for i, part := range strings.Split(text, "**") {
		bold := i%2 == 1
		for part != "" {
			before, rest, link := strings.Cut(part, "[")
			if before != "" {
				out = append(out, Span{Text: fill(lang, before, args), Bold: bold})
			}
			if !link {
				break
			}
			inside, after, _ := strings.Cut(rest, "]")
			out = append(out, Span{Text: fill(lang, inside, args), Bold: bold, Link: true})
			part = after
		}
	}
	return out
}
