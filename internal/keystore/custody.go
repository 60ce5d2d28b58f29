package keystore

import (
	"context"
	"encoding/hex"

	"inkan/internal/pki"
)

// PoolKey is a fresh key without a request.
type PoolKey struct {
	KeyID string
	PKCS8 []byte
}

// HoldRequest takes a key from the pool for a request.
type HoldRequest struct {
	KeyID      string
	RequestID  string
	PoolBlob   []byte
	SPKISHA256 string     // hex, optional: what the row says
	Reference  pki.Secret // "" for renewals, which have no letter
	Verifier   Verifier   // of the reference; its salt stretches it
}

// Held is a key of a request. SPKISHA256 is of the key that really is inside.
type Held struct {
	Blob       []byte
	Epoch      string
	SPKISHA256 string
}

// OpenRequest opens a held key for its holder.
type OpenRequest struct {
	KeyID      string
	RequestID  string
	SPKISHA256 string // hex, of the certificate the key is for
	Blob       []byte
	Reference  pki.Secret // "" for renewals
	Verifier   Verifier
}

// RewrapRequest moves a held key into the present month, for an extension.
type RewrapRequest struct {
	KeyID, RequestID, SPKISHA256 string
	Blob                         []byte
}

// SealPool seals a fresh key into the pool under the epoch of the month.
func (v *Vault) SealPool(k PoolKey, month string) ([]byte, error) {
	key, err := parseKey(k.PKCS8)
	if err != nil {
		return nil, err
	}
	spki, err := spkiOf(key.Public())
	if err != nil {
		return nil, err
	}
	return v.seal(label{stage: stagePool, epoch: month, keyID: k.KeyID, spki: spki}, k.PKCS8)
}

// Hold re-seals a pool key for a request: under the month's epoch, and, where there
// is a letter, inside under its reference ID (threat DL9).
func (v *Vault) Hold(ctx context.Context, r HoldRequest, month string) (Held, error) {
	if r.RequestID == "" {
		return Held{}, pki.E(pki.Invalid, "seal.size")
	}
	l, plain, err := v.unseal(r.PoolBlob, r.KeyID, "", stagePool)
	if err != nil {
		return Held{}, err
	}
	defer clear(plain)
	err = sameKey(plain, l, r.SPKISHA256)
	if err != nil {
		return Held{}, err
	}
	held := label{stage: stageHeld, epoch: month, spki: l.spki, keyID: r.KeyID, requestID: r.RequestID}
	inside := plain
	if r.Reference != "" {
		held.stage = stageBound
		stretched, err := v.stretchChecked(ctx, r.RequestID, r.Reference, r.Verifier)
		if err != nil {
			return Held{}, err
		}
		defer clear(stretched)
		inside, err = bind(stretched, held, plain)
		if err != nil {
			return Held{}, err
		}
	}
	blob, err := v.seal(held, inside)
	if err != nil {
		return Held{}, err
	}
	return Held{Blob: blob, Epoch: month, SPKISHA256: hex.EncodeToString(l.spki[:])}, nil
}

// OpenHeld gives the PKCS#8 key of a request. A bound key without its reference ID,
// or with a wrong one, answers pickup.key_sealed; a key that is not the
// certificate's answers seal.key_differs and nothing else (threat DL10).
func (v *Vault) OpenHeld(ctx context.Context, r OpenRequest) ([]byte, error) {
	if r.SPKISHA256 == "" {
		return nil, pki.E(pki.Forbidden, "seal.key_differs")
	}
	l, plain, err := v.unseal(r.Blob, r.KeyID, r.RequestID, stageHeld, stageBound)
	if err != nil {
		return nil, err
	}
	if l.stage == stageBound {
		if r.Reference == "" {
			return nil, pki.E(pki.Forbidden, "pickup.key_sealed")
		}
		stretched, err := v.stretch(ctx, r.Reference, r.Verifier.Salt)
		if err != nil {
			return nil, err
		}
		defer clear(stretched)
		plain, err = unbind(stretched, l, plain)
		if err != nil {
			return nil, err
		}
	} else if r.Reference != "" {
		// Whoever has an ID expects that it was needed: a key held without one where
		// there was a letter is a defect, or a row that was swapped.
		clear(plain)
		return nil, pki.E(pki.Internal, "seal.not_bound")
	}
	err = sameKey(plain, l, r.SPKISHA256)
	if err != nil {
		clear(plain)
		return nil, err
	}
	return plain, nil
}

// Rewrap seals the outside of a held key anew under the month's epoch. The inside,
// under the reference ID, is not opened.
func (v *Vault) Rewrap(r RewrapRequest, month string) (Held, error) {
	l, inside, err := v.unseal(r.Blob, r.KeyID, r.RequestID, stageHeld, stageBound)
	if err != nil {
		return Held{}, err
	}
	defer clear(inside)
	if !spkiMatches(r.SPKISHA256, l.spki) {
		return Held{}, pki.E(pki.Forbidden, "seal.key_differs")
	}
	l.epoch = month
	blob, err := v.seal(l, inside)
	if err != nil {
		return Held{}, err
	}
	return Held{Blob: blob, Epoch: month, SPKISHA256: hex.EncodeToString(l.spki[:])}, nil
}

// SealReference keeps a reference ID until its letter is printed.
func (v *Vault) SealReference(requestID string, ref pki.Secret, month string) ([]byte, error) {
	_, ok := pki.ParseReferenceID(ref.Reveal())
	if !ok || requestID == "" {
		return nil, pki.E(pki.Invalid, "reference.form")
	}
	plain := []byte(ref.Reveal())
	defer clear(plain)
	return v.seal(label{stage: stageLetter, epoch: month, keyID: requestID, requestID: requestID}, plain)
}

// OpenReference gives it back.
func (v *Vault) OpenReference(requestID string, blob []byte) (pki.Secret, error) {
	_, plain, err := v.unseal(blob, requestID, requestID, stageLetter)
	if err != nil {
		return "", err
	}
	defer clear(plain)
	return pki.Secret(plain), nil
}

// sameKey compares the key itself with the blob's header and with the caller's claim.
func sameKey(pkcs8 []byte, l label, claimed string) error {
	key, err := parseKey(pkcs8)
	if err != nil {
		return err
	}
	spki, err := spkiOf(key.Public())
	if err != nil {
		return err
	}
	if spki != l.spki || !spkiMatches(claimed, spki) {
		return pki.E(pki.Forbidden, "seal.key_differs")
	}
	return nil
}
