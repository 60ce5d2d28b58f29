package issuance_test

import (
	"testing"

	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// TestEveryProfile: the standard library's encoding and ours agree for every
// profile, key of the CA and key of the subject, and both linters are content.
func TestEveryProfile(t *testing.T) {
	keys := map[pki.KeyType]any{}
	for _, keyType := range pki.KeyTypes() {
		keys[keyType] = newKey(t, keyType).Public()
	}
	for _, caType := range []pki.KeyType{pki.RSA3072, pki.P256, pki.P384} {
		h := newHierarchy(t, caType, config)
		for id, p := range issuance.Profiles(config) {
			for _, keyType := range p.KeyTypes {
				t.Run(string(caType)+"/"+id+"/"+string(keyType), func(t *testing.T) {
					h.issue(t, config, params(t, id, keys[keyType]))
				})
			}
		}
	}
}
