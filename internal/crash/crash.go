//go:build !crashpoints

// Package crash names the places at which a test kills the program: both sides of
// every step that leaves something behind. In the program that people run, At is
// nothing; only a build with the tag crashpoints, which nothing but the crash matrix
// (e2e) makes, can die at a point.
//
// It owns how a point is armed. It does not own what must be true afterwards.
package crash

// At marks a point. The name is a literal, one of its own at each place: the crash
// matrix reads them from the source and demands a row for each.
func At(string) {}

// Haste divides the size at which something happens that is rare in the program that
// people run, and is to happen often while the program is killed.
const Haste = 1
