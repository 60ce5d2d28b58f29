//go:build !cgo

package keystoretest

const withCgo = false
