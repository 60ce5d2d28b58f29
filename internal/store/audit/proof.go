package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

const proofFormat = "inkan-audit-proof/1"

// Proof shows a third party, who has the verifier key and nothing else of ours, that
// a record is in the signed tree. As JSON, bytes are base64. To check it by hand:
//
//  1. digest = SHA-256(salt ‖ body), unless both are absent: the body was erased.
//  2. leaf = SHA-256(header ‖ digest), with the header's text as it is; its index
//     is the proof's.
//  3. RFC 6962 (RFC 9162 §2.1.3): the leaf as entry, the index, the path and the
//     size on the checkpoint's second line give the root on its third line.
//  4. The checkpoint is a signed note (C2SP signed-note, Ed25519) by the key.
type Proof struct {
	Format     string           `json:"format"`
	Index      int64            `json:"index"`
	Header     string           `json:"header"`
	Digest     []byte           `json:"digest"`
	Salt       []byte           `json:"salt,omitempty"`
	Body       []byte           `json:"body,omitempty"`
	Path       tlog.RecordProof `json:"path"`
	Checkpoint string           `json:"checkpoint"`
}

// Erased says whether the proof is of a record whose body was erased.
func (p Proof) Erased() bool { return p.Salt == nil && p.Body == nil }

// Check checks a proof against a verifier key and gives the record. A proof that
// does not hold is pki.Error audit.proof.
func (p Proof) Check(verifierKey string) (AuditRecord, error) {
	refused := pki.E(pki.Invalid, "audit.proof")
	key, err := note.NewVerifier(verifierKey)
	if err != nil {
		return AuditRecord{}, pki.E(pki.Invalid, "audit.verifier_key").Because(err)
	}
	if p.Format != proofFormat {
		return AuditRecord{}, refused.Because(fmt.Errorf("format %q", p.Format))
	}
	n, err := note.Open([]byte(p.Checkpoint), note.VerifierList(key))
	if err != nil {
		return AuditRecord{}, refused.Because(err)
	}
	c, err := pki.ParseCheckpoint(n.Text)
	if err != nil {
		return AuditRecord{}, refused.Because(err)
	}
	var h auditHeader
	err = json.Unmarshal([]byte(p.Header), &h)
	if err != nil {
		return AuditRecord{}, refused.Because(fmt.Errorf("read header: %w", err))
	}
	if h.Index != p.Index {
		return AuditRecord{}, refused.Because(fmt.Errorf("header is of record %d", h.Index))
	}
	digest := auditDigest(p.Salt, p.Body)
	if !p.Erased() && !bytes.Equal(digest[:], p.Digest) {
		return AuditRecord{}, refused.Because(errors.New("digest differs"))
	}
	leaf := auditLeaf([]byte(p.Header), p.Digest)
	err = tlog.CheckRecord(p.Path, c.Size, c.Root, p.Index, tlog.RecordHash(leaf[:]))
	if err != nil {
		return AuditRecord{}, refused.Because(err)
	}
	return AuditRecord{
		Index: h.Index, At: engine.FromMicros(h.At), Actor: h.Actor, Auth: h.Auth, Kind: h.Kind, Subject: h.Subject,
		Body: p.Body, Erased: p.Erased(),
	}, nil
}
