// Command inkan is the server program and its tools; see internal/app.
package main

import (
	"os"

	"inkan/internal/app"
)

// profiled ends the profile of a build that makes one; see profile.go.
var profiled = func() {}

func main() {
	code := app.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	profiled()
	os.Exit(code)
}
