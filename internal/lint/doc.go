// Package lint is our certificate policy as code: one file a rule, each looking
// at one parsed certificate or CRL and saying what is wrong with it.
//
// It owns what our certificates must and must not be. It does not own what is
// done about a finding (package issuance refuses to sign), the general rules of
// RFC 5280 (zlint), or dates that depend on the domain's calendar. It imports the
// standard library alone and keeps its own table of kinds, on purpose apart from
// the profiles that make certificates: two tables must agree before anything is
// signed.
package lint
