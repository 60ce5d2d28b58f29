//go:build cgo

package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"inkan/internal/pki"
)

// curves are the elliptic curves by the OBJECT IDENTIFIER that a token wants.
var curves = map[pki.KeyType]struct {
	curve elliptic.Curve
	oid   asn1.ObjectIdentifier
}{
	pki.P256: {elliptic.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	pki.P384: {elliptic.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
}

var moduli = map[pki.KeyType]int{pki.RSA2048: 2048, pki.RSA3072: 3072, pki.RSA4096: 4096}

// makeTokenKey generates a key pair in the token and opens it as the signer will, with
// the same checks.
func makeTokenKey(v *Vault, u tokenURI, pinFile string, t pki.KeyType) (crypto.Signer, func() error, error) {
	k, err := newTokenKey(v, u, pinFile, nil)
	if err != nil {
		return nil, nil, err
	}
	made := u
	if made.id == "" {
		made.id = string(random(16)) // the two halves of a pair are known by it
	}
	err = k.library.inSession(u, k.pin, func(session pkcs11.SessionHandle) error {
		for _, place := range []tokenURI{{object: u.object}, {id: made.id}} {
			for _, class := range keyClasses {
				if place.object == "" && place.id == "" {
					continue
				}
				found, err := k.library.objects(session, place.object, place.id, class)
				if err != nil {
					return err
				}
				if len(found) > 0 {
					return pki.E(pki.Conflict, "token.key_exists").With("Key", u.name())
				}
			}
		}
		var err error
		k.public, err = k.library.generate(session, made, t)
		return err
	})
	if err != nil && pki.CodeOf(err) == "internal" {
		err = pki.E(pki.Busy, "token.away").With("Key", u.name()).Because(err)
	}
	if err != nil {
		return nil, nil, err
	}
	undo := func() error {
		return k.library.inSession(u, k.pin, func(session pkcs11.SessionHandle) error { return k.library.destroy(session, made) })
	}
	err = k.ready()
	if err != nil {
		return nil, nil, errors.Join(err, undo())
	}
	return k, undo, nil
}

var keyClasses = []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY}

// inSession works in a session of its own that may write.
func (l *library) inSession(u tokenURI, pin pinSource, work func(pkcs11.SessionHandle) error) error {
	l.mu.RLock()
	down, round := l.down, l.round
	l.mu.RUnlock()
	if down != nil {
		l.restart(round)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.down != nil {
		return l.down
	}
	slot, token, err := l.find(u)
	if err != nil {
		return err
	}
	session, err := l.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	err = l.logIn(session, token, u, pin)
	if err == nil {
		err = work(session)
	}
	return errors.Join(err, l.ctx.CloseSession(session))
}

// generate makes a key that cannot leave the token and only signs, with its public
// half beside it for other people's tools.
func (l *library) generate(session pkcs11.SessionHandle, u tokenURI, t pki.KeyType) (crypto.PublicKey, error) {
	mechanism := uint(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN)
	var shape []*pkcs11.Attribute
	if bits := moduli[t]; bits != 0 {
		shape = []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}
	} else {
		oid, err := asn1.Marshal(curves[t].oid)
		if err != nil {
			return nil, fmt.Errorf("generate key in token: %s: %w", t, err)
		}
		mechanism, shape = pkcs11.CKM_EC_KEY_PAIR_GEN, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oid)}
	}
	names := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, u.object), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(u.id))}
	public := append(append(shape, names...), flags(pkcs11.CKA_VERIFY, pkcs11.CKA_ENCRYPT, pkcs11.CKA_WRAP)...)
	private := append(names, pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false))
	private = append(private, flags(pkcs11.CKA_SIGN, pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE, pkcs11.CKA_SIGN_RECOVER)...)
	half, _, err := l.ctx.GenerateKeyPair(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
	if err != nil {
		return nil, err
	}
	key, err := l.publicKey(session, half, t)
	if err != nil {
		return nil, errors.Join(err, l.destroy(session, u))
	}
	return key, nil
}

// flags sets the first and clears the others: what is not asked for has a default that
// differs from token to token.
func flags(set uint, clear ...uint) []*pkcs11.Attribute {
	out := []*pkcs11.Attribute{pkcs11.NewAttribute(set, true)}
	for _, c := range clear {
		out = append(out, pkcs11.NewAttribute(c, false))
	}
	return out
}

func (l *library) publicKey(session pkcs11.SessionHandle, half pkcs11.ObjectHandle, t pki.KeyType) (crypto.PublicKey, error) {
	if moduli[t] != 0 {
		has, err := l.ctx.GetAttributeValue(session, half, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil)})
		if err != nil {
			return nil, err
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(has[0].Value), E: int(new(big.Int).SetBytes(has[1].Value).Int64())}, nil
	}
	has, err := l.ctx.GetAttributeValue(session, half, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, err
	}
	point := has[0].Value
	var inner []byte
	rest, err := asn1.Unmarshal(point, &inner)
	if err == nil && len(rest) == 0 {
		point = inner // as the standard has it; some tokens give the bare point
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curves[t].curve, point)
	if err != nil {
		return nil, fmt.Errorf("read public key of token: %w", err)
	}
	return key, nil
}

// destroy destroys both halves of a key that this process has made.
func (l *library) destroy(session pkcs11.SessionHandle, u tokenURI) error {
	var failed error
	for _, class := range keyClasses {
		found, err := l.objects(session, u.object, u.id, class)
		failed = errors.Join(failed, err)
		for _, handle := range found {
			failed = errors.Join(failed, l.ctx.DestroyObject(session, handle))
		}
	}
	return failed
}
