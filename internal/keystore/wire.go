package keystore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// A frame is length 4 ‖ kind 1 ‖ body. The kind of a call is its verb, that of an
// answer is statusOK or statusError. One call at a time travels on a connection.

type verb byte

// Numbers are for ever: edge and signer may be of neighbouring versions.
const (
	verbSignIntents    verb = 1
	verbSignCRL        verb = 2
	verbSealPool       verb = 3
	verbHold           verb = 4
	verbOpenHeld       verb = 5
	verbNewVerifier    verb = 6
	verbCheckReference verb = 7
	verbSealReference  verb = 8
	verbOpenReference  verb = 9
	verbSignCheckpoint verb = 10
	verbDestroyEpochs  verb = 11
	verbInfo           verb = 12
	verbRewrap         verb = 13
	verbAcceptLoss     verb = 14
	statusOK           byte = 0
	statusError        byte = 1
	frameLimit              = 1 << 20
	crlFrameLimit           = 128 << 20
	maxBatch                = 1024
	maxTBS                  = 16 << 10
	maxSignature            = 1 << 10
	maxName                 = 64
	maxCodeText             = 100
	maxNote                 = 4 << 10
	maxEpochs               = 1200
	maxIssuers              = 32
	maxProof                = 128       // hashes of a consistency proof; a tree of 2^63 records needs 64
	maxLosses               = 32        // more than a signer remembers
	batchBytes              = 900 << 10 // of the items of one frame
	itemOverhead            = 64
)

func (v verb) limit() int {
	if v == verbSignCRL {
		return crlFrameLimit
	}
	return frameLimit
}

// SignRequest asks for a signature over a certificate whose intent is stored:
// AuditLeaf is the leaf at AuditIndex of the audit tree.
type SignRequest struct {
	Issuer     string
	Profile    string
	TBS        []byte
	AuditIndex int64
	AuditLeaf  []byte
}

// SignResult is a signature, or the code of the refusal.
type SignResult struct {
	Signature []byte
	Code      string
}

// Info tells about a signer and what its journal remembers (threats ST8, AU2).
type Info struct {
	Mode             string
	InstanceID       string
	AuditVerifierKey string
	Tree             pki.Checkpoint   // the newest that it signed; Number 0: none yet
	Losses           []pki.Loss       // accepted ones, the oldest first
	CRLNumbers       map[string]int64 // the last number, by issuer
	Refused          int64            // refusals since its start; growth is an alarm
}

type signIntentsCall struct{ requests []SignRequest }

func (m *signIntentsCall) wire(c *codec) {
	list(c, &m.requests, maxBatch, func(r *SignRequest) {
		c.text(&r.Issuer, maxName)
		c.text(&r.Profile, maxName)
		c.bytes(&r.TBS, maxTBS)
		c.int64(&r.AuditIndex)
		c.bytes(&r.AuditLeaf, maxName)
	})
}

type signIntentsAnswer struct{ results []SignResult }

func (m *signIntentsAnswer) wire(c *codec) {
	list(c, &m.results, maxBatch, func(r *SignResult) {
		c.bytes(&r.Signature, maxSignature)
		c.text(&r.Code, maxCodeText)
	})
}

type signCRLCall struct {
	issuer string
	tbs    []byte
}

func (m *signCRLCall) wire(c *codec) {
	c.text(&m.issuer, maxName)
	c.bytes(&m.tbs, crlFrameLimit)
}

type sealPoolCall struct{ keys []PoolKey }

func (m *sealPoolCall) wire(c *codec) {
	list(c, &m.keys, maxBatch, func(k *PoolKey) {
		c.text(&k.KeyID, maxName)
		c.bytes(&k.PKCS8, maxPlain)
	})
}

type sealPoolAnswer struct{ blobs [][]byte }

func (m *sealPoolAnswer) wire(c *codec) {
	list(c, &m.blobs, maxBatch, func(b *[]byte) { c.bytes(b, maxBlob) })
}

func (m *Verifier) wire(c *codec) {
	c.text(&m.KID, maxName)
	c.bytes(&m.Salt, maxName)
	c.uint32(&m.Gate)
	c.bytes(&m.Tag, maxName)
}

func (m *HoldRequest) wire(c *codec) {
	c.text(&m.KeyID, maxName)
	c.text(&m.RequestID, maxName)
	c.bytes(&m.PoolBlob, maxBlob)
	c.text(&m.SPKISHA256, maxName)
	c.secret(&m.Reference, maxName)
	m.Verifier.wire(c)
}

func (m *Held) wire(c *codec) {
	c.bytes(&m.Blob, maxBlob)
	c.text(&m.Epoch, maxName)
	c.text(&m.SPKISHA256, maxName)
}

func (m *OpenRequest) wire(c *codec) {
	c.text(&m.KeyID, maxName)
	c.text(&m.RequestID, maxName)
	c.text(&m.SPKISHA256, maxName)
	c.bytes(&m.Blob, maxBlob)
	c.secret(&m.Reference, maxName)
	m.Verifier.wire(c)
}

func (m *RewrapRequest) wire(c *codec) {
	c.text(&m.KeyID, maxName)
	c.text(&m.RequestID, maxName)
	c.text(&m.SPKISHA256, maxName)
	c.bytes(&m.Blob, maxBlob)
}

// referenceCall serves the four verbs about reference IDs; each uses its fields.
type referenceCall struct {
	requestID string
	reference pki.Secret
	verifier  Verifier
	blob      []byte
}

func (m *referenceCall) wire(c *codec) {
	c.text(&m.requestID, maxName)
	c.secret(&m.reference, maxName)
	m.verifier.wire(c)
	c.bytes(&m.blob, maxBlob)
}

