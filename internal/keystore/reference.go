package keystore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/argon2"

	"inkan/internal/pki"
)

// Verifier is what the database keeps of a reference ID. Without the vault's ID key
// it cannot be tried at all; with it, one guess in a million reaches the slow part
// (threat DL5).
type Verifier struct {
	KID  string // of the ID key
	Salt []byte // 16 octets
	Gate uint32 // 20 bits
	Tag  []byte // 32 octets
}

const (
	saltSize = 16
	gateBits = 20

	argonTime   = 2
	argonMemory = 19 << 10 // KiB
)

// NewVerifier makes the verifier of a reference ID.
func (v *Vault) NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (Verifier, error) {
	v.mu.Lock()
	kid := v.content.IDKey
	key := v.content.IDKeys[kid]
	v.mu.Unlock()
	_, ok := pki.ParseReferenceID(ref.Reveal())
	if !ok || requestID == "" {
		return Verifier{}, pki.E(pki.Invalid, "reference.form")
	}
	salt := random(saltSize)
	stretched, err := v.stretch(ctx, ref, salt)
	if err != nil {
		return Verifier{}, err
	}
	defer clear(stretched)
	return Verifier{KID: kid, Salt: salt, Gate: gate(key, requestID, ref), Tag: tag(key, requestID, stretched)}, nil
}

// CheckReference says whether ref is the reference ID of the request. An empty
// verifier is the dummy row of an unknown request: always wrong. A verifier of a key
// we do not have is an error, never an answer.
func (v *Vault) CheckReference(ctx context.Context, requestID string, ref pki.Secret, want Verifier) (bool, error) {
	v.mu.Lock()
	dummy := want.KID == ""
	kid := want.KID
	if dummy {
		kid = v.content.IDKey
	}
	key := v.content.IDKeys[kid]
	v.mu.Unlock()
	if key == nil {
		return false, pki.E(pki.Internal, "reference.kid").With("KID", kid)
	}
	got := gate(key, requestID, ref)
	if subtle.ConstantTimeEq(int32(got), int32(want.Gate)) == 0 || dummy {
		return false, nil
	}
	stretched, err := v.stretch(ctx, ref, want.Salt)
	if err != nil {
		return false, err
	}
	defer clear(stretched)
	return hmac.Equal(tag(key, requestID, stretched), want.Tag), nil
}

// stretchChecked stretches a reference ID only if it is the verifier's: a key bound
// to a mistyped ID could never be opened again.
func (v *Vault) stretchChecked(ctx context.Context, requestID string, ref pki.Secret, want Verifier) ([]byte, error) {
	v.mu.Lock()
	key := v.content.IDKeys[want.KID]
	v.mu.Unlock()
	if key == nil {
		return nil, pki.E(pki.Internal, "reference.kid").With("KID", want.KID)
	}
	stretched, err := v.stretch(ctx, ref, want.Salt)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(tag(key, requestID, stretched), want.Tag) {
		clear(stretched)
		return nil, pki.E(pki.Invalid, "reference.differs")
	}
	return stretched, nil
}

// stretch is K_ref. Each run takes 19 MiB and a core for 30 ms, so no more of them
// run at once than there are cores.
func (v *Vault) stretch(ctx context.Context, ref pki.Secret, salt []byte) ([]byte, error) {
	if len(salt) != saltSize || ref == "" || len(ref) > 64 {
		return nil, pki.E(pki.Internal, "reference.verifier")
	}
	select {
	case v.argon <- struct{}{}:
		defer func() { <-v.argon }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to check reference: %w", ctx.Err())
	}
	password := []byte(ref.Reveal())
	defer clear(password)
	return argon2.IDKey(password, salt, argonTime, argonMemory, 1, 32), nil
}

func gate(key []byte, requestID string, ref pki.Secret) uint32 {
	sum := mac(key, joined("gate", []byte(requestID), []byte(ref.Reveal())))
	return binary.BigEndian.Uint32(sum) >> (32 - gateBits)
}

// tag takes the request ID in as well, so that a verifier that is copied to another
// row is worth nothing there.
func tag(key []byte, requestID string, stretched []byte) []byte {
	return mac(key, joined("tag", []byte(requestID), stretched))
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(message) // never fails; see hash.Hash
	clear(message)
	return h.Sum(nil)
}
