package issuance

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"inkan/internal/lint"
	"inkan/internal/pki"
)

// CRLInfo is what a signer needs to know about a list before it signs it.
type CRLInfo struct {
	Number     int64
	ThisUpdate time.Time
	NextUpdate time.Time
	Entries    int
}

// EncodeEntry gives the DER of one element of revokedCertificates, revoked at a time and
// perhaps invalid since an earlier one. Callers keep it beside the revocation and add it
// to a CRLDraft as it is: the standard library needs 7 s and 790 MB to encode a million
// entries anew for every list.
func EncodeEntry(serial *big.Int, at time.Time, reason pki.Reason, invalidSince time.Time) []byte {
	number := serial.Bytes()
	if len(number) == 0 || number[0]&0x80 != 0 {
		number = append([]byte{0}, number...)
	}
	at = at.UTC()
	tag, form := byte(0x17), "060102150405Z" // UTCTime
	if at.Year() >= 2050 {
		tag, form = 0x18, "20060102150405Z"
	}
	when := at.Format(form)
	extensions := entryExtensions(reason, invalidSince)
	length := 2 + len(number) + 2 + len(when) + len(extensions)
	out := make([]byte, 0, length+2)
	out = appendHeader(out, 0x30, length)
	out = appendHeader(out, 0x02, len(number))
	out = append(out, number...)
	out = appendHeader(out, tag, len(when))
	out = append(out, when...)
	return append(out, extensions...)
}

// CRLDraft is a list in the making. Its entries stand in one buffer, with room on both
// sides for what a list has around them: of a million entries each copy is 46 MB, and
// memory that was not used before costs more time than the signature.
type CRLDraft struct {
	buf   []byte
	count int
}

// frameRoom is more than what stands on either side of the entries.
const frameRoom = 8 << 10

// NewCRLDraft begins a list, with room for so many octets of entries.
func NewCRLDraft(octets int) *CRLDraft {
	return &CRLDraft{buf: make([]byte, frameRoom, octets+2*frameRoom)}
}

// Add adds n entries, as EncodeEntry gives them, one after another.
func (d *CRLDraft) Add(entries []byte, n int) {
	d.buf = append(d.buf, entries...)
	d.count += n
}

// Count is how many entries there are.
func (d *CRLDraft) Count() int { return d.count }

// FinishCRL makes of a draft the bytes of a full revocation list to be signed. They are
// made where the entries are: the draft is used up.
func (i *Issuer) FinishCRL(d *CRLDraft, number int64, thisUpdate, nextUpdate time.Time) ([]byte, error) {
	if number <= 0 || !thisUpdate.Before(nextUpdate) {
		return nil, fmt.Errorf("encode CRL: number %d, times %s to %s", number, thisUpdate, nextUpdate)
	}
	head, tail, err := i.crlFrame(number, thisUpdate, nextUpdate)
	if err != nil {
		return nil, fmt.Errorf("encode CRL: %w", err)
	}
	size := len(d.buf) - frameRoom
	if size > 0 { // RFC 5280: absent rather than empty
		head = appendHeader(head, 0x30, size)
	}
	front := appendHeader(nil, 0x30, len(head)+size+len(tail))
	front = append(front, head...)
	start := frameRoom - len(front)
	if start < 0 {
		return nil, fmt.Errorf("encode CRL: %d octets before the entries", len(front))
	}
	copy(d.buf[start:], front)
	return append(d.buf, tail...)[start:], nil
}

// CRLTBS is FinishCRL of entries that are there already.
func (i *Issuer) CRLTBS(number int64, thisUpdate, nextUpdate time.Time, entries [][]byte) ([]byte, error) {
	d := NewCRLDraft(0)
	for _, e := range entries {
		d.Add(e, 1)
	}
	return i.FinishCRL(d, number, thisUpdate, nextUpdate)
}

// crlFrame gives what stands before and after the entries.
func (i *Issuer) crlFrame(number int64, thisUpdate, nextUpdate time.Time) ([]byte, []byte, error) {
	var b cryptobyte.Builder
	b.AddASN1Int64(1) // v2
	b.AddBytes(i.alg.der)
	b.AddBytes(i.cert.RawSubject)
	addTime(&b, thisUpdate)
	addTime(&b, nextUpdate)
	head, err := b.Bytes()
	if err != nil {
		return nil, nil, err
	}
	var e cryptobyte.Builder
	e.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			i.addAuthorityKey(b)
			addExtension(b, oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1Int64(number) })
		})
	})
	tail, err := e.Bytes()
	return head, tail, err
}

