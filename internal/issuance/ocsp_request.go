package issuance

import (
	"bytes"
	"crypto"
	"crypto/sha1" // as a look-up key that clients choose, never under a signature (threat ST3)
	"crypto/sha256"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"inkan/internal/pki"
)

// Limits of an OCSP request.
const (
	MaxOCSPRequest = 8 << 10
	MaxOCSPIDs     = 8
	maxNonce       = 128 // RFC 9654
)

// CertID is one certificate that a client asks about.
type CertID struct {
	Raw      []byte      // DER as asked; an answer repeats it
	Hash     crypto.Hash // SHA-1 or SHA-256; zero: another one, that we do not look up
	NameHash []byte
	KeyHash  []byte
	Serial   *big.Int
}

// OCSPRequest is what a client asks.
type OCSPRequest struct {
	IDs   []CertID
	Nonce []byte // nil: none
}

var (
	oidSHA1   = []byte{0x2b, 14, 3, 2, 26}
	oidSHA256 = mustHex("608648016503040201")
)

var errMalformed = pki.E(pki.Invalid, "ocsp.malformed")

// ParseOCSPRequest reads a request. golang.org/x/crypto/ocsp gives the first ID only and
// no nonce, hence a reader of our own (threats ST2, ST4): one to eight IDs, a nonce of
// 1 to 128 octets, unknown critical extensions refused; a signature is allowed
// and ignored. The error is always *pki.Error ocsp.malformed.
func ParseOCSPRequest(der []byte) (OCSPRequest, error) {
	if len(der) > MaxOCSPRequest {
		return OCSPRequest{}, errMalformed.With("Limit", MaxOCSPRequest)
	}
	input := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	ok := input.ReadASN1(&outer, asn1.SEQUENCE) && input.Empty() &&
		outer.ReadASN1(&tbs, asn1.SEQUENCE) &&
		outer.SkipOptionalASN1(explicit(0)) && outer.Empty() && // optionalSignature
		tbs.SkipOptionalASN1(explicit(0)) && // version
		tbs.SkipOptionalASN1(explicit(1)) && // requestorName
		tbs.ReadASN1(&list, asn1.SEQUENCE)
	var request OCSPRequest
	for ok && !list.Empty() && len(request.IDs) <= MaxOCSPIDs {
		var id CertID
		id, ok = readCertID(&list)
		request.IDs = append(request.IDs, id)
	}
	if !ok || len(request.IDs) == 0 || len(request.IDs) > MaxOCSPIDs {
		return OCSPRequest{}, errMalformed
	}
	request.Nonce, ok = readNonce(&tbs)
	if !ok || !tbs.Empty() {
		return OCSPRequest{}, errMalformed
	}
	return request, nil
}

func explicit(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

func readCertID(list *cryptobyte.String) (CertID, bool) {
	var request, raw, body, hash, oid, name, key, extensions cryptobyte.String
	id := CertID{Serial: new(big.Int)}
	ok := list.ReadASN1(&request, asn1.SEQUENCE) && request.ReadASN1Element(&raw, asn1.SEQUENCE)
	id.Raw = raw
	var present bool
	ok = ok && raw.ReadASN1(&body, asn1.SEQUENCE) &&
		body.ReadASN1(&hash, asn1.SEQUENCE) && hash.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) &&
		(hash.Empty() || hash.SkipASN1(asn1.NULL) && hash.Empty()) &&
		body.ReadASN1(&name, asn1.OCTET_STRING) && body.ReadASN1(&key, asn1.OCTET_STRING) &&
		body.ReadASN1Integer(id.Serial) && body.Empty() &&
		request.ReadOptionalASN1(&extensions, &present, explicit(0)) && request.Empty()
	if ok && present {
		ok = eachExtension(extensions, func([]byte, cryptobyte.String) bool { return true }, nil)
	}
	id.NameHash, id.KeyHash = name, key
	switch {
	case bytes.Equal(oid, oidSHA1):
		id.Hash = crypto.SHA1
	case bytes.Equal(oid, oidSHA256):
		id.Hash = crypto.SHA256
	}
	return id, ok
}

// eachExtension visits extensions; a critical one must be listed as known.
func eachExtension(wrapped cryptobyte.String, visit func([]byte, cryptobyte.String) bool, known []byte) bool {
	var list cryptobyte.String
	if !wrapped.ReadASN1(&list, asn1.SEQUENCE) || !wrapped.Empty() {
		return false
	}
	for !list.Empty() {
		var extension, oid, value cryptobyte.String
		var critical bool
		ok := list.ReadASN1(&extension, asn1.SEQUENCE) && extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) &&
			(!extension.PeekASN1Tag(asn1.BOOLEAN) || extension.ReadASN1Boolean(&critical)) &&
			extension.ReadASN1(&value, asn1.OCTET_STRING) && extension.Empty()
		if !ok || critical && !bytes.Equal(oid, known) || !visit(oid, value) {
			return false
		}
	}
	return true
}

// readNonce reads requestExtensions and gives the nonce in them, if any.
func readNonce(tbs *cryptobyte.String) ([]byte, bool) {
	var extensions cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&extensions, &present, explicit(2)) {
		return nil, false
	}
	if !present {
		return nil, true
	}
	var nonce []byte
	ok := eachExtension(extensions, func(oid []byte, value cryptobyte.String) bool {
		if !bytes.Equal(oid, oidNonce) {
			return true
		}
		var inner cryptobyte.String
		doubled := nonce != nil
		form := value.ReadASN1(&inner, asn1.OCTET_STRING) && value.Empty()
		nonce = inner
		return form && !doubled && len(inner) >= 1 && len(inner) <= maxNonce
	}, oidNonce)
	return nonce, ok
}

// issuerHashes are what clients call an issuer by.
type issuerHashes struct{ name, key []byte }

func hashIssuer(i *Issuer) map[crypto.Hash]issuerHashes {
	name, key := i.cert.RawSubject, publicKeyBits(i.cert.RawSubjectPublicKeyInfo)
	name1, key1 := sha1.Sum(name), sha1.Sum(key)
	name256, key256 := sha256.Sum256(name), sha256.Sum256(key)
	return map[crypto.Hash]issuerHashes{
		crypto.SHA1:   {name1[:], key1[:]},
		crypto.SHA256: {name256[:], key256[:]},
	}
}

// publicKeyBits gives the content of the BIT STRING of a SubjectPublicKeyInfo that
// the standard library has parsed before.
func publicKeyBits(spki []byte) []byte {
	input := cryptobyte.String(spki)
	var body cryptobyte.String
	var bits []byte
	ok := input.ReadASN1(&body, asn1.SEQUENCE) && body.SkipASN1(asn1.SEQUENCE) && body.ReadASN1BitStringAsBytes(&bits)
	if !ok {
		return nil
	}
	return bits
}

// Asks says whether a client means a certificate of this issuer: name and key both,
// by SHA-1 or SHA-256. Otherwise the answer is OCSPUnauthorized.
func (i *Issuer) Asks(id CertID) bool {
	h, ok := i.hashes[id.Hash]
	return ok && bytes.Equal(h.name, id.NameHash) && bytes.Equal(h.key, id.KeyHash)
}
