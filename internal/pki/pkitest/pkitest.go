// Package pkitest gives tests what they need to look at the words of package pki.
//
// It owns no words and no rules. Program code must not import it.
package pkitest

import (
	"testing"

	"inkan/internal/pki"
)

// WantCode checks the code of an error; "" wants no error.
func WantCode(t testing.TB, err error, code string) {
	t.Helper()
	if code == "" && err != nil || code != "" && pki.CodeOf(err) != code {
		t.Errorf("got error %v, want code %q", err, code)
	}
}
