package keystore

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"inkan/internal/pki"
)

// Place is where a CA key lives.
type Place struct {
	URI     string // "file:keys/g1.key.age", below the vault's directory, or "pkcs11:…" (RFC 7512)
	PINFile string // opens a token whose URI names no pin-source
}

// InToken says whether the key is one that no file holds.
func (p Place) InToken() bool { return strings.HasPrefix(p.URI, "pkcs11:") }

// errNoTokens is the answer of a program that was built without cgo: a PKCS#11 library
// is C.
var errNoTokens = pki.E(pki.Invalid, "vault.pkcs11")

// CheckToken looks for what opens the token of a key, without opening it; a key of the
// vault needs nothing.
func (p Place) CheckToken() error {
	if !p.InToken() {
		return nil
	}
	if !tokensBuiltIn {
		return errNoTokens
	}
	_, rest, _ := strings.Cut(p.URI, ":")
	u, err := parseTokenURI(rest)
	if err != nil {
		return err
	}
	file := u.pinFile(p.PINFile)
	if file == "" {
		return pki.E(pki.Invalid, "token.no_pin")
	}
	err = CheckMode(file)
	if pki.ClassOf(err) == pki.NotFound {
		return pki.E(pki.Invalid, "token.no_pin").Because(err)
	}
	return err
}

// KeyURI is the name under which AddKey stores the key of an issuer.
func KeyURI(id string) string { return "file:" + keysDir + "/" + id + ".key.age" }

// AddKey stores the private key of an issuer; it refuses to replace one.
func (v *Vault) AddKey(id string, key crypto.Signer) error {
	if !instanceForm.MatchString(id) {
		return pki.E(pki.Invalid, "vault.key_id").With("ID", id)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", id, err)
	}
	defer clear(plain)
	sealed, err := encrypt(plain, v.identity.Recipient())
	if err != nil {
		return fmt.Errorf("encrypt key %s: %w", id, err)
	}
	err = writeSecret(filepath.Join(v.dir, keysDir, id+".key.age"), sealed, true)
	if errors.Is(err, fs.ErrExist) {
		return pki.E(pki.Conflict, "vault.key_exists").With("ID", id)
	}
	return err
}

// OpenKey opens the CA key whose public half is in the CA's certificate, and refuses
// any other with signer.key_differs (threat CK6).
//
// A key in a token compares anew whenever the token had to be opened anew. While the
// token is away, an error of class Busy comes beside a key that may be kept: it opens
// itself when the token is back.
func (v *Vault) OpenKey(p Place, public crypto.PublicKey) (crypto.Signer, error) {
	scheme, rest, _ := strings.Cut(p.URI, ":")
	switch scheme {
	case "pkcs11":
		u, err := parseTokenURI(rest)
		if err != nil {
			return nil, err
		}
		return openTokenKey(v, u, p.PINFile, public)
	case "file":
	default:
		return nil, badKeyURI(p.URI)
	}
	key, err := v.openFile(rest)
	if err != nil {
		return nil, err
	}
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(public) {
		return nil, pki.E(pki.Internal, "signer.key_differs").With("Key", p.URI)
	}
	return key, nil
}

// MakeTokenKey generates a key inside a token: it is never anywhere else. It refuses to
// replace one. The function destroys the new key again, for a ceremony that fails.
func (v *Vault) MakeTokenKey(p Place, t pki.KeyType) (crypto.Signer, func() error, error) {
	_, rest, _ := strings.Cut(p.URI, ":")
	u, err := parseTokenURI(rest)
	if err != nil {
		return nil, nil, err
	}
	return makeTokenKey(v, u, p.PINFile, t)
}

// Ready says whether a key can sign now, as far as that is known without signing. A
// key in a token is opened anew if need be; one from a file is always ready.
func Ready(key crypto.Signer) error {
	k, ok := key.(interface{ ready() error })
	if !ok {
		return nil
	}
	return k.ready()
}

func (v *Vault) openFile(name string) (crypto.Signer, error) {
	if !filepath.IsLocal(name) {
		return nil, badKeyURI("file:" + name)
	}
	sealed, err := readSecret(filepath.Join(v.dir, name))
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(sealed, v.identity)
	if err != nil {
		return nil, pki.E(pki.Internal, "vault.broken").With("File", name).Because(err)
	}
	defer clear(plain)
	key, err := parseKey(plain)
	if err != nil {
		return nil, pki.E(pki.Internal, "vault.broken").With("File", name)
	}
	return key, nil
}

// parseKey reads a PKCS#8 key. The parser's error is dropped on purpose.
func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, pki.E(pki.Invalid, "seal.key")
	}
	return signer, nil
}
