//go:build cgo

package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"inkan/internal/pki"
)

// tokenSessions bounds the sessions of a key, and so how many signatures of it a token
// is asked for at once.
const tokenSessions = 8

// tokenKey is a CA key in a token. It is safe for concurrent use. It signs with the
// key of the certificate or not at all: it is compared when it is opened, and no
// signature leaves it that the certificate's key does not verify (threat CK6).
type tokenKey struct {
	library *library
	uri     tokenURI
	pin     pinSource
	strict  bool // refuse a key that could leave the token
	public  crypto.PublicKey
	turns   chan struct{} // as many as sessions

	mu     sync.Mutex
	round  int // of the library, in which slot, handle and sessions are good; 0: not open
	slot   uint
	handle pkcs11.ObjectHandle
	idle   []pkcs11.SessionHandle
}

func newTokenKey(v *Vault, u tokenURI, pinFile string, public crypto.PublicKey) (*tokenKey, error) {
	l, err := openLibrary(u.module)
	if err != nil {
		return nil, err
	}
	return &tokenKey{library: l, uri: u, pin: pinSource{u.pinFile(pinFile), v}, strict: v.Mode() == ModeLive, public: public,
		turns: make(chan struct{}, tokenSessions)}, nil
}

func openTokenKey(v *Vault, u tokenURI, pinFile string, public crypto.PublicKey) (crypto.Signer, error) {
	k, err := newTokenKey(v, u, pinFile, public)
	if err != nil {
		return nil, err
	}
	return k, k.ready()
}

// Public gives the public key of the CA's certificate.
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign signs a digest: RSA by PKCS #1 v1.5, ECDSA in ASN.1.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	_, pss := opts.(*rsa.PSSOptions)
	if pss || digestInfos[opts.HashFunc()] == nil || len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("sign in token: unsupported digest or padding (%v)", opts.HashFunc())
	}
	var signature []byte
	err := k.use(func(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		var err error
		signature, err = k.sign(session, handle, digest, opts.HashFunc())
		return err
	})
	if err != nil {
		return nil, err
	}
	return signature, nil
}

// ready opens the key if it is not open.
func (k *tokenKey) ready() error {
	return k.use(func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error { return nil })
}

// use works with a session and the key. Where something was lost, the library starts
// anew and the work is done a second time; where that does not help, the token is
// away, which is of class Busy: whoever waits, waits on.
func (k *tokenKey) use(work func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	k.turns <- struct{}{}
	defer func() { <-k.turns }()
	round, err := k.try(work)
	if lost(err) {
		k.library.restart(round)
		_, err = k.try(work)
	}
	switch {
	case errors.Is(err, errDiffers):
		return pki.E(pki.Internal, "signer.key_differs").With("Key", k.uri.name()).Because(err)
	case err != nil && pki.CodeOf(err) == "internal":
		return pki.E(pki.Busy, "token.away").With("Key", k.uri.name()).Because(err)
	}
	return err
}

// lost says whether a new start may help: not where the PIN or the key itself was
// refused, nor where the token has no session left.
func lost(err error) bool {
	class := pki.ClassOf(err)
	return err != nil && class != pki.Forbidden && class != pki.Invalid && !errors.Is(err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT))
}

// errDiffers is a signature that the certificate's key does not verify.
var errDiffers = errors.New("the signature is another key's")

// try does the work in the present round, which it names.
func (k *tokenKey) try(work func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) (int, error) {
	l := k.library
	l.mu.RLock() // handles are good for as long as nobody starts anew
	defer l.mu.RUnlock()
	if l.down != nil {
		return l.round, l.down
	}
	session, handle, err := k.session()
	if err != nil {
		return l.round, err
	}
	err = work(session, handle)
	if err != nil {
		return l.round, err // the session is of no more use; the new start ends it
	}
	k.mu.Lock()
	k.idle = append(k.idle, session)
	k.mu.Unlock()
	return l.round, nil
}

func (k *tokenKey) session() (pkcs11.SessionHandle, pkcs11.ObjectHandle, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.round != k.library.round {
		err := k.open()
		if err != nil {
			return 0, 0, err
		}
	}
	last := len(k.idle) - 1
	if last < 0 {
		session, err := k.library.ctx.OpenSession(k.slot, pkcs11.CKF_SERIAL_SESSION)
		return session, k.handle, err
	}
	session := k.idle[last]
	k.idle = k.idle[:last]
	return session, k.handle, nil
}

// open finds token and key, and compares both with what they must be.
func (k *tokenKey) open() error {
	k.round, k.idle = 0, nil
	ctx := k.library.ctx
	slot, token, err := k.library.find(k.uri)
	if err != nil {
		return err
	}
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	handle, err := k.openIn(session, token)
	if err != nil {
		_ = ctx.CloseSession(session) // the error that counts is the other
		return err
	}
	k.round, k.slot, k.handle, k.idle = k.library.round, slot, handle, []pkcs11.SessionHandle{session}
	return nil
}

