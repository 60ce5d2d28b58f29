// Package archtest owns the rules of the repository that no compiler holds: which
// package may import which, which calls are forbidden where, what every package
// and every file must have. The rules are tests, so that breaking one is a red
// line and not a matter of taste in a review.
//
// It does not own formatting (gofmt), general faults (go vet, staticcheck), or
// rules that need a running program (package e2e). It has no code of its own: only
// tests, which look at the repository as it is, so a new package or file is held
// to the rules from its first day.
package archtest
