//go:build cgo

package keystore_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
	"testing"

	"inkan/internal/keystore"
	"inkan/internal/keystore/keystoretest"
	"inkan/internal/pki"
)

// BenchmarkTokenSign is the raw rate of signatures: a key from a file beside one in a
// token, asked by one and by two at once.
func BenchmarkTokenSign(b *testing.B) {
	h := keystoretest.NewHSM(b)
	v, _, _ := newVault(b)
	for _, t := range []pki.KeyType{pki.P256, pki.RSA2048} {
		inToken, _, err := v.MakeTokenKey(h.Place(string(t)), t)
		must(b, err)
		inFile := fileKey(b, v, t)
		for _, home := range []struct {
			name string
			key  crypto.Signer
		}{{"file", inFile}, {"token", inToken}} {
			for _, callers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/c=%d", t, home.name, callers), func(b *testing.B) { sign(b, home.key, callers) })
			}
		}
	}
}

// fileKey makes a key in the vault and opens it as the signer does.
func fileKey(b *testing.B, v *keystore.Vault, t pki.KeyType) crypto.Signer {
	b.Helper()
	var key crypto.Signer
	var err error
	if t == pki.P256 {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	must(b, err)
	must(b, v.AddKey(string(t), key))
	opened, err := v.OpenKey(keystore.Place{URI: keystore.KeyURI(string(t))}, key.Public())
	must(b, err)
	return opened
}

func sign(b *testing.B, key crypto.Signer, callers int) {
	digest := make([]byte, 32)
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for n := c; n < b.N; n += callers {
				_, err := key.Sign(rand.Reader, digest, crypto.SHA256)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
}
