package signer

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"inkan/internal/pki"
)

// A segment is one file of the journal. The first begins with nothing. Each later one
// begins with a head: its number, the chain value at which the one before ended, and,
// with the lines of kind past that follow, what all lines before add up to. So a start
// reads one segment, and the lines of all segments are one chain still.

// record is one line of the journal.
type record struct {
	At      int64    `json:"at"` // unix seconds
	Kind    string   `json:"kind"`
	Issuer  string   `json:"issuer,omitempty"`
	Profile string   `json:"profile,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	TBS     string   `json:"tbs,omitempty"` // SHA-256, hex
	Index   int64    `json:"index,omitempty"`
	Leaf    string   `json:"leaf,omitempty"`   // hex
	Number  int64    `json:"number,omitempty"` // of a CRL; of a checkpoint
	Size    int64    `json:"size,omitempty"`   // of the audit tree
	Root    string   `json:"root,omitempty"`   // hex
	Epochs  []string `json:"epochs,omitempty"`
	Mode    string   `json:"mode,omitempty"`

	Loss *acceptedLoss `json:"loss,omitempty"`

	// Of a head, which has a checkpoint and epochs as well, and of the lines after it.
	Segment int64              `json:"segment,omitempty"`
	Losses  []acceptedLoss     `json:"losses,omitempty"`
	Before  []byte             `json:"before,omitempty"` // chain value, whole
	CRLs    map[string]crlMark `json:"crls,omitempty"`   // by issuer
	Pasts   int                `json:"pasts,omitempty"`  // lines of kind past that follow
	Past    []byte             `json:"past,omitempty"`   // packed; see recent
}

const (
	kindStart   = "start"
	kindSign    = "sign"
	kindCRL     = "crl"
	kindTree    = "tree"
	kindLoss    = "loss"
	kindDestroy = "destroy"
	kindHead    = "head"
	kindPast    = "past"
)

// treeRecord is the line of a checkpoint.
func treeRecord(at time.Time, c pki.Checkpoint) record {
	r := record{At: at.Unix(), Kind: kindTree, Number: c.Number, Size: c.Size}
	if c.Number > 0 {
		r.Root = hex.EncodeToString(c.Root[:])
	}
	return r
}

// tree gives the checkpoint of a line; its form was checked when the line was read.
func (r record) tree() pki.Checkpoint {
	c := pki.Checkpoint{Number: r.Number, Size: r.Size}
	_, _ = hex.Decode(c.Root[:], []byte(r.Root))
	return c
}

// checkTree refuses a line without the checkpoint or the loss that its kind has.
func (r record) checkTree() error {
	none := r.Kind == kindHead && r.Number == 0 && r.Size == 0 && r.Root == ""
	switch {
	case r.Kind == kindLoss && r.Loss == nil:
		return errors.New("a loss is not told")
	case r.Kind != kindTree && r.Kind != kindHead, none:
		return nil
	}
	root, err := hex.DecodeString(r.Root)
	if err != nil || len(root) != sha256.Size || r.Number < 1 || r.Size < 1 {
		return errors.New("a checkpoint is not whole")
	}
	return nil
}

const (
	maxLine   = 64 << 10
	chainSize = 16 // octets of the chain value in a line
)

// chain is the running MAC of a journal's lines.
type chain struct {
	mac   hash.Hash
	value []byte
}

// newChain goes on from a value of another chain; nil: from the beginning of all.
func newChain(key, from []byte) *chain {
	c := &chain{hmac.New(sha256.New, key), make([]byte, sha256.Size)}
	copy(c.value, from)
	return c
}

// link moves on over the body of a line, which comes without its closing brace.
func (c *chain) link(open []byte) {
	c.mac.Reset()
	_, _ = c.mac.Write(c.value) // never fails; see hash.Hash
	_, _ = c.mac.Write(open)
	_, _ = c.mac.Write([]byte{'}'})
	c.value = c.mac.Sum(c.value[:0])
}

const (
	suffixOpen  = `,"chain":"`
	suffixClose = "\"}\n"
	suffixSize  = len(suffixOpen) + 2*chainSize + len(suffixClose)
)

// suffix is what stands in a line after its body.
func (c *chain) suffix() []byte {
	out := make([]byte, 0, suffixSize)
	out = append(out, suffixOpen...)
	out = hex.AppendEncode(out, c.value[:chainSize])
	return append(out, suffixClose...)
}

