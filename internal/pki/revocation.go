package pki

import (
	"fmt"
	"slices"
	"time"
)

// RevocationState is the state of a case of revocation.
type RevocationState string

// The states of a case. That a revocation is in the CRL is a fact with its time and not
// a state.
const (
	RevocationReceived RevocationState = "received" // 受付: somebody has to decide it
	RevocationDone     RevocationState = "revoked"  // 失効
	RevocationRejected RevocationState = "rejected" // 却下
	RevocationLifted   RevocationState = "lifted"   // 停止解除
)

// RevocationStates lists all of them.
func RevocationStates() []RevocationState {
	return []RevocationState{RevocationReceived, RevocationDone, RevocationRejected, RevocationLifted}
}

// RevocationEvent is what is decided about a case.
type RevocationEvent string

// The decisions.
const (
	EventRevoke  RevocationEvent = "revoke"
	EventDismiss RevocationEvent = "reject"
	EventLift    RevocationEvent = "lift"
)

// RevocationProof says on what word a case rests.
type RevocationProof string

// The proofs.
const (
	ByLetter      RevocationProof = "letter"      // both IDs of the letter, or of a renewal's page
	ByCertificate RevocationProof = "certificate" // the certificate itself was presented
	ByOfficer     RevocationProof = "officer"     // an officer put it on hold
	ByChain       RevocationProof = "chain"       // it was renewed from a compromised one (threat RS9)
)

// Revocation is one case of revocation (失効申請): by a holder, who waits for a decision
// or got it at once, or a hold of which officers decide.
type Revocation struct {
	ID          string // 失効受付番号
	Flow        string // of the pages on which it was asked for: one flow asks once
	Serial      string
	RequestID   string
	Proof       RevocationProof
	AskedBy     string // actor: a holder, or who placed the hold
	Reason      Reason
	Email       string // as typed; it learns that the case is done, and nothing else (threat RV4)
	Language    string
	State       RevocationState
	ReceivedAt  time.Time
	HeldAt      time.Time       // the certificate was put on hold with it; zero: it was not
	Dates       RevocationDates // those that an officer said, or wants said
	ProposedBy  string          // the first of the two who reject or lift
	ProposedAt  time.Time
	DecidedBy   string
	DecidedAt   time.Time
	PublishedAt time.Time // a CRL holds it since then
}

// Held says whether the case keeps its certificate on hold.
func (r Revocation) Held() bool { return r.State == RevocationReceived && !r.HeldAt.IsZero() }

// HoldersReasons are what a holder may give as reason.
func HoldersReasons() []Reason {
	return []Reason{KeyCompromise, CessationOfOperation, SupersededReason, AffiliationChanged, Unspecified}
}

// Undecided is how long a holder's case waits for a person. After it the certificate is
// revoked: silence never keeps a thief's certificate alive (threat RV3).
const Undecided = 24 * time.Hour

// Dated says whether the case revoked its certificate from a day to come on.
func (r Revocation) Dated() bool { return r.State == RevocationReceived && !r.Dates.Effective.IsZero() }

// FinalAt is when an open case ends by itself; zero: never. A hold of an officer's, or of
// a renewal, is decided by people alone.
func (r Revocation) FinalAt() time.Time {
	switch {
	case r.Dated():
		return r.Dates.Effective
	case r.State == RevocationReceived && (r.Proof == ByLetter || r.Proof == ByCertificate):
		return r.ReceivedAt.Add(Undecided)
	}
	return time.Time{}
}

// Ripe says whether a case is past its time.
func (r Revocation) Ripe(now time.Time) bool {
	final := r.FinalAt()
	return !final.IsZero() && now.After(final)
}

// Next gives the state after a decision. A case that is decided stays so:
// revocation.decided. A hold, or a revocation from a day to come on, ends by lifting, a
// case with neither by rejection.
func (r Revocation) Next(event RevocationEvent) (RevocationState, error) {
	acts := !r.HeldAt.IsZero() || r.Dated()
	switch {
	case r.State != RevocationReceived:
		return r.State, E(Conflict, "revocation.decided").With("Number", r.ID).With("State", string(r.State))
	case event == EventRevoke:
		return RevocationDone, nil
	case event == EventDismiss && !acts:
		return RevocationRejected, nil
	case event == EventLift && acts:
		return RevocationLifted, nil
	case event == EventDismiss:
		return r.State, E(Conflict, "revocation.held").With("Number", r.ID)
	}
	return r.State, E(Conflict, "revocation.not_held").With("Number", r.ID)
}

