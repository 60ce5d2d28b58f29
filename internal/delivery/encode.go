package delivery

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"hash"
	"math/big"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// PFX is written here (RFC 7292): the library for it puts no friendly name on a
// certificate that has a key, and each round of a password's stretching that is thrown
// away afterwards costs all holders of a busy morning.

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidShroudedKey   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidFriendlyName  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	oidLocalKeyID    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidPBE3DES       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}
	oidPBES2         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256    = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// encode makes the file: the certificates encrypted, the key shrouded, the MAC over both.
func encode(key crypto.PrivateKey, cert *x509.Certificate, chain []*x509.Certificate, password string, opts Options) ([]byte, error) {
	certs, err := certBags(cert, chain, opts.FriendlyName)
	if err != nil {
		return nil, err
	}
	keys, err := keyBag(key, cert, password, opts.Legacy)
	if err != nil {
		return nil, err
	}
	sealed, err := encrypt(certs, password, opts.Legacy)
	if err != nil {
		return nil, err
	}
	var safe cryptobyte.Builder
	safe.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		addEncrypted(b, sealed)
		addData(b, keys)
	})
	content, err := safe.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode authenticated safe: %w", err)
	}
	var out cryptobyte.Builder
	out.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(3)
		addData(b, content)
		addMAC(b, content, password, opts.Legacy)
	})
	return out.Bytes()
}

// keyBag is the bag of the key alone, shrouded.
func keyBag(key crypto.PrivateKey, cert *x509.Certificate, password string, legacy bool) ([]byte, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	defer clear(plain)
	shrouded, err := encrypt(plain, password, legacy)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		addBag(b, oidShroudedKey, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				shrouded.addAlgorithm(b)
				b.AddASN1OctetString(shrouded.data)
			})
		}, func(b *cryptobyte.Builder) { addLocalKeyID(b, cert) })
	})
	return b.Bytes()
}

func certBags(cert *x509.Certificate, chain []*x509.Certificate, name string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		addCertBag(b, cert, func(b *cryptobyte.Builder) {
			if name != "" {
				addAttribute(b, oidFriendlyName, tag.Tag(30), bmp(name)) // BMPString
			}
			addLocalKeyID(b, cert)
		})
		for _, ca := range chain {
			addCertBag(b, ca, nil)
		}
	})
	return b.Bytes()
}

func addCertBag(b *cryptobyte.Builder, cert *x509.Certificate, attributes func(*cryptobyte.Builder)) {
	addBag(b, oidCertBag, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidX509)
			b.AddASN1(tag.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(cert.Raw) })
		})
	}, attributes)
}

func addBag(b *cryptobyte.Builder, id asn1.ObjectIdentifier, value, attributes func(*cryptobyte.Builder)) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1(tag.Tag(0).ContextSpecific().Constructed(), value)
		if attributes != nil {
			b.AddASN1(tag.SET, attributes)
		}
	})
}

// addLocalKeyID says which certificate and which key belong together.
func addLocalKeyID(b *cryptobyte.Builder, cert *x509.Certificate) {
	id := sha1.Sum(cert.Raw)
	addAttribute(b, oidLocalKeyID, tag.OCTET_STRING, id[:])
}

func addAttribute(b *cryptobyte.Builder, id asn1.ObjectIdentifier, kind tag.Tag, value []byte) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1(tag.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(kind, func(b *cryptobyte.Builder) { b.AddBytes(value) })
		})
	})
}

func addData(b *cryptobyte.Builder, content []byte) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidData)
		b.AddASN1(tag.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(content) })
	})
}

// ciphertext is something encrypted under a password of its own salt, and how.
type ciphertext struct {
	data     []byte
	salt, iv []byte
	legacy   bool
}

