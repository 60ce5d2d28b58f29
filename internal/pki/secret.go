package pki

import (
	"encoding/json"
	"log/slog"
)

// Secret is a text that must not reach a log, a page or a JSON document by
// accident: every formatter prints stars. Reveal is the one way out, easy to find
// in a review.
type Secret string

const stars = "***"

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the text from fmt.
func (s Secret) String() string { return stars }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return stars }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(stars) }

// MarshalJSON hides the text from encoding/json.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(stars) }

// MarshalText hides the text from encoders that ask for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(stars), nil }
