//go:build !cgo

package keystore

import (
	"crypto"

	"inkan/internal/pki"
)

const tokensBuiltIn = false

func openTokenKey(tokenURI, string, crypto.PublicKey, bool) (crypto.Signer, error) {
	return nil, errNoTokens
}

func makeTokenKey(tokenURI, string, pki.KeyType, bool) (crypto.Signer, func() error, error) {
	return nil, nil, errNoTokens
}

// CloseTokens has nothing to close.
func CloseTokens() {}