func encrypt(plain []byte, password string, legacy bool) (ciphertext, error) {
	out := ciphertext{salt: random(16), iv: random(aes.BlockSize), legacy: legacy}
	var block cipher.Block
	var err error
	if legacy {
		out.salt = out.salt[:8]
		block, err = des.NewTripleDESCipher(derive(sha1.New, 1, password, out.salt, legacyIterations, 24))
		out.iv = derive(sha1.New, 2, password, out.salt, legacyIterations, des.BlockSize)
	} else {
		var key []byte
		key, err = pbkdf2.Key(sha256.New, password, out.salt, iterations, 32)
		if err != nil {
			return out, fmt.Errorf("derive key: %w", err)
		}
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		return out, fmt.Errorf("make cipher: %w", err)
	}
	pad := block.BlockSize() - len(plain)%block.BlockSize()
	out.data = append(append(make([]byte, 0, len(plain)+pad), plain...), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, out.iv).CryptBlocks(out.data, out.data)
	return out, nil
}

func (c ciphertext) addAlgorithm(b *cryptobyte.Builder) {
	if c.legacy {
		addPBE3DES(b, c.salt)
		return
	}
	addPBES2(b, c.salt, c.iv)
}

// addEncrypted adds the ContentInfo of an encrypted part.
func addEncrypted(b *cryptobyte.Builder, c ciphertext) {
	explicit := tag.Tag(0).ContextSpecific()
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidEncryptedData)
		b.AddASN1(explicit.Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(0)
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidData)
					c.addAlgorithm(b)
					b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddBytes(c.data) })
				})
			})
		})
	})
}

func addPBE3DES(b *cryptobyte.Builder, salt []byte) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPBE3DES)
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(salt)
			b.AddASN1Int64(legacyIterations)
		})
	})
}

func addPBES2(b *cryptobyte.Builder, salt, iv []byte) {
	algorithm := func(b *cryptobyte.Builder, id asn1.ObjectIdentifier, parameters func(*cryptobyte.Builder)) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			parameters(b)
		})
	}
	algorithm(b, oidPBES2, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			algorithm(b, oidPBKDF2, func(b *cryptobyte.Builder) {
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(salt)
					b.AddASN1Int64(iterations)
					algorithm(b, oidHMACSHA256, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
				})
			})
			algorithm(b, oidAES256CBC, func(b *cryptobyte.Builder) { b.AddASN1OctetString(iv) })
		})
	})
}

func addMAC(b *cryptobyte.Builder, content []byte, password string, legacy bool) {
	id, newHash, count, size := oidSHA256, sha256.New, iterations, 16
	if legacy {
		id, newHash, count, size = oidSHA1, sha1.New, legacyIterations, 8
	}
	salt := random(size)
	mac := hmac.New(newHash, derive(newHash, 3, password, salt, count, newHash().Size()))
	mac.Write(content)
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(id)
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(mac.Sum(nil))
		})
		b.AddASN1OctetString(salt)
		b.AddASN1Int64(int64(count))
	})
}

// derive is the key derivation of RFC 7292, appendix B.2. Purpose 1 is a key, 2 an IV,
// 3 a MAC key.
func derive(newHash func() hash.Hash, purpose byte, password string, salt []byte, count, size int) []byte {
	h := newHash()
	v := h.BlockSize()
	fill := func(s []byte) []byte { // repeated to a multiple of v
		n := (len(s) + v - 1) / v * v
		return bytes.Repeat(s, n/max(len(s), 1)+1)[:n]
	}
	diversifier := bytes.Repeat([]byte{purpose}, v)
	input := append(fill(salt), fill(append(bmp(password), 0, 0))...)
	one := big.NewInt(1)
	var out []byte
	for {
		h.Reset()
		h.Write(diversifier)
		h.Write(input)
		a := h.Sum(nil)
		for range count - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		out = append(out, a...)
		if len(out) >= size {
			return out[:size]
		}
		b := new(big.Int).SetBytes(fill(a)[:v])
		b.Add(b, one)
		for i := 0; i < len(input); i += v {
			sum := new(big.Int).Add(new(big.Int).SetBytes(input[i:i+v]), b)
			wide := make([]byte, v+1)
			sum.FillBytes(wide)
			copy(input[i:], wide[1:]) // modulo 2^(8v)
		}
	}
}

// bmp is UTF-16BE, in which PKCS#12 keeps names and passwords.
func bmp(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}

func random(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out) // never fails; see crypto/rand
	return out
}
