package pki

import (
	"slices"
	"time"
)

// Role is a set of permissions of an operator or an API client.
type Role string

// The roles.
const (
	RoleIntake   Role = "intake"   // 受付: enters, corrects and checks requests
	RoleApprover Role = "approver" // 承認: checks and approves
	RoleLetters  Role = "letters"  // 発送: prints and dispatches letters
	RoleOfficer  Role = "officer"  // 失効: revokes
	RoleAdmin    Role = "admin"    // 管理: operators, grants
	RoleAuditor  Role = "auditor"  // 監査: reads the audit tree
	RoleRA       Role = "ra"       // API client: issues under a grant
)

// Roles lists all roles.
func Roles() []Role {
	return []Role{RoleIntake, RoleApprover, RoleLetters, RoleOfficer, RoleAdmin, RoleAuditor, RoleRA}
}

// RoleConflicts are pairs that one operator never holds together: who approves
// never sees the letters' secrets (threat AP5). The database holds the same table
// and refuses the contrary by a trigger.
func RoleConflicts() [][2]Role {
	return [][2]Role{{RoleApprover, RoleLetters}, {RoleIntake, RoleLetters}}
}

// Permission names one act.
type Permission string

// The permissions.
const (
	MayReadRequests  Permission = "request.read"
	MaySubmit        Permission = "request.submit"
	MayCheck         Permission = "request.check"
	MayApprove       Permission = "request.approve"
	MayReject        Permission = "request.reject"
	MayCancel        Permission = "request.cancel"
	MayReadReference Permission = "letter.reference"
	MayDispatch      Permission = "letter.dispatch"
	MayExtend        Permission = "letter.extend"
	MayRevoke        Permission = "certificate.revoke"
	MayManage        Permission = "operator.manage"
	MayGrant         Permission = "grant.make"
	MayReadAudit     Permission = "audit.read"
	MayIssueByGrant  Permission = "api.issue"
)

// permitted is the whole of authorisation: what is not here is refused.
var permitted = map[Role][]Permission{
	RoleIntake:   {MayReadRequests, MaySubmit, MayCheck, MayCancel},
	RoleApprover: {MayReadRequests, MayCheck, MayApprove, MayReject, MayGrant},
	RoleLetters:  {MayReadRequests, MayReadReference, MayDispatch, MayExtend},
	RoleOfficer:  {MayReadRequests, MayRevoke},
	RoleAdmin:    {MayReadRequests, MayManage, MayGrant},
	RoleAuditor:  {MayReadRequests, MayReadAudit},
	RoleRA:       {MayIssueByGrant},
}

// Operator is a person of the office (担当者).
type Operator struct {
	ID         string
	Name       string
	Roles      []Role
	CertSHA256 string // of the operator's certificate, hex
	Account    Account
	CreatedAt  time.Time
	DisabledAt time.Time
}

// Account is a person's account of the operating system. Without a Name it is none.
type Account struct {
	Name string
	UID  uint32
}

// Auth says how an actor proved who it is.
type Auth string

// The ways of proof.
const (
	AuthKey      Auth = "key"      // signed with the operator's key (--key)
	AuthAccount  Auth = "account"  // logged in to the operating system under the operator's account
	AuthTLS      Auth = "tls"      // client certificate of a TLS connection
	AuthOffline  Auth = "offline"  // signed with the root key, which is off line
	AuthAsserted Auth = "asserted" // a bare name; a demo only
	AuthSystem   Auth = "system"   // our own jobs
	AuthHolder   Auth = "holder"   // the letter's IDs or the holder's certificate
	AuthNone     Auth = "none"     // anybody on the network
)

// Actor is who acts: the name in every audit record. One with roles is made where a proof
// is checked, in package ops and nowhere else (a test of archtest holds that). Those below
// have none.
type Actor struct {
	ID    string
	Auth  Auth
	Roles []Role
}

// System is the actor of our own jobs.
func System(job string) Actor { return Actor{ID: "system/" + job, Auth: AuthSystem} }

// Applicant is anybody on the network, who applies for a certificate.
func Applicant() Actor { return Actor{ID: "applicant", Auth: AuthNone} }

// LetterOrCertificate is whoever holds a letter or a certificate (証明書の利用者).
func LetterOrCertificate() Actor { return Actor{ID: "holder", Auth: AuthHolder} }

// May says whether one of the actor's roles permits the act.
func (a Actor) May(p Permission) bool {
	for _, role := range a.Roles {
		if slices.Contains(permitted[role], p) {
			return true
		}
	}
	return false
}

