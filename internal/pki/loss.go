package pki

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Loss (監査記録の喪失) is the word of two administrators that audit records which the
// signer remembers are lost, and that the tree goes on from what is there.
type Loss struct {
	Instance string     `json:"instance"`
	Lost     Checkpoint `json:"lost"` // the newest one that the signer remembers
	Kept     int64      `json:"kept"` // number of the newest checkpoint that the tree still agrees with; 0: none
	Next     Checkpoint `json:"next"` // the tree that is there, with the number of its checkpoint
	Reason   string     `json:"reason"`
	At       time.Time  `json:"at"` // in whole seconds
}

// MaxLossReason bounds the reason, in octets of UTF-8.
const MaxLossReason = 300

// LossSignature is the signature of an administrator's key over the SHA-256 of the
// statement of a loss: ECDSA in ASN.1, or RSA PKCS #1 v1.5.
type LossSignature struct {
	Certificate []byte `json:"certificate"` // DER, of the Operations CA
	Signature   []byte `json:"signature"`
}

// Statement gives the text that both administrators sign, one fact a line.
func (l Loss) Statement() []byte {
	tree := func(c Checkpoint) string {
		return fmt.Sprintf("%d %d %s", c.Number, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	}
	lines := []string{
		"inkan audit loss 1", l.Instance, tree(l.Lost), fmt.Sprint(l.Kept), tree(l.Next), l.At.UTC().Format(time.RFC3339),
		base64.StdEncoding.EncodeToString([]byte(l.Reason)), "",
	}
	return []byte(strings.Join(lines, "\n"))
}
