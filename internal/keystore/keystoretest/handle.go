//go:build cgo

package keystoretest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"

	"github.com/miekg/pkcs11"
)

const withCgo = true

// Handle is another user of the token in this process, who can do to it whatever the
// PIN allows.
type Handle struct {
	hsm  *HSM
	ctx  *pkcs11.Ctx
	slot uint
}

// Handle opens one. It ends with the library's next start.
func (h *HSM) Handle() *Handle {
	h.t.Helper()
	o := &Handle{hsm: h, ctx: pkcs11.New(h.Module)}
	err := o.ctx.Initialize()
	if !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		h.must(err)
	}
	slots, err := o.ctx.GetSlotList(true)
	h.must(err)
	for _, slot := range slots {
		info, err := o.ctx.GetTokenInfo(slot)
		h.must(err)
		if info.Label == h.Label {
			o.slot = slot
			return o
		}
	}
	h.t.Fatal("no slot has the test's token")
	return nil
}

// CloseAllSessions ends the sessions of everybody in this process.
func (o *Handle) CloseAllSessions() { o.hsm.t.Helper(); o.hsm.must(o.ctx.CloseAllSessions(o.slot)) }

// Finalize ends the library for everybody in this process.
func (o *Handle) Finalize() { o.hsm.t.Helper(); o.hsm.must(o.ctx.Finalize()) }

// Relabel gives a key another label.
func (o *Handle) Relabel(from, to string) {
	o.hsm.t.Helper()
	o.do(func(session pkcs11.SessionHandle) {
		for _, object := range o.find(session, from) {
			o.hsm.must(o.ctx.SetAttributeValue(session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, to)}))
		}
	})
}

// Generate makes a P-256 key with these attributes of its private half.
func (o *Handle) Generate(label string, private map[uint]bool) crypto.PublicKey {
	o.hsm.t.Helper()
	var public crypto.PublicKey
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)}
	for attribute, value := range private {
		template = append(template, pkcs11.NewAttribute(attribute, value))
	}
	o.do(func(session pkcs11.SessionHandle) {
		p256 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
		half, _, err := o.ctx.GenerateKeyPair(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
			[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256)}, template)
		o.hsm.must(err)
		point, err := o.ctx.GetAttributeValue(session, half, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
		o.hsm.must(err)
		public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[0].Value[2:]) // behind the OCTET STRING's head
		o.hsm.must(err)
	})
	return public
}

// Hold finds a private key in a session of its own, which it keeps open: the first
// session and the first object of a library that has just started.
func (o *Handle) Hold(label string) func() {
	o.hsm.t.Helper()
	session, err := o.ctx.OpenSession(o.slot, pkcs11.CKF_SERIAL_SESSION)
	o.hsm.must(err)
	o.hsm.must(o.ctx.Login(session, pkcs11.CKU_USER, o.hsm.PIN))
	o.hsm.must(o.ctx.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}))
	_, _, err = o.ctx.FindObjects(session, 1)
	o.hsm.must(err)
	o.hsm.must(o.ctx.FindObjectsFinal(session))
	return func() { _ = o.ctx.CloseSession(session) } // gone, where the library has started anew
}

// Serial gives the token's serial number.
func (o *Handle) Serial() string { o.hsm.t.Helper(); return o.info().SerialNumber }

// CountLow says whether a wrong PIN was tried since the last right one.
func (o *Handle) CountLow() bool {
	o.hsm.t.Helper()
	return o.info().Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0
}

// LogInAndOut tries the right PIN.
func (o *Handle) LogInAndOut() { o.hsm.t.Helper(); o.do(func(pkcs11.SessionHandle) {}) }

func (o *Handle) info() pkcs11.TokenInfo {
	o.hsm.t.Helper()
	info, err := o.ctx.GetTokenInfo(o.slot)
	o.hsm.must(err)
	return info
}

// Attribute gives an attribute of a private key, one octet of it.
func (o *Handle) Attribute(label string, attribute uint) byte {
	o.hsm.t.Helper()
	var out byte
	o.do(func(session pkcs11.SessionHandle) {
		for _, object := range o.find(session, label) {
			class, err := o.ctx.GetAttributeValue(session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, nil)})
			o.hsm.must(err)
			if class[0].Value[0] != pkcs11.CKO_PRIVATE_KEY {
				continue
			}
			has, err := o.ctx.GetAttributeValue(session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
			o.hsm.must(err)
			out = has[0].Value[0]
		}
	})
	return out
}

func (o *Handle) find(session pkcs11.SessionHandle, label string) []pkcs11.ObjectHandle {
	o.hsm.t.Helper()
	o.hsm.must(o.ctx.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}))
	found, _, err := o.ctx.FindObjects(session, 10)
	o.hsm.must(err)
	o.hsm.must(o.ctx.FindObjectsFinal(session))
	if len(found) == 0 {
		o.hsm.t.Fatalf("the token has no %s", label)
	}
	return found
}

func (o *Handle) do(work func(pkcs11.SessionHandle)) {
	o.hsm.t.Helper()
	session, err := o.ctx.OpenSession(o.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	o.hsm.must(err)
	err = o.ctx.Login(session, pkcs11.CKU_USER, o.hsm.PIN)
	if !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		o.hsm.must(err)
	}
	work(session)
	o.hsm.must(o.ctx.CloseSession(session))
}