// Need gives a *Error of class Forbidden (actor.forbidden) when the act is not
// permitted.
func (a Actor) Need(p Permission) error {
	if a.May(p) {
		return nil
	}
	return E(Forbidden, "actor.forbidden").With("Permission", string(p))
}

// SecondPerson is invariant 8: no single proved person can bring a certificate
// into being. It answers what an approval by the actor would mean for a request
// with these earlier persons (who entered, checked or edited it).
func SecondPerson(r Request, editors []string, actor Actor) error {
	earlier := append([]string{r.EnteredBy, r.CheckedBy}, editors...)
	if slices.Contains(earlier, actor.ID) {
		return E(Forbidden, "request.same_person")
	}
	if r.EnteredBy == "" && r.CheckedBy == "" {
		return E(Conflict, "request.unchecked")
	}
	return nil
}

// Grant is a standing approval of two persons under which an API client issues
// (一括承認枠, threat AP12).
type Grant struct {
	ID          string
	ClientID    string
	Kinds       []HolderKind // empty: every kind
	Prefectures []string     // romaji; empty: every prefecture
	PerDay      int
	Total       int
	Used        int
	UsedToday   int
	Today       string // the day in Japan that UsedToday counts, "2006-01-02"
	EndsAt      time.Time
	MadeBy      string
	ApprovedBy  string // another person; "" until then, and the grant allows nothing
	RevokedAt   time.Time
}

var grantContent = Content[Grant]{"grant", 1, []ContentField[Grant]{
	{"id", 1, func(g Grant) string { return g.ID }},
	{"client", 1, func(g Grant) string { return g.ClientID }},
	{"kinds", 1, func(g Grant) string { return ContentList(g.Kinds) }},
	{"prefectures", 1, func(g Grant) string { return ContentList(g.Prefectures) }},
	{"per-day", 1, func(g Grant) string { return ContentNumber(int64(g.PerDay)) }},
	{"total", 1, func(g Grant) string { return ContentNumber(int64(g.Total)) }},
	{"ends-at", 1, func(g Grant) string { return ContentTime(g.EndsAt) }},
	{"made-by", 1, func(g Grant) string { return g.MadeBy }},
}}

// Hash is the Content.Hash of what a grant allows. The audit record of its making and its
// approval name it (threat AP12).
func (g Grant) Hash() string { return grantContent.Hash(g) }

// HashAs is Hash in the version that another hash names.
func (g Grant) HashAs(other string) string { return grantContent.HashAs(g, other) }

// Is says whether a hash is of this grant, in whatever version it was made.
func (g Grant) Is(hash string) bool { return g.HashAs(hash) == hash }

// MaxGrantDays bounds how long a grant may stand.
const MaxGrantDays = 90

// GrantState is what a grant is at a time.
type GrantState string

// The states of a grant.
const (
	GrantDraft   GrantState = "draft" // waits for the second person
	GrantInForce GrantState = "inForce"
	GrantEnded   GrantState = "ended"
	GrantRevoked GrantState = "revoked"
)

// State gives the state at a time.
func (g Grant) State(at time.Time) GrantState {
	switch {
	case !g.RevokedAt.IsZero():
		return GrantRevoked
	case !at.Before(g.EndsAt):
		return GrantEnded
	case g.ApprovedBy == "":
		return GrantDraft
	}
	return GrantInForce
}

// Allows says whether one more certificate for the holder is within the grant.
func (g Grant) Allows(h Holder, now time.Time) error {
	exhausted := E(Forbidden, "grant.exhausted")
	used := g.UsedToday
	if g.Today != Day(now).Format("2006-01-02") {
		used = 0
	}
	switch {
	case g.ApprovedBy == "" || g.ApprovedBy == g.MadeBy:
		return exhausted.With("Limit", "approval")
	case !g.RevokedAt.IsZero():
		return exhausted.With("Limit", "revoked")
	case !now.Before(g.EndsAt):
		return exhausted.With("Limit", "end")
	case len(g.Kinds) > 0 && !slices.Contains(g.Kinds, h.Kind):
		return exhausted.With("Limit", "kind")
	case len(g.Prefectures) > 0 && !slices.Contains(g.Prefectures, h.Prefecture()):
		return exhausted.With("Limit", "prefecture")
	case g.Used >= g.Total:
		return exhausted.With("Limit", "total")
	case used >= g.PerDay:
		return exhausted.With("Limit", "day")
	}
	return nil
}
