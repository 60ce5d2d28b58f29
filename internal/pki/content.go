package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Content says how one kind of object is written as the text that people approve and that
// audit records bind. The text has a line with the name and version of the form, and then
// one line a field: its name, the length of its value in bytes, the value.
//
//	inkan application 1
//	holder-kind 7:medical
//
// A form is never changed, because hashes of it are stored. A new field gets the next
// version: its Since is that version, and older hashes stay provable by HashAs.
type Content[T any] struct {
	Name    string
	Version int // the present one
	Fields  []ContentField[T]
}

// ContentField is one field of a form.
type ContentField[T any] struct {
	Name  string
	Since int            // version that brought the field
	Value func(T) string // "" where there is none
}

// Text writes an object in a version of the form; false where that version does not
// exist, or has no place for a field that the object has.
func (c Content[T]) Text(v T, version int) (string, bool) {
	if version < 1 || version > c.Version {
		return "", false
	}
	b := make([]byte, 0, 512)
	b = append(b, "inkan "...)
	b = append(b, c.Name...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(version), 10)
	b = append(b, '\n')
	for _, f := range c.Fields {
		value := f.Value(v)
		if f.Since > version {
			if value != "" {
				return "", false
			}
			continue
		}
		b = append(b, f.Name...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(len(value)), 10)
		b = append(b, ':')
		b = append(b, value...)
		b = append(b, '\n')
	}
	return string(b), true
}

// Hash gives the version of the form, a colon, and the SHA-256 of the text in hex.
func (c Content[T]) Hash(v T) string { return c.hash(v, c.Version) }

// HashAs is Hash in the version that another hash names, so that both can be compared. In
// the present version where it names none.
func (c Content[T]) HashAs(v T, other string) string {
	name, _, _ := strings.Cut(other, ":")
	version, err := strconv.Atoi(name)
	if err != nil || strconv.Itoa(version) != name {
		version = c.Version
	}
	hash := c.hash(v, version)
	if hash == "" {
		hash = c.hash(v, c.Version)
	}
	return hash
}

func (c Content[T]) hash(v T, version int) string {
	text, ok := c.Text(v, version)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return strconv.Itoa(version) + ":" + hex.EncodeToString(sum[:])
}

// ContentNumber writes a number as the value of a field: "" for zero.
func ContentNumber(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// ContentTime writes a time as the value of a field: whole µs since 1970, "" for the zero
// time.
func ContentTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMicro(), 10)
}

// ContentBytes writes bytes as the value of a field: their SHA-256 in hex, "" for none.
func ContentBytes(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// ContentList writes texts as the value of a field: each with its length, "" for none.
func ContentList[T ~string](all []T) string {
	var b strings.Builder
	for _, v := range all {
		b.WriteString(strconv.Itoa(len(v)) + ":" + string(v))
	}
	return b.String()
}
