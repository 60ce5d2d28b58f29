//go:build profile

package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// A build with the tag profile writes where its processor's time goes, one file a
// process, into the directory INKAN_PROFILE. Nothing but `make profile` makes one.
func init() {
	f, err := os.Create(fmt.Sprintf("%s/%d.prof", os.Getenv("INKAN_PROFILE"), os.Getpid()))
	if err != nil {
		panic(err)
	}
	err = pprof.StartCPUProfile(f)
	if err != nil {
		panic(err)
	}
	profiled = pprof.StopCPUProfile
}