type checkpointCall struct {
	after int64 // number of the newest checkpoint, as the caller knows it
	next  pki.Checkpoint
	proof []tlog.Hash
}

func (m *checkpointCall) wire(c *codec) {
	c.int64(&m.after)
	treeHead(c, &m.next)
	list(c, &m.proof, maxProof, func(h *tlog.Hash) { c.hash((*[32]byte)(h)) })
}

// treeHead carries a checkpoint without its origin, which the signer alone says.
func treeHead(c *codec, p *pki.Checkpoint) {
	c.int64(&p.Number)
	c.int64(&p.Size)
	c.hash(&p.Root)
}

type lossCall struct {
	loss pki.Loss
	by   []pki.LossSignature
}

func (m *lossCall) wire(c *codec) {
	wireLoss(c, &m.loss)
	list(c, &m.by, 2, func(s *pki.LossSignature) {
		c.bytes(&s.Certificate, maxTBS)
		c.bytes(&s.Signature, maxSignature)
	})
}

func wireLoss(c *codec, l *pki.Loss) {
	c.text(&l.Instance, maxName)
	treeHead(c, &l.Lost)
	c.int64(&l.Kept)
	treeHead(c, &l.Next)
	c.text(&l.Reason, pki.MaxLossReason)
	at := l.At.Unix()
	c.int64(&at)
	if !c.writing {
		l.At = time.Unix(at, 0).UTC()
	}
}

type textMessage struct{ text string }

func (m *textMessage) wire(c *codec) { c.text(&m.text, maxName) }

type secretMessage struct{ secret pki.Secret }

func (m *secretMessage) wire(c *codec) { c.secret(&m.secret, maxName) }

type bytesMessage struct{ bytes []byte }

func (m *bytesMessage) wire(c *codec) { c.bytes(&m.bytes, maxBlob) }

type boolMessage struct{ yes bool }

func (m *boolMessage) wire(c *codec) { c.bool(&m.yes) }

type textsMessage struct{ texts []string }

func (m *textsMessage) wire(c *codec) {
	list(c, &m.texts, maxEpochs, func(s *string) { c.text(s, maxName) })
}

type emptyMessage struct{}

func (*emptyMessage) wire(*codec) {}

func (m *Info) wire(c *codec) {
	c.text(&m.Mode, maxName)
	c.text(&m.InstanceID, maxName)
	c.text(&m.AuditVerifierKey, 256)
	treeHead(c, &m.Tree)
	list(c, &m.Losses, maxLosses, func(l *pki.Loss) { wireLoss(c, l) })
	c.int64(&m.Refused)
	ids := slices.Sorted(maps.Keys(m.CRLNumbers))
	if !c.writing {
		m.CRLNumbers = map[string]int64{}
	}
	list(c, &ids, maxIssuers, func(id *string) {
		c.text(id, maxName)
		n := m.CRLNumbers[*id]
		c.int64(&n)
		if !c.writing {
			m.CRLNumbers[*id] = n
		}
	})
}

// failure is an error of the signer: class, code and public arguments. The private
// half stays in the signer's log.
type failure struct {
	class, code string
	args        []argument
}

type argument struct {
	name, kind, text string
	number           int64
}

func (m *failure) wire(c *codec) {
	c.text(&m.class, maxName)
	c.text(&m.code, maxCodeText)
	list(c, &m.args, 16, func(a *argument) {
		c.text(&a.name, maxName)
		c.text(&a.kind, 1)
		c.text(&a.text, 1<<10)
		c.int64(&a.number)
	})
}

func newFailure(err error) *failure {
	out := &failure{class: string(pki.ClassOf(err)), code: pki.CodeOf(err)}
	if out.code == "internal" {
		out.code = "signer.internal"
	}
	known, ok := errors.AsType[*pki.Error](err)
	if !ok {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(known.Args)) {
		a := argument{name: name}
		switch value := known.Args[name].(type) {
		case int:
			a.kind, a.number = "i", int64(value)
		case int64:
			a.kind, a.number = "i", value
		case time.Time:
			a.kind, a.number = "t", value.UnixMicro()
		default:
			a.kind, a.text = "s", fmt.Sprint(value)
		}
		out.args = append(out.args, a)
	}
	return out
}

func (m *failure) err() error {
	out := pki.E(pki.Class(m.class), m.code)
	for _, a := range m.args {
		switch a.kind {
		case "i":
			out = out.With(a.name, a.number)
		case "t":
			out = out.With(a.name, time.UnixMicro(a.number).UTC())
		default:
			out = out.With(a.name, a.text)
		}
	}
	return out
}

const frameHeader = 5

// writeFrame writes a body that is in two parts, as encode gives it.
func writeFrame(w io.Writer, kind byte, body, tail []byte) error {
	frame := make([]byte, 0, frameHeader+len(body))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(body)+len(tail)))
	frame = append(frame, kind)
	frame = append(frame, body...)
	defer clear(frame) // it may have carried a key
	parts := net.Buffers{frame, tail}
	_, err := parts.WriteTo(w)
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// readHeader gives the kind of the next frame and the size of its body.
func readHeader(r io.Reader) (byte, int, error) {
	var header [frameHeader]byte
	_, err := io.ReadFull(r, header[:])
	if err != nil {
		return 0, 0, fmt.Errorf("read frame: %w", err)
	}
	return header[4], int(binary.BigEndian.Uint32(header[:4])), nil
}

func readBody(r io.Reader, size, limit int) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("read frame: %w", errSize)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	if err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return body, nil
}
