//go:build !cgo

package keystore

import (
	"crypto"

	"inkan/internal/pki"
)

const tokensBuiltIn = false

func openTokenKey(*Vault, tokenURI, string, crypto.PublicKey) (crypto.Signer, error) {
	return nil, errNoTokens
}

func makeTokenKey(*Vault, tokenURI, string, pki.KeyType) (crypto.Signer, func() error, error) {
	return nil, nil, errNoTokens
}

// CloseTokens has nothing to close.
func CloseTokens() {}
