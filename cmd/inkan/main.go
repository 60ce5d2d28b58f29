// Command inkan is the server program and its tools; see internal/app.
package main

import (
	"os"

	"inkan/internal/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
