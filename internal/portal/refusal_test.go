package portal_test

import (
	"errors"
	"fmt"
	"html"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/i18n"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// visit is one try at the download site: from a place of its own, so that tries share no
// budget.
type visit struct {
	*site
	b *browser
}

// refusals are the codes of the agreement with ra: their status, whether the form comes
// back, and how a person comes to each. The real registration authority says them all but
// one: what was rejected never had a letter, so no IDs are right that lead to it.
var refusals = []struct {
	code   string
	status int
	form   bool
	reach  func(v visit) *httptest.ResponseRecorder
}{
	{"pickup.wrong_ids", 404, true, func(v visit) *httptest.ResponseRecorder { return v.b.post(typedFor(v.letter, wrongReference)) }},
	{"pickup.ids_form", 422, true, func(v visit) *httptest.ResponseRecorder { return v.b.post(typedFor(v.letter, "short")) }},
	{"pickup.slow", 429, true, func(v visit) *httptest.ResponseRecorder {
		for range 10 {
			v.b.post(typedFor(v.letter, wrongReference))
		}
		return v.b.post(v.typed())
	}},
	{"pickup.pin_form", 422, true, func(v visit) *httptest.ResponseRecorder { return v.b.post(v.typedPIN("12", "12")) }},
	{"pickup.pin_differs", 422, true, func(v visit) *httptest.ResponseRecorder { return v.b.post(v.typedPIN(pin, "1111")) }},
	{"pickup.busy", 503, true, func(v visit) *httptest.ResponseRecorder { return v.breaking("CheckReference", errors.New("PRIVATE")) }},
	{"pickup.not_issued", 409, false, func(v visit) *httptest.ResponseRecorder { return v.b.post(v.unsigned()) }},
	{"pickup.not_dispatched", 409, false, func(v visit) *httptest.ResponseRecorder {
		r := v.Issued(catest.Application(1))
		return v.b.post(typedFor(r, v.Reference(r.ID)))
	}},
	{"pickup.cancelled", 410, false, func(v visit) *httptest.ResponseRecorder {
		return v.b.post(v.after(func(r pki.Request) error {
			_, err := v.RA.Cancel(v.T.Context(), catest.Intake, r.ID, "twice")
			return err
		}))
	}},
	{"pickup.rejected", 410, false, func(v visit) *httptest.ResponseRecorder {
		v.office.refusal = pki.E(pki.Gone, "pickup.rejected").Because(errors.New("PRIVATE"))
		defer func() { v.office.refusal = nil }()
		return v.b.post(v.typed())
	}},
	{"pickup.revoked", 410, false, func(v visit) *httptest.ResponseRecorder { return v.b.post(v.after(v.revokedFor(pki.KeyCompromise))) }},
	{"pickup.suspended", 410, false, func(v visit) *httptest.ResponseRecorder { return v.b.post(v.after(v.revokedFor(pki.CertificateHold))) }},
	{"pickup.key_destroyed", 410, false, func(v visit) *httptest.ResponseRecorder {
		r, ref := v.sent(1)
		done := v.b.ticketFor(typedFor(r, ref))
		v.b.get(done + "/" + r.ID + ".p12")
		v.b.do("POST", done+"/end", url.Values{"kept": {"yes"}})
		return v.b.post(typedFor(r, ref))
	}},
	{"pickup.csr", 422, false, func(v visit) *httptest.ResponseRecorder {
		a := catest.Application(1)
		a.CSR = v.CSR(pki.P256)
		r := v.Issued(a)
		ref := v.Reference(r.ID)
		v.Dispatch(r.ID)
		return v.b.post(typedFor(r, ref))
	}},
	{"ticket.unknown", 404, false, func(v visit) *httptest.ResponseRecorder { return v.b.get("/p/rcd/t/VElDS0VUQ0FOQVJZ") }},
	{"ticket.foreign", 403, false, func(v visit) *httptest.ResponseRecorder { return v.b.get(v.site.browser().ticketFor(v.typed())) }},
	{"ticket.over", 410, false, func(v visit) *httptest.ResponseRecorder {
		done := v.b.ticketFor(v.typed())
		v.Advance(11 * time.Minute)
		return v.b.get(done)
	}},
	{"internal", 500, false, func(v visit) *httptest.ResponseRecorder { return v.breaking("OpenHeld", errors.New("PRIVATE")) }},
	{"signer.away", 503, false, func(v visit) *httptest.ResponseRecorder { // words for operators only: this site says "internal"
		return v.breaking("OpenHeld", pki.E(pki.Busy, "signer.away").Because(errors.New("PRIVATE")))
	}},
	// These two let months pass, so they come last.
	{"pickup.deadline", 410, false, func(v visit) *httptest.ResponseRecorder {
		form := v.after(func(r pki.Request) error { v.Set(r.Downloads.Add(time.Second)); return nil })
		return v.b.post(form)
	}},
	{"pickup.expired", 410, false, func(v visit) *httptest.ResponseRecorder {
		form := v.after(func(r pki.Request) error { v.Set(v.Leaf(r.Serial).NotAfter.Add(time.Second)); return nil })
		return v.b.post(form)
	}},
}

func (v visit) typedPIN(pin, again string) url.Values {
	form := v.typed()
	form.Set("password", pin)
	form.Set("passwordConfirm", again)
	return form
}

// breaking lets the next call of the signer fail.
func (v visit) breaking(method string, err error) *httptest.ResponseRecorder {
	v.Signer.Once(method, catest.Before, func() error { return err })
	return v.b.post(v.typed())
}

// after gives what the holder of a letter types of whose request something became.
func (v visit) after(becomes func(r pki.Request) error) url.Values {
	r, ref := v.sent(1)
	catest.Must(v.T, becomes(r))
	v.Advance(time.Second)
	return typedFor(r, ref)
}

func (v visit) revokedFor(reason pki.Reason) func(pki.Request) error {
	return func(r pki.Request) error {
		_, err := v.RA.Revoke(v.T.Context(), catest.Officer, r.Serial, reason, "")
		return err
	}
}

// unsigned gives what would open a request whose certificate is not signed yet.
func (v visit) unsigned() url.Values {
	v.Signer.Once("SignIntents", catest.Before, func() error { return pki.E(pki.Busy, "signer.away") })
	r := v.Submit(catest.Application(1))
	_, err := v.RA.Approve(v.T.Context(), catest.Approver, r.ID, r.ContentHash)
	catest.Must(v.T, err)
	var reference store.Reference
	v.View(func(tx *store.Tx) error {
		reference, err = tx.Reference(r.ID)
		return err
	})
	ref, err := v.Signer.OpenReference(v.T.Context(), r.ID, reference.Sealed)
	catest.Must(v.T, err)
	return typedFor(r, ref)
}

func TestEveryRefusalHasItsWords(t *testing.T) {
	s := openLetter(t)
	tries, screens := 0, map[string]string{}
	for _, tt := range refusals {
		for _, lang := range i18n.Languages {
			t.Run(tt.code+"/"+lang, func(t *testing.T) {
				tries++
				b := s.browser()
				b.lang, b.from = lang, fmt.Sprintf("198.51.100.%d", tries)
				b.get("/p/rcd")
				w := tt.reach(visit{s, b})
				page := w.Body.String()
				code := tt.code
				if code == "signer.away" {
					code = "internal"
				}
				args := map[string]any{}
				switch code {
				case "pickup.slow": // the next try comes back in 30 seconds; said is the whole minute after
					args["Until"] = s.Now().Add(30*time.Second + time.Minute - 1).Truncate(time.Minute)
				case "pickup.deadline":
					args["Deadline"] = s.Now().Add(-2 * time.Second)
				}
				if w.Code != tt.status {
					t.Errorf("status %d, want %d", w.Code, tt.status)
				}
				wants := []string{i18n.Text(lang, "error."+code+".title", args), i18n.Text(lang, "three.what", nil), i18n.Text(lang, "three.do", nil),
					"0570-123-456", "tel:0570123456", `<span class="code">` + s.lookup() + `</span>`, `autofocus`}
				for _, part := range []string{"", ".not", ".hint"} {
					for _, line := range i18n.RichLines(lang, "error."+code+part, args) {
						for _, span := range line {
							wants = append(wants, html.EscapeString(span.Text))
						}
					}
				}
				for _, want := range wants {
					if !strings.Contains(page, want) {
						t.Errorf("the page does not hold %q", want)
					}
				}
				if holds(strings.ReplaceAll(page, s.lookup(), ""), pin) {
					t.Error("the page holds the PIN")
				}
				for _, never := range []string{"PRIVATE", "error." + code, "{", "}", "%!"} {
					if strings.Contains(page, never) {
						t.Errorf("the page holds %q", never)
					}
				}
				if strings.Contains(page, "<form") != tt.form {
					t.Errorf("form = %t, want %t", !tt.form, tt.form)
				}
				typed := slices.ContainsFunc([]string{s.ref.Reveal(), wrongReference, "short"}, func(ref string) bool { return strings.Contains(page, `value="`+ref+`"`) })
				if tt.form && (!strings.Contains(page, `value="`+s.letter.ID+`"`) || !typed) {
					t.Error("the typed IDs are lost")
				}
				if lang == "ja" && code == tt.code {
					_, screen, _ := strings.Cut(page, "画面番号 ")
					screen, _, _ = strings.Cut(screen, "（")
					other, taken := screens[screen]
					if taken {
						t.Errorf("screen %s is also that of %s", screen, other)
					}
					screens[screen] = tt.code
				}
			})
		}
	}
}
