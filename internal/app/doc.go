// Package app is the program: configuration, wiring, listeners, timers and the
// subcommands of inkan.
//
// It owns how the parts are put together and started, and it alone reads the clock.
// It does not own rules: every subcommand calls a use case of an office.
package app
