package keystore_test

import (
	"context"
	"strings"
	"testing"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

func TestThreatDL5Verifier(t *testing.T) {
	v, dir, pass := newVault(t)
	const ref = pki.Secret("Abcdefghj2")
	made, err := v.NewVerifier(t.Context(), requestA, ref)
	must(t, err)
	if made.Gate >= 1<<20 || len(made.Salt) != 16 || len(made.Tag) != 32 {
		t.Fatalf("verifier %+v", made)
	}
	kid, err := v.RotateIDKey(pass)
	must(t, err)
	if kid == made.KID {
		t.Fatal("the kid did not change")
	}
	newer, err := v.NewVerifier(t.Context(), requestA, ref)
	must(t, err)
	if newer.KID != kid {
		t.Errorf("made under %s, want %s", newer.KID, kid)
	}
	again, err := keystore.OpenVault(dir, pass)
	must(t, err)
	stranger, _, _ := newVault(t)

	spoilt := func(f func(*keystore.Verifier)) keystore.Verifier {
		out := made
		f(&out)
		return out
	}
	tests := []struct {
		name    string
		vault   *keystore.Vault
		request string
		ref     pki.Secret
		v       keystore.Verifier
		want    bool
	}{
		{"right", v, requestA, ref, made, true},
		{"right, key rotated, reopened", again, requestA, ref, made, true},
		{"right, newer key", again, requestA, ref, newer, true},
		{"wrong", v, requestA, "Abcdefghj3", made, false},
		{"case", v, requestA, "abcdefghj2", made, false},
		{"empty", v, requestA, "", made, false},
		{"very long", v, requestA, pki.Secret(strings.Repeat("a", 1<<20)), made, false},
		{"another request", v, requestB, ref, made, false},
		{"dummy row", v, requestA, ref, keystore.Verifier{}, false},
		{"another vault", stranger, requestA, ref, made, false},
		{"newer kid on an old verifier", v, requestA, ref, spoilt(func(w *keystore.Verifier) { w.KID = kid }), false},
		{"gate altered", v, requestA, ref, spoilt(func(w *keystore.Verifier) { w.Gate ^= 1 }), false},
		{"tag cut", v, requestA, ref, spoilt(func(w *keystore.Verifier) { w.Tag = w.Tag[:31] }), false},
		{"tag empty", v, requestA, ref, spoilt(func(w *keystore.Verifier) { w.Tag = nil }), false},
		{"tag of another key", v, requestA, ref, spoilt(func(w *keystore.Verifier) { w.Tag = newer.Tag }), false},
	}
	for _, tt := range tests {
		got, err := tt.vault.CheckReference(t.Context(), tt.request, tt.ref, tt.v)
		must(t, err)
		if got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	// A broken row is an error, not an answer.
	_, err = v.CheckReference(t.Context(), requestA, ref, spoilt(func(w *keystore.Verifier) { w.KID = "99" }))
	wantCode(t, err, "reference.kid")
	_, err = v.CheckReference(t.Context(), requestA, ref, spoilt(func(w *keystore.Verifier) { w.Salt = nil }))
	wantCode(t, err, "reference.verifier")

	_, err = v.RotateIDKey(pass + "x")
	wantCode(t, err, "vault.passphrase")
}

// The gate keeps wrong guesses away from the slow part: with every Argon2id place
// refused, a wrong guess is still answered.
func TestThreatDL5GateIsFast(t *testing.T) {
	v, _, _ := newVault(t)
	made, err := v.NewVerifier(t.Context(), requestA, "Abcdefghj2")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wrong := 0
	for range 1000 {
		ok, err := v.CheckReference(ctx, requestA, pki.NewReferenceID(), made)
		if err == nil && !ok {
			wrong++
		}
	}
	if wrong < 998 {
		t.Errorf("%d of 1000 wrong guesses were answered at the gate", wrong)
	}
}

func BenchmarkCheckReference(b *testing.B) {
	v, _, _ := newVault(b)
	made, err := v.NewVerifier(b.Context(), requestA, "Abcdefghj2")
	must(b, err)
	for b.Loop() {
		_, err := v.CheckReference(b.Context(), requestA, "Abcdefghj2", made)
		must(b, err)
	}
}
