package issuance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes below
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"

	"inkan/internal/lint"
	"inkan/internal/pki"
)

// GenerateKey makes a key. RSA takes its time.
func GenerateKey(t pki.KeyType) (crypto.Signer, error) {
	switch t {
	case pki.RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case pki.RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case pki.RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case pki.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case pki.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("generate key: unknown type %q", t)
}

// KeyTypeOf names the type of a public key; false for every type that we do not
// certify.
func KeyTypeOf(public crypto.PublicKey) (pki.KeyType, bool) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N == nil {
			return "", false
		}
		switch k.N.BitLen() {
		case 2048:
			return pki.RSA2048, true
		case 3072:
			return pki.RSA3072, true
		case 4096:
			return pki.RSA4096, true
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return pki.P256, true
		case elliptic.P384():
			return pki.P384, true
		}
	}
	return "", false
}

// NewSerial draws a serial number: 20 octets, positive, 159 bits from the system's
// CSPRNG (threat CK7). A first octet of zero is drawn again, so that every serial has
// one length and a shorter one is known to be foreign.
func NewSerial() *big.Int {
	b := make([]byte, 20)
	for b[0] == 0 {
		_, _ = rand.Read(b) // never fails; see crypto/rand
		b[0] &= 0x7f
	}
	return new(big.Int).SetBytes(b)
}

// algorithm is how a key signs here: its name in X.509, the DER of its
// AlgorithmIdentifier and the hash.
type algorithm struct {
	x509 x509.SignatureAlgorithm
	der  []byte
	hash crypto.Hash
}

var (
	rsaSHA256   = algorithm{x509.SHA256WithRSA, []byte{0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0}, crypto.SHA256}
	ecdsaSHA256 = algorithm{x509.ECDSAWithSHA256, []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, crypto.SHA256}
	ecdsaSHA384 = algorithm{x509.ECDSAWithSHA384, []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3}, crypto.SHA384}
)

func algorithmOf(t pki.KeyType) algorithm {
	switch t {
	case pki.P256:
		return ecdsaSHA256
	case pki.P384:
		return ecdsaSHA384
	}
	return rsaSHA256
}

// sign signs bytes with a key and checks the result with the public key: one
// faulty RSA-CRT signature would give the key away (threat CK4).
func sign(key crypto.Signer, public crypto.PublicKey, alg algorithm, message []byte) ([]byte, error) {
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(public) {
		return nil, pki.E(pki.Internal, "issuance.key")
	}
	h := alg.hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	signature, err := key.Sign(rand.Reader, digest, alg.hash)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if !verify(public, alg, digest, signature) {
		return nil, pki.E(pki.Internal, "issuance.signature")
	}
	return signature, nil
}

func verify(public crypto.PublicKey, alg algorithm, digest, signature []byte) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, alg.hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	}
	return false
}

// keyID is the key identifier of a public key, RFC 7093 method 1: 160 bits of
// SHA-256. The older method needs SHA-1, which nothing of ours computes except to
// look up what an OCSP client asks for.
func keyID(spki []byte) []byte {
	id, err := lint.KeyID(spki)
	if err != nil {
		panic(err) // spki comes from the standard library's encoder or parser
	}
	return id
}
