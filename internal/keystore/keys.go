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

// KeyURI is the name under which AddKey stores the key of an issuer.
func KeyURI(id string) string { return "file:" + keysDir + "/" + id + ".key.age" }

// openers are the homes a CA key can have, by URI scheme. PKCS#11 needs cgo and is
// not built in yet; its name is known, so that the answer is clear.
var openers = map[string]func(v *Vault, rest string) (crypto.Signer, error){
	"file": (*Vault).openFile,
	"pkcs11": func(*Vault, string) (crypto.Signer, error) {
		return nil, pki.E(pki.Invalid, "vault.pkcs11")
	},
}

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

// OpenKey opens a CA key by its URI: "file:keys/g1.key.age" (below the vault's
// directory) or "pkcs11:…". Whether it is the right key is for the caller to
// compare with the certificate (threat CK6).
func (v *Vault) OpenKey(uri string) (crypto.Signer, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	open := openers[scheme]
	if !ok || open == nil {
		return nil, pki.E(pki.Invalid, "vault.key_uri").With("URI", uri)
	}
	return open(v, rest)
}

func (v *Vault) openFile(name string) (crypto.Signer, error) {
	if !filepath.IsLocal(name) {
		return nil, pki.E(pki.Invalid, "vault.key_uri").With("URI", "file:"+name)
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
