//go:build cgo

package keystore

import (
	"crypto"

	"github.com/miekg/pkcs11"
)

// OpenSessions gives how many sessions rest with a key: all of them while nobody signs.
func OpenSessions(key crypto.Signer) int {
	k := key.(*tokenKey)
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.idle)
}

// Starts gives how often the library of a key was started or ended.
func Starts(key crypto.Signer) int {
	l := key.(*tokenKey).library
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.round
}

// Use does work while it holds a session of the key.
func Use(key crypto.Signer, work func()) error {
	return key.(*tokenKey).use(func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error {
		work()
		return nil
	})
}
