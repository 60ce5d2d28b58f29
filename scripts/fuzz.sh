#!/bin/sh
# Runs every fuzz target for a while, one after the other, with one worker.
#
#   scripts/fuzz.sh          20,000 inputs each
#   FUZZTIME=1000000x scripts/fuzz.sh
#   ONLY=FuzzForm scripts/fuzz.sh
#
# A number of inputs, not a time: go test -fuzz that reaches its time while an input is
# being tried now and then reports "context deadline exceeded" as a failure of the target.
#
# An input that breaks a property is written under the package's testdata/fuzz; commit it
# with the repair, so that every later test run tries it first.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
count=0
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' internal | xargs -n 1 dirname | sort -u); do
	for target in $($go test -list "^${ONLY:-Fuzz}" "./$dir" | grep '^Fuzz' || true); do
		# Making an interesting input smaller may take a minute otherwise, in which nothing
		# new is tried.
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20000x}" -fuzzminimizetime 10x -parallel 1 "./$dir"
		count=$((count + 1))
	done
done
if [ "$count" -eq 0 ]; then
	echo "no fuzz target found" >&2
	exit 1
fi
echo "$count fuzz targets"