func (k *tokenKey) openIn(session pkcs11.SessionHandle, token pkcs11.TokenInfo) (pkcs11.ObjectHandle, error) {
	err := k.library.logIn(session, token, k.uri, k.pin)
	if err != nil {
		return 0, err
	}
	found, err := k.library.objects(session, k.uri.object, k.uri.id, pkcs11.CKO_PRIVATE_KEY)
	if err != nil {
		return 0, err
	}
	switch len(found) {
	case 0:
		return 0, pki.E(pki.NotFound, "token.key_missing").With("Key", k.uri.name())
	case 1:
	default:
		return 0, pki.E(pki.Conflict, "token.key_many").With("Key", k.uri.name())
	}
	err = k.check(session, found[0])
	if err != nil {
		return 0, err
	}
	return found[0], k.prove(session, found[0])
}

// objects finds the objects of a class by label and ID, either of which may be "".
func (l *library) objects(session pkcs11.SessionHandle, label, id string, class uint) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if id != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id)))
	}
	err := l.ctx.FindObjectsInit(session, template)
	if err != nil {
		return nil, err
	}
	found, _, err := l.ctx.FindObjects(session, 2)
	return found, errors.Join(err, l.ctx.FindObjectsFinal(session))
}

// check looks at the key's kind and, in a live instance, that it cannot leave the token
// and is good for nothing but signing (threat CK5).
func (k *tokenKey) check(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
	kind := uint(pkcs11.CKK_EC)
	if _, isRSA := k.public.(*rsa.PublicKey); isRSA {
		kind = pkcs11.CKK_RSA
	}
	has, err := k.library.ctx.GetAttributeValue(session, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return err
	}
	if !bytes.Equal(has[0].Value, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind).Value) {
		return errDiffers
	}
	if !k.strict {
		return nil
	}
	for _, rule := range []struct {
		attribute uint
		name      string
		want      bool
		optional  bool // some tokens do not have it for every kind of key
	}{
		{pkcs11.CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false, false},
		{pkcs11.CKA_SENSITIVE, "CKA_SENSITIVE", true, false},
		{pkcs11.CKA_DECRYPT, "CKA_DECRYPT", false, true},
		{pkcs11.CKA_UNWRAP, "CKA_UNWRAP", false, true},
		{pkcs11.CKA_DERIVE, "CKA_DERIVE", false, true},
	} {
		has, err := k.library.ctx.GetAttributeValue(session, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(rule.attribute, nil)})
		if rule.optional && errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)) {
			continue
		}
		if err != nil {
			return err
		}
		is := len(has[0].Value) == 1 && has[0].Value[0] != 0
		if is != rule.want {
			return pki.E(pki.Forbidden, "token.key_loose").With("Key", k.uri.name()).With("Attribute", fmt.Sprintf("%s=%t", rule.name, is))
		}
	}
	return nil
}

// prove lets the key sign something new that is no certificate. A public key that lies
// beside it in the token would prove nothing.
func (k *tokenKey) prove(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
	digest := sha256.Sum256(append([]byte("inkan: is this the key of the certificate? "), random(32)...))
	_, err := k.sign(session, handle, digest[:], crypto.SHA256)
	return err
}

// digestInfos are the DER of DigestInfo up to the digest (RFC 8017, 9.2 note 1): a
// token pads, but does not say what it pads.
var digestInfos = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
}

// sign lets the token sign, and verifies: a handle that now means another key, or a
// token that miscounts, must not be found out by others.
func (k *tokenKey) sign(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle, digest []byte, hash crypto.Hash) ([]byte, error) {
	rsaKey, isRSA := k.public.(*rsa.PublicKey)
	if isRSA {
		input := append(bytes.Clone(digestInfos[hash]), digest...)
		signature, err := k.raw(session, handle, pkcs11.CKM_RSA_PKCS, input)
		if err == nil && rsa.VerifyPKCS1v15(rsaKey, hash, digest, signature) != nil {
			err = errDiffers
		}
		return signature, err
	}
	ecKey, isEC := k.public.(*ecdsa.PublicKey)
	if !isEC {
		return nil, errDiffers // no token key of ours
	}
	pair, err := k.raw(session, handle, pkcs11.CKM_ECDSA, digest)
	if err != nil {
		return nil, err
	}
	half := len(pair) / 2
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(pair[:half]), new(big.Int).SetBytes(pair[half:])})
	if err != nil {
		return nil, fmt.Errorf("encode signature: %w", err)
	}
	if !ecdsa.VerifyASN1(ecKey, digest, signature) {
		return nil, errDiffers
	}
	return signature, nil
}

func (k *tokenKey) raw(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle, mechanism uint, input []byte) ([]byte, error) {
	err := k.library.ctx.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, handle)
	if err != nil {
		return nil, err
	}
	return k.library.ctx.Sign(session, input)
}
