package pki

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that must not reach a log, a page or a JSON document by
// accident: every formatter prints stars. Reveal is the one way out, easy to find
// in a review.
//
// What no method can hide: a Secret in an unexported field of a struct that is
// printed whole (fmt does not call methods there), the verbs %p and %w (vet refuses
// them), and a Secret as the key of a map in JSON.
type Secret string

const stars = "***"

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

// Format hides the text from every verb of fmt. Without it a verb that does not fit a
// text, such as %d, would print the text in its complaint.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, stars) }

// String hides the text from whoever asks for it.
func (s Secret) String() string { return stars }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(stars) }

// MarshalJSON hides the text from encoding/json.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(stars) }

// MarshalText hides the text from encoders that ask for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(stars), nil }
