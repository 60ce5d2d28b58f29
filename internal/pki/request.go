package pki

import (
	"errors"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"
)

// Source says where a request came from. A source without a proved person (the site)
// needs two persons: one checks, another approves.
type Source string

// The sources of a request.
const (
	FromSite     Source = "site"     // 発行申請サイト /p/rcr
	FromOperator Source = "operator" // entered by an operator
	FromAPI      Source = "api"      // an API client, under a grant
)

// RequestKind says what is asked for.
type RequestKind string

// The kinds of a request.
const (
	NewIssue RequestKind = "new"     // 新規発行
	Renewal  RequestKind = "renewal" // 更新
)

// RequestState is the state of a request (申請の状態).
type RequestState string

// The states; see docs/ARCHITECTURE.md for the picture.
const (
	Received   RequestState = "received"   // 受付
	Reviewing  RequestState = "reviewing"  // 審査中
	Approved   RequestState = "approved"   // 承認
	Generating RequestState = "generating" // 鍵生成中
	Issuing    RequestState = "issuing"    // 発行要求中
	Issued     RequestState = "issued"     // 発行済み
	Returned   RequestState = "returned"   // 差戻し
	Rejected   RequestState = "rejected"   // 却下
	Cancelled  RequestState = "cancelled"  // 取消
	Failed     RequestState = "failed"     // retried by itself
)

// StaleIntent is the failure of a request that is taken up again by itself: what was to
// be signed had become too old.
const StaleIntent = "intent.stale"

// RequestEvent is what happens to a request.
type RequestEvent string

// The events.
const (
	EventCheck    RequestEvent = "check"
	EventApprove  RequestEvent = "approve"
	EventReturn   RequestEvent = "return"
	EventCorrect  RequestEvent = "correct"
	EventReject   RequestEvent = "reject"
	EventCancel   RequestEvent = "cancel"
	EventGenerate RequestEvent = "generate"
	EventIntend   RequestEvent = "intend"
	EventIssue    RequestEvent = "issue"
	EventFail     RequestEvent = "fail"
)

var requestNext = map[RequestState]map[RequestEvent]RequestState{
	Received:   {EventCheck: Reviewing, EventApprove: Approved, EventReturn: Returned, EventReject: Rejected, EventCancel: Cancelled},
	Reviewing:  {EventApprove: Approved, EventReturn: Returned, EventReject: Rejected, EventCancel: Cancelled},
	Returned:   {EventCorrect: Received, EventReject: Rejected, EventCancel: Cancelled},
	Approved:   {EventGenerate: Generating, EventCancel: Cancelled},
	Generating: {EventIntend: Issuing, EventFail: Failed},
	Issuing:    {EventIssue: Issued, EventFail: Failed},
	Issued:     {EventCancel: Cancelled}, // until the first download; the certificate is revoked with it
	Failed:     {EventGenerate: Generating, EventCancel: Cancelled},
}

// UnderWay says whether an approved request is on its way to its certificate.
func (s RequestState) UnderWay() bool { return s == Approved || s == Generating || s == Issuing }

// Next gives the state after an event, or a *Error of class Conflict with code
// request.state that names the present state.
func (s RequestState) Next(event RequestEvent) (RequestState, error) {
	next, ok := requestNext[s][event]
	if !ok {
		return s, E(Conflict, "request.state").With("State", string(s)).With("Event", string(event))
	}
	return next, nil
}

// Application is what an applicant types (発行申請): the content that an approval
// is bound to.
type Application struct {
	Holder           Holder
	TerminalName     string // 端末名称
	Email            string
	MaintenanceEmail string // optional second contact, for reminders only
	Department       string // 担当部署名
	Phone            string
	PaymentMethod    int    // 1 deducted from payments (default), 2 by invoice
	CSR              []byte // DER; nil where the CA makes the key (認証局鍵生成)
}

var applicationContent = Content[Application]{"application", 1, []ContentField[Application]{
	{"holder-kind", 1, func(a Application) string { return string(a.Holder.Kind) }},
	{"holder-code", 1, func(a Application) string { return a.Holder.Code }},
	{"terminal-name", 1, func(a Application) string { return a.TerminalName }},
	{"email", 1, func(a Application) string { return a.Email }},
	{"maintenance-email", 1, func(a Application) string { return a.MaintenanceEmail }},
	{"department", 1, func(a Application) string { return a.Department }},
	{"phone", 1, func(a Application) string { return a.Phone }},
	{"payment-method", 1, func(a Application) string { return ContentNumber(int64(a.PaymentMethod)) }},
	{"csr", 1, func(a Application) string { return ContentBytes(a.CSR) }},
}}

// Hash is the Content.Hash of an application. An approval names it, so that nobody
// approves what was changed after it was shown (threat AP7).
func (a Application) Hash() string { return applicationContent.Hash(a) }

// Is says whether a hash is of this application, in whatever version it was made.
func (a Application) Is(hash string) bool { return applicationContent.HashAs(a, hash) == hash }

// Limits of typed fields, in runes.
const (
	MaxTerminalName = 40
	MaxDepartment   = 60
	MaxEmail        = 254
)

// Fault is what is wrong with one typed field, by the field's name in a form.
type Fault struct {
	Field string
	Err   *Error
}

// Validate checks every typed field and gives the first *Error of class Invalid. A
// person's application needs an e-mail address; an API client answers for its holders
// and is asked for none.
func (a Application) Validate(from Source) error {
	faults := a.Faults(from)
	if len(faults) == 0 {
		return nil
	}
	return faults[0].Err
}

