package store_test

import (
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// TestContentVectors: what was hashed once keeps its hash. A line is never changed: a form
// that must change gets a new version, and a new line.
func TestContentVectors(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC)
	key := store.SealedKey{ID: "k1", KeyType: pki.P256, SPKI: []byte{1, 2}, SPKISHA256: "0a", Request: "202611230000011", MadeAt: at}
	reference := store.Reference{KID: "id-1", Salt: []byte{1}, Gate: 7, Tag: []byte{2}, Epoch: "2026-11"}
	for _, v := range []struct{ name, got, want string }{
		{"key", key.Origin(), "1:b00a84d953825d2503d17530bb074fd945eff63c462b2d015350d0baadf506bb"},
		{"reference", reference.Content(), "1:b3d6c67654fcd09d9bac65875ef2d31c21a1dfa07db23bb3d4dfba8a8819772c"},
	} {
		if v.got != v.want {
			t.Errorf("%s: %s, want %s", v.name, v.got, v.want)
		}
	}
}
