package keystore

import (
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"inkan/internal/pki"
)

// codec reads or writes the fields of a message, in order and with a limit on each.
// One method of a message describes both directions, so they cannot differ. What is
// read aliases the frame.
type codec struct {
	writing bool
	in      cryptobyte.String  // left to read
	out     cryptobyte.Builder // written so far
	tail    []byte             // the last field, where it is too large to be copied: written after out
	err     error
}

// largeField is from when on a last field is a tail.
const largeField = 1 << 20

// message is anything that travels.
type message interface{ wire(c *codec) }

var (
	errForm = errors.New("malformed message")
	errSize = errors.New("field above its limit")
)

// encode gives what a message is on the wire, in two parts: its own, and a large last
// field of the message itself, or nothing.
func encode(m message) ([]byte, []byte, error) {
	c := &codec{writing: true}
	m.wire(c)
	body, err := c.out.Bytes()
	return body, c.tail, errors.Join(c.err, err)
}

func decode(body []byte, m message) error {
	c := &codec{in: body}
	m.wire(c)
	if c.err == nil && !c.in.Empty() {
		c.err = errForm
	}
	return c.err
}

func (c *codec) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.in = nil
}

func (c *codec) take(n int) []byte {
	var out []byte
	if c.err != nil || !c.in.ReadBytes(&out, n) {
		c.fail(errForm)
		return nil
	}
	return slices.Clip(out)
}

// written refuses a field behind the tail.
func (c *codec) written() {
	if c.tail != nil {
		c.fail(errForm)
	}
}

func (c *codec) uint32(p *uint32) {
	if c.writing {
		c.written()
		c.out.AddUint32(*p)
		return
	}
	if c.err != nil || !c.in.ReadUint32(p) {
		c.fail(errForm)
	}
}

func (c *codec) int64(p *int64) {
	if c.writing {
		c.written()
		c.out.AddUint64(uint64(*p))
		return
	}
	var n uint64
	if c.err != nil || !c.in.ReadUint64(&n) {
		c.fail(errForm)
		return
	}
	*p = int64(n)
}

func (c *codec) bool(p *bool) {
	n := uint32(0)
	if *p {
		n = 1
	}
	c.uint32(&n)
	if n > 1 {
		c.fail(errForm)
	}
	*p = n == 1
}

// count carries the length of a list; n is the present length when writing.
func (c *codec) count(n, limit int) int {
	size := uint32(n)
	c.uint32(&size)
	if int64(size) > int64(limit) {
		c.fail(errSize)
		return 0
	}
	return int(size)
}

func (c *codec) bytes(p *[]byte, limit int) {
	n := c.count(len(*p), limit)
	if c.err != nil {
		return
	}
	if c.writing && n >= largeField {
		c.tail = *p
		return
	}
	if c.writing {
		c.out.AddBytes(*p)
		return
	}
	*p = c.take(n)
	if n == 0 {
		*p = nil
	}
}

// hash carries 32 octets.
func (c *codec) hash(p *[32]byte) {
	if c.writing {
		c.written()
		c.out.AddBytes(p[:])
		return
	}
	if c.err != nil || !c.in.CopyBytes(p[:]) {
		c.fail(errForm)
	}
}

func (c *codec) text(p *string, limit int) {
	raw := []byte(*p)
	c.bytes(&raw, limit)
	*p = string(raw)
}

func (c *codec) secret(p *pki.Secret, limit int) {
	text := p.Reveal()
	c.text(&text, limit)
	*p = pki.Secret(text)
}

func list[T any](c *codec, p *[]T, limit int, each func(*T)) {
	n := c.count(len(*p), limit)
	if c.err != nil {
		return
	}
	if !c.writing {
		*p = nil
	}
	for i := range n {
		if !c.writing {
			*p = append(*p, *new(T))
		}
		each(&(*p)[i])
		if c.err != nil {
			return
		}
	}
}
