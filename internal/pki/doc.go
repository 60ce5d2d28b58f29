// Package pki holds the words of the domain: holders, requests, certificates,
// revocations, operators, grants; their validation, their states and the pure
// functions that say which state comes next; institution codes, prefectures and
// calendar rules; error codes.
//
// It owns meaning. It does not own SQL, HTTP, cryptographic calls or the clock:
// every function that needs a time is given one. It imports the standard library
// alone, so that the agent may share it.
package pki
