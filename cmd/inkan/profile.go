//go:build profile

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// A build with the tag profile writes where its processor's time goes, one file a
// process, into the directory INKAN_PROFILE. Nothing but `make profile` makes one.
func init() {
	dir := os.Getenv("INKAN_PROFILE")
	if dir == "" { // a child, which is given no environment
		return
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.prof", os.Getpid())))
	if err != nil {
		panic(err)
	}
	err = pprof.StartCPUProfile(f)
	if err != nil {
		panic(err)
	}
	profiled = pprof.StopCPUProfile
}
