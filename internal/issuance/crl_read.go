package issuance

import (
	"bytes"
	"errors"

	"inkan/internal/pki"
)

// OpenCRL verifies that a list is this issuer's own and gives its entries. CRLInfo does
// not tell their number. Errors are of class Internal, code issuance.signature.
func (i *Issuer) OpenCRL(der []byte) (CRLInfo, *CRLEntries, error) {
	bad := func(err error) (CRLInfo, *CRLEntries, error) {
		return CRLInfo{}, nil, pki.E(pki.Internal, "issuance.signature").Because(err)
	}
	tag, outer, rest, ok := readElement(der)
	_, _, seal, okTBS := readElement(outer)
	tbs := outer[:len(outer)-len(seal)]
	_, _, bits, okAlg := readElement(seal)
	_, signature, _, okBits := readElement(bits)
	if tag != 0x30 || len(rest) > 0 || !ok || !okTBS || !okAlg || !okBits || len(signature) < 1 {
		return bad(errCRLForm)
	}
	signature = signature[1:] // behind the number of unused bits
	if !bytes.Equal(seal, afterTBS(i.alg, signature)) || !i.signed(tbs, signature) {
		return bad(nil)
	}
	list, entries, err := i.parseCRL(tbs)
	if err != nil || !list.Number.IsInt64() {
		return bad(errors.Join(err, errCRLForm))
	}
	return CRLInfo{Number: list.Number.Int64(), ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}, &CRLEntries{rest: entries}, nil
}

// CRLEntries reads the entries of a list of our own one after the other, without making
// anything of them: the standard library needs six seconds and a gigabyte for a million.
type CRLEntries struct {
	rest []byte
	err  error
}

var errCRLForm = errors.New("CRL is not of our form")

// ReadEntries begins to read entries as EncodeEntry made them, one after another.
func ReadEntries(entries []byte) *CRLEntries { return &CRLEntries{rest: entries} }

// ReadCRL begins to read a list that is known to be ours; no octets at all are a list
// without entries.
func ReadCRL(der []byte) *CRLEntries {
	if len(der) == 0 {
		return &CRLEntries{}
	}
	_, outer, _, _ := readElement(der)
	_, content, _, _ := readElement(outer)
	_, entries, _, ok := splitTBS(content) // of what is no element there is nothing to split
	if !ok {
		return &CRLEntries{err: errCRLForm}
	}
	return &CRLEntries{rest: entries}
}

// Next gives the octets of the next entry's serial number; false at the end, or where Err tells what is
// wrong.
func (c *CRLEntries) Next() ([]byte, bool) {
	if c.err != nil || len(c.rest) == 0 {
		return nil, false
	}
	_, entry, rest, ok := readElement(c.rest)
	var tag byte
	var serial []byte
	if ok {
		tag, serial, _, ok = readElement(entry)
	}
	if !ok || tag != 0x02 || len(serial) == 0 || serial[0]&0x80 != 0 { // serials are positive
		c.err = errCRLForm
		return nil, false
	}
	c.rest = rest
	return serial, true
}

// Copy adds to a draft the entries that are left to read, but those of some serials.
// Serials are octets as Next gives them.
func (c *CRLEntries) Copy(d *CRLDraft, but map[string]bool) error {
	part, n := c.rest, 0 // what goes over in one piece
	for {
		at := len(part) - len(c.rest) // where the next entry begins
		serial, ok := c.Next()
		if !ok {
			d.Add(part[:at], n)
			return c.err
		}
		n++
		if but[string(serial)] {
			d.Add(part[:at], n-1)
			part, n = c.rest, 0
		}
	}
}

// Err gives what ended the reading early.
func (c *CRLEntries) Err() error { return c.err }