// write puts a record at the end of w.
func (c *chain) write(w io.Writer, rec record) error {
	body, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	open := body[:len(body)-1]
	c.link(open)
	_, err = w.Write(append(open, c.suffix()...))
	return err
}

// segment is what was read of one.
type segment struct {
	number int64
	before []byte // chain value at its beginning
	chain  *chain // after its last whole line
	lines  int
	head   int64 // octets of its head
	size   int64 // octets of its whole lines; what follows is torn
}

// readSegment hands each record to replay. What is not as it was written is refused;
// but for what follows the last newline, which a crash may have left.
func readSegment(in io.Reader, name string, key []byte, replay func(record)) (*segment, error) {
	s := &segment{number: 1, chain: newChain(key, nil)}
	broken := func(err error) error {
		return pki.E(pki.Internal, "signer.journal").With("File", name).With("Line", s.lines+1).Because(err)
	}
	r := bufio.NewReaderSize(in, maxLine)
	pasts := 0 // of the head, that are still to come
	for {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) { // not a line of ours; torn only if it is the end
			line, err = r.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) && pasts > 0 {
			return nil, broken(errors.New("the head is not whole"))
		}
		if errors.Is(err, io.EOF) {
			if s.before == nil {
				s.before = make([]byte, sha256.Size)
			}
			return s, nil
		}
		if err != nil {
			return nil, broken(err)
		}
		rec, err := s.next(line)
		if err == nil && (rec.Kind == kindPast) != (pasts > 0) {
			err = errors.New("the head and the lines after it do not fit")
		}
		if err != nil {
			return nil, broken(err)
		}
		pasts += rec.Pasts
		if rec.Kind == kindPast {
			pasts--
		}
		s.lines++
		s.size += int64(len(line))
		if rec.Kind == kindHead || rec.Kind == kindPast {
			s.head = s.size
		}
		replay(rec)
	}
}

// next verifies a line and gives what it says.
func (s *segment) next(line []byte) (record, error) {
	var rec record
	at := len(line) - suffixSize
	if at < 1 {
		return rec, errors.New("the line is too short")
	}
	if s.lines == 0 {
		s.begin(append(line[:at:at], '}'))
	}
	s.chain.link(line[:at])
	if !hmac.Equal(line[at:], s.chain.suffix()) {
		return rec, errors.New("the line is not the one that was written")
	}
	line[at] = '}'
	err := decodeRecord(line[:at+1], &rec)
	if err == nil {
		err = rec.checkTree()
	}
	switch {
	case err != nil:
		return rec, err
	case rec.Kind == kindHead && (s.lines > 0 || s.number < 2), rec.Kind != kindHead && rec.Pasts != 0:
		return rec, errors.New("a head is where none may be")
	case rec.Pasts < 0 || rec.Pasts > maxPasts:
		return rec, errors.New("a head tells of more certificates than are remembered")
	case rec.Kind == kindPast && len(rec.Past)%packedSize != 0:
		return rec, errors.New("certificates of the past are not whole")
	}
	return rec, nil
}

// pastOpen and pastClose are what a line of kind past is besides its base64.
var pastOpen, pastClose = []byte(`{"at":0,"kind":"past","past":"`), []byte(`"}`)

// decodeRecord reads a record. Those of kind past are most of what a start reads on a
// busy day: for them alone a decoder of JSON takes as long as all the rest.
func decodeRecord(body []byte, rec *record) error {
	text, ours := bytes.CutPrefix(body, pastOpen)
	if !ours {
		return json.Unmarshal(body, rec)
	}
	text, ours = bytes.CutSuffix(text, pastClose)
	past, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil || !ours {
		return json.Unmarshal(body, rec)
	}
	rec.Kind, rec.Past = kindPast, past
	return nil
}

// begin takes the number and the start of the chain from the first line, if that is a
// head. It is not verified yet: whoever changes the start changes the MAC.
func (s *segment) begin(body []byte) {
	var rec record
	err := json.Unmarshal(body, &rec)
	if err == nil && rec.Kind == kindHead && len(rec.Before) == sha256.Size {
		s.number, s.chain.value = rec.Segment, rec.Before
	}
	s.before = bytes.Clone(s.chain.value)
}

// maxPast is how many packed octets fit into a line, in base64.
const maxPast = (maxLine - 1024) / 4 * 3 / packedSize * packedSize

// maxPasts is how many lines the certificates that are remembered take.
const maxPasts = (maxRecent*packedSize + maxPast - 1) / maxPast