// Faults checks every typed field and gives at most one fault of each.
func (a Application) Faults(from Source) []Fault {
	var faults []Fault
	add := func(field string, err *Error) {
		if err != nil {
			faults = append(faults, Fault{field, err})
		}
	}
	add("holderCode", checkHolder(a.Holder))
	add("terminalName", checkText("terminal", a.TerminalName, MaxTerminalName, true))
	add("department", checkText("department", a.Department, MaxDepartment, false))
	add("email", checkEmail(a.Email, from != FromAPI))
	add("maintenanceEmail", checkEmail(a.MaintenanceEmail, false))
	if strings.Trim(a.Phone, "0123456789-+()") != "" || len(a.Phone) > 20 {
		add("phone", E(Invalid, "phone.form"))
	}
	if a.PaymentMethod != 1 && a.PaymentMethod != 2 {
		add("paymentMethod", E(Invalid, "payment.method"))
	}
	return faults
}

func checkHolder(h Holder) *Error {
	parsed, err := ParseHolder(h.Kind, h.Code)
	fault, _ := errors.AsType[*Error](err)
	if fault == nil && parsed != h {
		fault = E(Invalid, "holder.code_digits").With("Digits", len(parsed.Code))
	}
	return fault
}

func checkEmail(address string, required bool) *Error {
	switch {
	case address == "" && required:
		return E(Invalid, "email.missing")
	case address != "" && !ValidEmail(address):
		return E(Invalid, "email.form")
	}
	return nil
}

// ValidEmail says whether a text is one plain mail address.
func ValidEmail(s string) bool {
	if len(s) > MaxEmail || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	addr, err := mail.ParseAddress(s)
	return err == nil && addr.Address == s && addr.Name == ""
}

// checkText refuses what a reviewer could not see as it is: letters outside the
// repertoire, blanks at the ends (threat AP8).
func checkText(field, s string, limit int, required bool) *Error {
	switch {
	case s == "" && required:
		return E(Invalid, field+".missing")
	case !utf8.ValidString(s), strings.TrimSpace(s) != s, strings.ContainsFunc(s, func(r rune) bool { return !seen(r) }):
		return E(Invalid, field+".letters")
	case utf8.RuneCountInString(s) > limit:
		return E(Invalid, field+".long").With("Limit", limit)
	}
	return nil
}

// Request is one wish for one certificate (申請).
type Request struct {
	ID          string // リクエスト ID
	Kind        RequestKind
	Source      Source
	State       RequestState
	Application Application
	ContentHash string // Application.Hash, in the version of the day it was typed
	EnteredBy   string // operator ID; "" where no operator entered it
	CheckedBy   string
	ApprovedBy  string
	GrantID     string // the grant under which an API client acted
	ClientID    string // the API client; scopes IdempotencyKey
	Idempotency string // idempotency key of the client
	Profile     string // certificate profile
	KeyType     KeyType
	Predecessor string // serial of the certificate that is renewed
	Serial      string // hex; "" until issued
	Alike       string // IDs of requests that look like this one, for operators
	Failure     string // why the last attempt failed, for operators
	ReceivedAt  time.Time
	ApprovedAt  time.Time // zero until then, like every time below
	IssuedAt    time.Time
	NotBefore   time.Time // wanted start of validity; zero: the second of issue. Only a demo's samples set it
	Dispatched  time.Time // 差出: the letter left; the IDs work from now on
	Downloads   time.Time // download deadline
	FetchedAt   time.Time // first download
	Installed   time.Time // first seen in TLS
	Closed      time.Time // of a renewal whose certificate was revoked
	Language    string    // of mails: "ja" or "en"
}

var originContent = Content[Request]{"origin", 1, []ContentField[Request]{
	{"kind", 1, func(r Request) string { return string(r.Kind) }},
	{"source", 1, func(r Request) string { return string(r.Source) }},
	{"grant", 1, func(r Request) string { return r.GrantID }},
	{"client", 1, func(r Request) string { return r.ClientID }},
	{"idempotency", 1, func(r Request) string { return r.Idempotency }},
	{"profile", 1, func(r Request) string { return r.Profile }},
	{"key-type", 1, func(r Request) string { return string(r.KeyType) }},
	{"predecessor", 1, func(r Request) string { return r.Predecessor }},
	{"language", 1, func(r Request) string { return r.Language }},
	{"not-before", 1, func(r Request) string { return ContentTime(r.NotBefore) }},
}}

// Origin is the Content.Hash of where a request came from and what it asks for: all that
// is fixed when it is received and is not typed content. The audit record of its arrival
// holds it (threat CO12).
func (r Request) Origin() string { return originContent.Hash(r) }

// OriginAs is Origin in the version that another hash names.
func (r Request) OriginAs(other string) string { return originContent.HashAs(r, other) }

// NeedsKey says whether the CA makes the holder's key.
func (r Request) NeedsKey() bool { return len(r.Application.CSR) == 0 }

// KeyType names an algorithm and size of a key.
type KeyType string

// The key types.
const (
	RSA2048 KeyType = "rsa-2048"
	RSA3072 KeyType = "rsa-3072"
	RSA4096 KeyType = "rsa-4096"
	P256    KeyType = "p-256"
	P384    KeyType = "p-384"
)

// KeyTypes lists all of them.
func KeyTypes() []KeyType { return []KeyType{RSA2048, RSA3072, RSA4096, P256, P384} }

// UsableUntil is the last second at which a key of the type may be in use:
// CRYPTREC LS-0003 ends 112-bit strength with 2030 and 128-bit strength with 2040.
func (k KeyType) UsableUntil() time.Time {
	switch k {
	case RSA2048:
		return time.Date(2030, 12, 31, 23, 59, 59, 0, JST)
	case RSA3072, RSA4096, P256:
		return time.Date(2040, 12, 31, 23, 59, 59, 0, JST)
	case P384:
		return time.Date(2050, 12, 31, 23, 59, 59, 0, JST)
	}
	return time.Time{}
}
