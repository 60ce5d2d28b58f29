// Package e2e owns the proof that the whole program does its main job for real
// people's programs: it builds inkan, starts a demo, and uses it from a browser,
// OpenSSL, NSS, GnuTLS, Java and curl.
//
// It does not own what can be tested without the program running, and it knows
// nothing of the program's inside: only its commands, its addresses, its pages'
// form fields and demo.json. A missing tool is a failure in CI and a skip with its
// name elsewhere.
package e2e
