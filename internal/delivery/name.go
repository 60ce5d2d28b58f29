package delivery

import (
	"bytes"
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
	"errors"
	"fmt"
	"hash"
	"math/big"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// The library writes no friendly name on a certificate that has a key. So the part with
// the certificates is made here, the part with the key is the library's, and the MAC is
// computed over both (RFC 7292).

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
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

// named puts a friendly name on the certificate of a file that the library made.
func named(file []byte, cert *x509.Certificate, chain []*x509.Certificate, password string, opts Options) ([]byte, error) {
	keyPart, err := keyPartOf(file)
	if err != nil {
		return nil, err
	}
	bags, err := certBags(cert, chain, opts.FriendlyName)
	if err != nil {
		return nil, err
	}
	certPart, err := encrypted(bags, password, opts.Legacy)
	if err != nil {
		return nil, err
	}
	var safe cryptobyte.Builder
	safe.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(certPart)
		b.AddBytes(keyPart)
	})
	content, err := safe.Bytes()
	if err != nil {
		return nil, err
	}
	var out cryptobyte.Builder
	out.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(3)
		addData(b, content)
		addMAC(b, content, password, opts.Legacy)
	})
	return out.Bytes()
}

// keyPartOf gives the second part of the authenticated safe, with the shrouded key.
func keyPartOf(file []byte) ([]byte, error) {
	var pfx, info, explicit, content, parts, first, second cryptobyte.String
	input := cryptobyte.String(file)
	ok := input.ReadASN1(&pfx, tag.SEQUENCE) &&
		pfx.SkipASN1(tag.INTEGER) &&
		pfx.ReadASN1(&info, tag.SEQUENCE) &&
		info.SkipASN1(tag.OBJECT_IDENTIFIER) &&
		info.ReadASN1(&explicit, tag.Tag(0).ContextSpecific().Constructed()) &&
		explicit.ReadASN1(&content, tag.OCTET_STRING) &&
		content.ReadASN1(&parts, tag.SEQUENCE) &&
		parts.ReadASN1Element(&first, tag.SEQUENCE) &&
		parts.ReadASN1Element(&second, tag.SEQUENCE) && parts.Empty()
	if !ok {
		return nil, errors.New("the library made a file of another shape")
	}
	return second, nil
}

func certBags(cert *x509.Certificate, chain []*x509.Certificate, name string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		addCertBag(b, cert, func(b *cryptobyte.Builder) {
			addAttribute(b, oidFriendlyName, tag.Tag(30), bmp(name)) // BMPString
			id := sha1.Sum(cert.Raw)                                 // the library's name of the key
			addAttribute(b, oidLocalKeyID, tag.OCTET_STRING, id[:])
		})
		for _, ca := range chain {
			addCertBag(b, ca, nil)
		}
	})
	return b.Bytes()
}

func addCertBag(b *cryptobyte.Builder, cert *x509.Certificate, attributes func(*cryptobyte.Builder)) {
	explicit := tag.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidCertBag)
		b.AddASN1(explicit, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidX509)
				b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddASN1OctetString(cert.Raw) })
			})
		})
		if attributes != nil {
			b.AddASN1(tag.SET, attributes)
		}
	})
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

// encrypted makes the ContentInfo of an encrypted part.
func encrypted(plain []byte, password string, legacy bool) ([]byte, error) {
	salt, iv := random(16), random(aes.BlockSize)
	var block cipher.Block
	var err error
	if legacy {
		salt = salt[:8]
		block, err = des.NewTripleDESCipher(derive(sha1.New, 1, password, salt, legacyIterations, 24))
		iv = derive(sha1.New, 2, password, salt, legacyIterations, des.BlockSize)
	} else {
		var key []byte
		key, err = pbkdf2.Key(sha256.New, password, salt, iterations, 32)
		if err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	pad := block.BlockSize() - len(plain)%block.BlockSize()
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	explicit := tag.Tag(0).ContextSpecific()
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidEncryptedData)
		b.AddASN1(explicit.Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(0)
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidData)
					if legacy {
						addPBE3DES(b, salt)
					} else {
						addPBES2(b, salt, iv)
					}
					b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddBytes(data) })
				})
			})
		})
	})
	return b.Bytes()
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
