package pki_test

import (
	"strings"
	"testing"

	"inkan/internal/pki"
)

// FuzzParseCheckpoint: what parses has one text, which is what was signed.
func FuzzParseCheckpoint(f *testing.F) {
	f.Add(pki.Checkpoint{Origin: "inkan/1", Size: 7}.Text())
	f.Add("a\n01\n\n")
	f.Add("a\n-1\nAAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := pki.ParseCheckpoint(text)
		if err == nil && !strings.HasPrefix(text, c.Text()) {
			t.Fatalf("%q is not what was signed: %q", c.Text(), text)
		}
	})
}

// FuzzTyped: what people type is folded into the form that is printed, once: folding it
// again changes nothing.
func FuzzTyped(f *testing.F) {
	f.Add("202611230000123", "hT7kW-m4Qzr", "7391", "0110119153", "0a:0B")
	f.Add("２０２６１１２３０００００１２３", "ｈＴ７ｋＷｍ４Ｑｚｒ", "７３９１", " 011 ", "zz")
	f.Fuzz(func(t *testing.T, request, reference, pin, code, serial string) {
		if len(request)+len(reference)+len(pin)+len(code)+len(serial) > 4<<10 {
			return
		}
		id, ok := pki.ParseRequestID(request)
		again, twice := pki.ParseRequestID(id)
		if ok && (!twice || again != id || len(id) != 15) {
			t.Fatalf("request ID %q, then %q", id, again)
		}
		ref, ok := pki.ParseReferenceID(reference)
		refAgain, twice := pki.ParseReferenceID(ref.Reveal())
		if ok && (!twice || refAgain != ref || len(ref) != pki.ReferenceIDLength) {
			t.Fatalf("reference ID %q", ref.Reveal())
		}
		_, ok = pki.ParsePIN(pin)
		if ok && len(pin) != 4 {
			t.Fatalf("PIN %q", pin)
		}
		h, err := pki.ParseHolder(pki.Medical, code)
		if err == nil {
			same, err := pki.ParseHolder(h.Kind, h.Code)
			if err != nil || same != h {
				t.Fatalf("holder %+v, then %+v, %v", h, same, err)
			}
		}
		n, err := pki.ParseSerial(serial)
		if err == nil && n.Sign() > 0 {
			same, err := pki.ParseSerial(pki.SerialHex(n))
			if err != nil || same.Cmp(n) != 0 {
				t.Fatalf("serial %q: %v", serial, err)
			}
		}
	})
}
