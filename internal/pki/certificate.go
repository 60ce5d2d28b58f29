package pki

import (
	"encoding/hex"
	"math/big"
	"time"
)

// Certificate is a stored certificate of any of our issuers. It is never deleted.
type Certificate struct {
	Serial      string // lower-case hex without leading zeros' loss: the DER bytes of the number
	Issuer      string // issuer ID, for example "g1"
	Profile     string
	RequestID   string // "" for our own certificates (OCSP, TLS, operators)
	Holder      Holder // zero for our own
	Terminal    string
	DER         []byte
	SHA256      string // of DER, hex: the name by which TLS layers look it up
	SPKISHA256  string // of the SubjectPublicKeyInfo, hex
	NotBefore   time.Time
	NotAfter    time.Time
	Predecessor string // serial
	Successor   string // serial of the newest renewal, or ""
	IssuedAt    time.Time
	RevokedAt   time.Time // commit time of the revocation; zero: not revoked
	Reason      Reason
	EffectiveAt time.Time // from when it counts; = RevokedAt unless dated forward

	// InvalidSince is since when nothing signed with it is to be believed (invalidityDate);
	// zero: nobody said so.
	InvalidSince time.Time
}

// Stopped says whether a revocation or a hold counts at a time.
func (c Certificate) Stopped(now time.Time) bool {
	return !c.RevokedAt.IsZero() && !now.Before(c.EffectiveAt)
}

// Dated says whether its revocation is dated forward and does not count yet.
func (c Certificate) Dated(now time.Time) bool {
	return !c.RevokedAt.IsZero() && now.Before(c.EffectiveAt)
}

// CertificateState is computed from stored facts and a time, never stored.
type CertificateState string

// The states of a certificate.
const (
	Valid      CertificateState = "valid"      // 有効
	Suspended  CertificateState = "suspended"  // 一時停止 (certificateHold)
	Revoked    CertificateState = "revoked"    // 失効
	Expired    CertificateState = "expired"    // 期限切れ
	Superseded CertificateState = "superseded" // 更新済み
	NotBegun   CertificateState = "not_begun"  // before notBefore
)

// State computes the state at a time. Revocation outweighs expiry: a page must
// say why it does not work. Superseded certificates still work.
func (c Certificate) State(now time.Time) CertificateState {
	switch {
	case c.Stopped(now) && c.Reason == CertificateHold:
		return Suspended
	case c.Stopped(now):
		return Revoked
	case now.After(c.NotAfter):
		return Expired
	case now.Before(c.NotBefore):
		return NotBegun
	case c.Successor != "":
		return Superseded
	}
	return Valid
}

// Usable says whether relying systems would accept the state.
func (s CertificateState) Usable() bool { return s == Valid || s == Superseded }

// Reason is a CRLReason of RFC 5280 §5.3.1 (失効理由).
type Reason int

// The reasons in use. Codes are those of the RFC.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	SupersededReason     Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6
	PrivilegeWithdrawn   Reason = 9
)

var reasonNames = map[Reason]string{
	Unspecified: "unspecified", KeyCompromise: "keyCompromise", CACompromise: "cACompromise",
	AffiliationChanged: "affiliationChanged", SupersededReason: "superseded",
	CessationOfOperation: "cessationOfOperation", CertificateHold: "certificateHold",
	PrivilegeWithdrawn: "privilegeWithdrawn",
}

// String gives the name of RFC 5280.
func (r Reason) String() string { return reasonNames[r] }

// ParseReason reads a name of RFC 5280; *Error of class Invalid otherwise.
func ParseReason(s string) (Reason, error) {
	for r, name := range reasonNames {
		if name == s {
			return r, nil
		}
	}
	return 0, E(Invalid, "revocation.reason").With("Reason", s)
}

// SerialHex writes a serial number as our stores and logs name it: lower-case hex
// of the number's bytes, two letters a byte.
func SerialHex(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// ParseSerial reads what SerialHex writes; colons and upper case are accepted, as
// other tools print them.
func ParseSerial(s string) (*big.Int, error) {
	clean := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] != ':' {
			clean = append(clean, s[i])
		}
	}
	raw, err := hex.DecodeString(string(clean))
	if err != nil || len(raw) == 0 || len(raw) > 20 {
		return nil, E(Invalid, "serial.form")
	}
	return new(big.Int).SetBytes(raw), nil
}
