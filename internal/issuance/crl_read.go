package issuance

import "errors"

// CRLSerials reads the serial numbers of a signed list one after the other, as their
// octets, without making anything of them: the standard library needs six seconds
// and a gigabyte for a million entries. It is for lists of our own, whose signature
// and form were checked when they were made (AssembleCRL, CheckCRLTBS).
type CRLSerials struct {
	entries []byte
	err     error
}

var errCRLForm = errors.New("CRL is not of our form")

// NewCRLSerials begins to read; no octets at all are a list without entries.
func NewCRLSerials(der []byte) *CRLSerials {
	if len(der) == 0 {
		return &CRLSerials{}
	}
	_, outer, _, ok := readElement(der)
	var at []byte
	if ok {
		_, at, _, ok = readElement(outer)
	}
	for range 5 { // version, algorithm, issuer, thisUpdate, nextUpdate
		if ok {
			_, _, at, ok = readElement(at)
		}
	}
	if !ok {
		return &CRLSerials{err: errCRLForm}
	}
	if len(at) == 0 || at[0] != 0x30 {
		return &CRLSerials{} // no entries: the extensions follow
	}
	_, entries, _, ok := readElement(at)
	if !ok {
		return &CRLSerials{err: errCRLForm}
	}
	return &CRLSerials{entries: entries}
}

// Next gives the next serial; false at the end, or where Err tells what is wrong.
func (c *CRLSerials) Next() ([]byte, bool) {
	if c.err != nil || len(c.entries) == 0 {
		return nil, false
	}
	_, entry, rest, ok := readElement(c.entries)
	var tag byte
	var serial []byte
	if ok {
		tag, serial, _, ok = readElement(entry)
	}
	if !ok || tag != 0x02 || len(serial) == 0 || serial[0]&0x80 != 0 { // serials are positive
		c.err = errCRLForm
		return nil, false
	}
	c.entries = rest
	return serial, true
}

// Err gives what ended the reading early.
func (c *CRLSerials) Err() error { return c.err }
