package keystore

import (
	"crypto"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"inkan/internal/pki"
)

// A sealed blob, version 1:
//
//	"IKS1" ‖ stage 1 ‖ epoch 7 ‖ SPKI-SHA-256 32 ‖ nonce 24 ‖ XChaCha20-Poly1305
//
// under K = HKDF-SHA-256(epoch key, salt = key ID, info = "inkan/seal/v1"), so that
// each blob has a key of its own, with AAD = header ‖ key ID ‖ request ID. A blob
// that is moved to another row, stage, request or key does not open (threat CK8).
// The SPKI hash is in the header because a pool key is opened before anybody has
// named its public key; it is compared with the key itself after opening.

// stage is what a blob is for.
type stage byte

const (
	stagePool   stage = 1 // a key without a request
	stageHeld   stage = 2 // a key of a request, renewals: the epoch key opens it
	stageBound  stage = 3 // a key of a request, inside also sealed under its reference ID
	stageLetter stage = 4 // a reference ID that waits for its letter
)

const (
	magic      = "IKS1"
	innerMagic = "IKR1"
	headerSize = len(magic) + 1 + epochLength + sha256.Size

	maxPlain = 8 << 10
	maxBlob  = 16 << 10
	padTo    = 512 // inner plaintexts are padded, so that sizes tell nothing about keys
)

// errSealed is the one answer of a failed open: it does not say what differed.
var errSealed = pki.E(pki.Forbidden, "seal.open")

type label struct {
	stage     stage
	epoch     string
	spki      [sha256.Size]byte
	keyID     string
	requestID string
}

func (l label) header() []byte {
	out := append([]byte(magic), byte(l.stage))
	out = append(out, l.epoch...)
	return append(out, l.spki[:]...)
}

func (l label) aad() []byte {
	return joined("inkan/seal/v1", l.header(), []byte(l.keyID), []byte(l.requestID))
}

func (v *Vault) seal(l label, plain []byte) ([]byte, error) {
	if l.keyID == "" || len(l.keyID) > 64 || len(l.requestID) > 64 || len(plain) > maxPlain {
		return nil, pki.E(pki.Invalid, "seal.size")
	}
	epoch, err := v.epoch(l.epoch, true)
	if err != nil {
		return nil, err
	}
	defer clear(epoch)
	return sealUnder(derive(epoch, []byte(l.keyID), "inkan/seal/v1"), l.header(), plain, l.aad())
}

// unseal opens a blob of one of the wanted stages. The label's stage, epoch and
// SPKI come from the blob, the rest is what the caller claims.
func (v *Vault) unseal(blob []byte, keyID, requestID string, want ...stage) (label, []byte, error) {
	if len(blob) < headerSize || len(blob) > maxBlob || string(blob[:len(magic)]) != magic {
		return label{}, nil, pki.E(pki.Invalid, "seal.form")
	}
	l := label{keyID: keyID, requestID: requestID}
	l.stage = stage(blob[len(magic)])
	l.epoch = string(blob[len(magic)+1 : len(magic)+1+epochLength])
	copy(l.spki[:], blob[len(magic)+1+epochLength:headerSize])
	wanted := false
	for _, s := range want {
		wanted = wanted || s == l.stage
	}
	if !wanted {
		return label{}, nil, errSealed
	}
	epoch, err := v.epoch(l.epoch, false)
	if err != nil {
		return label{}, nil, err
	}
	defer clear(epoch)
	plain, err := openUnder(derive(epoch, []byte(keyID), "inkan/seal/v1"), blob[headerSize:], l.aad())
	if err != nil {
		return label{}, nil, errSealed
	}
	return l, plain, nil
}

func sealUnder(key, header, plain, aad []byte) ([]byte, error) {
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	nonce := random(chacha20poly1305.NonceSizeX)
	return aead.Seal(append(header, nonce...), nonce, plain, aad), nil
}

func openUnder(key, sealed, aad []byte) ([]byte, error) {
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, errSealed
	}
	return aead.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], aad)
}

// bind seals a key under the stretched reference ID; unbind opens that.
func bind(stretched []byte, l label, plain []byte) ([]byte, error) {
	if len(plain) > maxPlain-padTo {
		return nil, pki.E(pki.Invalid, "seal.size")
	}
	padded := make([]byte, (len(plain)+4+padTo-1)/padTo*padTo)
	binary.BigEndian.PutUint32(padded, uint32(len(plain)))
	copy(padded[4:], plain)
	defer clear(padded)
	return sealUnder(derive(stretched, []byte(l.keyID), "inkan/inner/v1"), []byte(innerMagic), padded, innerAAD(l))
}

func unbind(stretched []byte, l label, inner []byte) ([]byte, error) {
	if len(inner) < len(innerMagic) || string(inner[:len(innerMagic)]) != innerMagic {
		return nil, pki.E(pki.Invalid, "seal.form")
	}
	padded, err := openUnder(derive(stretched, []byte(l.keyID), "inkan/inner/v1"), inner[len(innerMagic):], innerAAD(l))
	if err != nil {
		return nil, pki.E(pki.Forbidden, "pickup.key_sealed")
	}
	defer clear(padded)
	if len(padded) < 4 {
		return nil, pki.E(pki.Invalid, "seal.form")
	}
	n := binary.BigEndian.Uint32(padded)
	if int64(n) > int64(len(padded)-4) {
		return nil, pki.E(pki.Invalid, "seal.form")
	}
	return append([]byte(nil), padded[4:4+n]...), nil
}

// innerAAD leaves stage and epoch out: an extension re-wraps the outside alone.
func innerAAD(l label) []byte {
	return joined("inkan/inner/v1", l.spki[:], []byte(l.keyID), []byte(l.requestID))
}

// joined puts parts together so that no two lists give the same bytes.
func joined(domain string, parts ...[]byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(domain)))
	out = append(out, domain...)
	for _, p := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out
}

func derive(secret, salt []byte, info string) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return key
}

func spkiOf(public crypto.PublicKey) ([sha256.Size]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return [sha256.Size]byte{}, pki.E(pki.Invalid, "seal.key")
	}
	return sha256.Sum256(der), nil
}

// spkiMatches compares a hash in hex, as rows have it, with a blob's. "" matches
// where the caller cannot know it yet.
func spkiMatches(claimed string, spki [sha256.Size]byte) bool {
	return claimed == "" || claimed == hex.EncodeToString(spki[:])
}