// CheckCRLTBS is the signer's check of a list that another process made: issuer,
// algorithm, times, number and extensions are read from it, written anew and must be
// equal byte by byte; every entry must have the form that EncodeEntry gives. That
// the number grows is the signer's journal's business. Errors are of class
// Forbidden, code crl.tbs.
func (i *Issuer) CheckCRLTBS(tbs []byte) (CRLInfo, error) {
	list, entries, err := i.parseCRL(tbs)
	if err != nil {
		return CRLInfo{}, err
	}
	found := lint.CRL(list)
	if len(found) > 0 || !list.Number.IsInt64() {
		return CRLInfo{}, badCRL("lint").Because(fmt.Errorf("%s", lint.Text(found)))
	}
	info := CRLInfo{Number: list.Number.Int64(), ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}
	head, tail, err := i.crlFrame(info.Number, info.ThisUpdate, info.NextUpdate)
	if err != nil {
		return CRLInfo{}, badCRL("frame").Because(err)
	}
	_, content, _, _ := readElement(tbs)
	if !bytes.HasPrefix(content, head) || !bytes.HasSuffix(content, tail) {
		return CRLInfo{}, badCRL("frame")
	}
	middle := content[len(head) : len(content)-len(tail)]
	if len(entries) > 0 {
		_, inner, rest, ok := readElement(middle)
		if !ok || len(rest) != 0 || &inner[0] != &entries[0] {
			return CRLInfo{}, badCRL("frame")
		}
	} else if len(middle) != 0 {
		return CRLInfo{}, badCRL("frame")
	}
	for len(entries) > 0 {
		_, entry, rest, ok := readElement(entries)
		if !ok || entries[0] != 0x30 || !goodEntry(entry) {
			return CRLInfo{}, badCRL("entry").With("Entry", info.Entries)
		}
		entries = rest
		info.Entries++
	}
	return info, nil
}

func badCRL(part string) *pki.Error { return pki.E(pki.Forbidden, "crl.tbs").With("Part", part) }

// splitTBS splits the content of a TBS: what stands before the entries, the entries (nil
// where there is no list of them), and what follows.
func splitTBS(content []byte) ([]byte, []byte, []byte, bool) {
	tail, ok := content, true
	for range 5 { // version, algorithm, issuer, thisUpdate, nextUpdate
		_, _, tail, ok = readElement(tail)
		if !ok {
			return nil, nil, nil, false
		}
	}
	head := content[:len(content)-len(tail)]
	var entries []byte
	if len(tail) > 0 && tail[0] == 0x30 {
		_, entries, tail, ok = readElement(tail)
	}
	return head, entries, tail, ok
}

// parseCRL has the standard library read the list without its entries (with a
// million of them it takes six seconds), and gives the entries apart.
func (i *Issuer) parseCRL(tbs []byte) (*x509.RevocationList, []byte, error) {
	tag, content, rest, ok := readElement(tbs)
	if !ok || tag != 0x30 || len(rest) != 0 {
		return nil, nil, badCRL("form")
	}
	head, entries, tail, ok := splitTBS(content)
	if !ok || entries != nil && len(entries) == 0 {
		return nil, nil, badCRL("form")
	}
	if len(head)+len(tail) > frameRoom {
		return nil, nil, badCRL("size")
	}
	bare := appendHeader(nil, 0x30, len(head)+len(tail))
	bare = append(append(bare, head...), tail...)
	list, err := x509.ParseRevocationList(wrap(bare, i.alg, make([]byte, 64)))
	if err != nil {
		return nil, nil, badCRL("form").Because(err)
	}
	return list, entries, nil
}

// goodEntry accepts what EncodeEntry writes: a positive serial of at most 20
// octets, a time, and at most one reason and one invalidity date.
func goodEntry(entry []byte) bool {
	tag, serial, rest, ok := readElement(entry)
	if !ok || tag != 0x02 || len(serial) == 0 || len(serial) > 20 || serial[0]&0x80 != 0 {
		return false
	}
	if serial[0] == 0 && (len(serial) == 1 || serial[1]&0x80 == 0) {
		return false
	}
	tag, when, rest, ok := readElement(rest)
	if !ok || !goodTime(tag, when) {
		return false
	}
	return len(rest) == 0 || goodExtensions(rest)
}

func goodTime(tag byte, when []byte) bool {
	want := 13
	if tag == 0x18 {
		want = 15
	}
	if tag != 0x17 && tag != 0x18 || len(when) != want || when[want-1] != 'Z' {
		return false
	}
	for _, c := range when[:want-1] {
		if c < '0' || c > '9' {
			return false
		}
	}
	two := func(at int) byte { return (when[at]-'0')*10 + when[at+1] - '0' }
	at := want - 11 // where the month stands
	return two(at) >= 1 && two(at) <= 12 && two(at+2) >= 1 && two(at+2) <= 31 && two(at+4) < 24 && two(at+6) < 60 && two(at+8) < 60
}

// SignCRL checks a list once more and signs it; for the signer, after CheckCRLTBS
// told it the number.
func (i *Issuer) SignCRL(key crypto.Signer, tbs []byte) ([]byte, error) {
	_, err := i.CheckCRLTBS(tbs)
	if err != nil {
		return nil, err
	}
	return sign(key, i.cert.PublicKey, i.alg, tbs)
}

// AssembleCRL joins list and signature, and verifies the signature. It makes the list
// where the TBS is, which is no TBS afterwards: of a million entries each copy is 46 MB.
func (i *Issuer) AssembleCRL(tbs, signature []byte) ([]byte, error) {
	if !i.signed(tbs, signature) {
		return nil, pki.E(pki.Internal, "issuance.signature")
	}
	list := append(tbs, afterTBS(i.alg, signature)...)
	return slices.Insert(list, 0, appendHeader(nil, 0x30, len(list))...), nil
}

func (i *Issuer) signed(tbs, signature []byte) bool {
	h := i.alg.hash.New()
	h.Write(tbs)
	return verify(i.cert.PublicKey, i.alg, h.Sum(nil), signature)
}
