package e2e

import (
	"fmt"
	"strings"
	"testing"

	"inkan/internal/testkit"

	"golang.org/x/crypto/ocsp"
)

// owned is a certificate file with its password, as a browser takes it.
type owned struct {
	P12      string `json:"p12"`
	Password string `json:"password"`
	held     held
}

// own makes a certificate and fetches its file.
func (w *world) own(t *testing.T, terminal string) owned {
	t.Helper()
	h := held{Request: w.issue(t, terminal)}
	h.File = testkit.WriteFile(t, t.TempDir(), "own.p12", newVisitor(t, w.Demo, "").download(t, h.Request, w.pin))
	h.unpack(t, w.pin)
	return owned{P12: h.File, Password: w.pin, held: h}
}

// becomes waits until OCSP says of a certificate what it should.
func (w *world) becomes(t *testing.T, h held, want int) {
	t.Helper()
	testkit.Await(t, fmt.Sprintf("OCSP status %d of %s", want, h.Serial), func() bool { return w.ocsp(t, h) == want })
}

// listed waits until the CRL lists a certificate, or no longer does.
func (w *world) listed(t *testing.T, h held, want bool) {
	t.Helper()
	testkit.Await(t, fmt.Sprintf("CRL lists %s: %t", h.Serial, want), func() bool { return w.crl(t).lists(h.number(t)) == want })
}

// revocationByHolder: people revoke on the page by their letter's numbers, impatiently,
// and by the certificate itself; officers lift and approve; everybody's tools see it.
func revocationByHolder(t *testing.T, w *world) {
	chain := bundle(t, t.TempDir(), "chain.pem", w.ClientRoot, w.Issuer)
	h := w.own(t, "失効申請1号機").held
	type shown struct{ Number, First, Reloaded, Back, Stale, Last string }
	walk := func(reason string, more map[string]any) shown {
		t.Helper()
		job := map[string]any{"portal": w.Portal, "requestId": h.RequestID, "referenceId": h.ReferenceID, "reason": reason}
		for k, v := range more {
			job[k] = v
		}
		var s shown
		NewBrowser(t, w.TLSRoot).Run(t, "revoke.mjs", job, &s)
		t.Logf("%+v", s)
		for _, page := range []string{s.First, s.Reloaded, s.Back, s.Stale} { // what they say may be further on
			if !strings.HasPrefix(s.Number, "R-") || !strings.HasPrefix(page, s.Number+" ") {
				t.Errorf("one press is not one receipt: %+v", s)
			}
		}
		return s
	}
	s := walk("keyCompromise", nil)
	w.becomes(t, h, ocsp.Revoked)
	out := w.opensslOCSP(t, h, chain)
	says(t, out, ": revoked")
	says(t, out, "Reason: certificateHold")
	w.listed(t, h, true)

	// One officer alone lifts nothing; two do.
	officer, second := w.Operator(t, "officer"), "officer-2"
	w.Must(t, nil, append([]string{"revocation", "lift", s.Number, "--yes", "--as", officer, "--why", "called back"}, w.proof(t, officer)...)...)
	var seen struct{ ContentHash string }
	w.Must(t, &seen, "revocation", "show", s.Number, "--as", second)
	w.Refused(t, "revocation", "lift", s.Number, "--content", seen.ContentHash, "--as", officer)
	w.Refused(t, "revocation", "reject", s.Number, "--content", seen.ContentHash, "--as", second)
	w.becomes(t, h, ocsp.Revoked)
	var state struct{ Number, State, Certificate string }
	w.Must(t, &state, "revocation", "lift", s.Number, "--content", seen.ContentHash, "--as", second)
	if state.State != "lifted" {
		t.Errorf("after two: %+v", state)
	}
	w.becomes(t, h, ocsp.Good)
	says(t, w.opensslOCSP(t, h, chain), ": good")
	w.listed(t, h, false)

	// Another wish waits for an officer, and the page follows by itself until the CRL has it.
	done := make(chan shown, 1)
	go func() { done <- walk("cessationOfOperation", map[string]any{"until": "公開済み"}) }()
	number := ""
	testkit.Await(t, "case to decide", func() bool {
		var open []struct{ Number, Serial string }
		w.Must(t, &open, "revocation", "list", "--as", officer)
		for _, v := range open {
			if v.Serial == h.Serial {
				number = v.Number
			}
		}
		return number != ""
	})
	w.becomes(t, h, ocsp.Good)
	w.Must(t, nil, "revocation", "approve", number, "--yes", "--as", officer)
	last := <-done
	if last.Last != "失効しました" || last.Number != number {
		t.Errorf("the page ended at %+v", last)
	}
	says(t, w.opensslOCSP(t, h, chain), "Reason: cessationOfOperation")
	w.listed(t, h, true)

	// A lost letter: the certificate itself is the proof, and final at once.
	o := w.own(t, "通知書紛失1号機")
	h = o.held
	s = walk("keyCompromise", map[string]any{"portal": w.PortalAuth, "p12": o.P12, "password": o.Password})
	w.becomes(t, h, ocsp.Revoked)
	says(t, w.opensslOCSP(t, h, chain), "Reason: keyCompromise")
	w.Must(t, &state, "revocation", "show", s.Number, "--as", officer)
	if state.State != "revoked" {
		t.Errorf("by certificate: %+v", state)
	}
	w.listed(t, h, true)
}