// OfficersToUndo is how many different officers end a case without a revocation.
const OfficersToUndo = 2

// Second says what a word against a revocation means that comes from this person: it
// is the first of two, or the second, or refused. Nobody undoes a case alone. Who placed
// an officer's hold may be one of the two; who asked for his own certificate's end is
// none of them (invariant 8, threats RV3, RV5, ADR 170).
func (r Revocation) Second(by Actor) (bool, error) {
	wish := r.Proof == ByLetter || r.Proof == ByCertificate
	if by.ID == r.ProposedBy || wish && by.ID == r.AskedBy {
		return false, E(Forbidden, "revocation.same_person").With("Number", r.ID)
	}
	return r.ProposedBy != "", nil
}

// revocationContent is what never changes of a case.
var revocationContent = Content[Revocation]{"revocation", 1, []ContentField[Revocation]{
	{"flow", 1, func(r Revocation) string { return r.Flow }},
	{"serial", 1, func(r Revocation) string { return r.Serial }},
	{"request", 1, func(r Revocation) string { return r.RequestID }},
	{"proof", 1, func(r Revocation) string { return string(r.Proof) }},
	{"asked-by", 1, func(r Revocation) string { return r.AskedBy }},
	{"reason", 1, func(r Revocation) string { return r.Reason.String() }},
	{"email", 1, func(r Revocation) string { return r.Email }},
	{"language", 1, func(r Revocation) string { return r.Language }},
}}

// caseContent is what an officer sees who decides a case.
var caseContent = Content[Revocation]{"case", 1, []ContentField[Revocation]{
	{"number", 1, func(r Revocation) string { return r.ID }},
	{"serial", 1, func(r Revocation) string { return r.Serial }},
	{"request", 1, func(r Revocation) string { return r.RequestID }},
	{"proof", 1, func(r Revocation) string { return string(r.Proof) }},
	{"asked-by", 1, func(r Revocation) string { return r.AskedBy }},
	{"reason", 1, func(r Revocation) string { return r.Reason.String() }},
	{"email", 1, func(r Revocation) string { return r.Email }},
	{"state", 1, func(r Revocation) string { return string(r.State) }},
	{"received-at", 1, func(r Revocation) string { return ContentTime(r.ReceivedAt) }},
	{"held-at", 1, func(r Revocation) string { return ContentTime(r.HeldAt) }},
	{"effective", 1, func(r Revocation) string { return ContentTime(r.Dates.Effective) }},
	{"invalid-since", 1, func(r Revocation) string { return ContentTime(r.Dates.InvalidSince) }},
	{"proposed-by", 1, func(r Revocation) string { return r.ProposedBy }},
}}

// Content is the Content.Hash of all of a case that never changes. The audit record of
// its arrival holds it.
func (r Revocation) Content() string { return revocationContent.Hash(r) }

// ContentAs is Content in the version that another hash names.
func (r Revocation) ContentAs(other string) string { return revocationContent.HashAs(r, other) }

// Hash is the Content.Hash of a case as it stands. A decision names it, so that nobody
// decides what was changed after it was shown.
func (r Revocation) Hash() string { return caseContent.Hash(r) }

// Is says whether a hash is of this case as it stands, in whatever version it was made.
func (r Revocation) Is(hash string) bool { return caseContent.HashAs(r, hash) == hash }

// NewRevocationID makes the number of a case (失効受付番号): the day in Japan and a
// sequence within that day.
func NewRevocationID(now time.Time, seq int) string {
	return "R-" + now.In(JST).Format("20060102") + fmt.Sprintf("-%06d", seq)
}

// HoldersReason says whether a holder may give a reason.
func HoldersReason(r Reason) bool { return slices.Contains(HoldersReasons(), r) }
