package keystore

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"

	"inkan/internal/pki"
)

// readPIN reads the PIN of a token from its file.
func readPIN(path string) (pki.Secret, error) {
	if path == "" {
		return "", pki.E(pki.Invalid, "token.no_pin")
	}
	data, err := readSecret(path)
	if pki.ClassOf(err) == pki.NotFound {
		return "", pki.E(pki.Invalid, "token.no_pin").Because(err)
	}
	if err != nil {
		return "", err
	}
	defer clear(data)
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", pki.E(pki.Invalid, "token.no_pin")
	}
	return pki.Secret(text), nil
}

// A token locks itself after a few wrong PINs, and a signer that ends is started again.
// So the PIN that a token refused is noted in the vault's directory, under a key of the
// vault's: the note says whether a PIN is that one, and to nobody else anything.

// pinRefused says whether the token refused this PIN when it was last asked.
func (v *Vault) pinRefused(serial string, pin pki.Secret) (bool, error) {
	path, tag := v.pinNote(serial, pin)
	note, err := readSecret(path)
	if pki.ClassOf(err) == pki.NotFound {
		return false, nil
	}
	return err == nil && hmac.Equal(note, tag), err
}

// refusePIN notes the PIN.
func (v *Vault) refusePIN(serial string, pin pki.Secret) error {
	path, tag := v.pinNote(serial, pin)
	return writeSecret(path, tag, false)
}

func (v *Vault) pinNote(serial string, pin pki.Secret) (string, []byte) {
	mac := hmac.New(sha256.New, derive(v.content.KEK, []byte(v.content.Instance), "inkan/refused-pin/v1"))
	mac.Write([]byte(serial))
	name := "refused-" + hex.EncodeToString(mac.Sum(nil)[:8])
	mac.Write([]byte{0})
	mac.Write([]byte(pin.Reveal()))
	return filepath.Join(v.dir, name), mac.Sum(nil)
}
