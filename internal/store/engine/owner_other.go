//go:build !unix

package engine

import "io/fs"

// foreignOwner knows no owners here.
func foreignOwner(fs.FileInfo) string { return "" }
