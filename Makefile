# Two commands need no preparation on a fresh Debian 12 with Go and make:
#
#   make demo     the service with sample data, on the embedded SQLite
#   make test     every test; installs what they need (scripts/setup-tests.sh)
#
# and while working:
#
#   make check    style, static checks, quick tests: about three minutes on two cores
#   make screens  every page in both languages as pictures in screens/
#   make bench    the product under load, each figure beside its limit
#   make soak     kills the program at random moments for KILL_FOR (10m)
#   make fuzz     every fuzz target for FUZZTIME (20000x: inputs tried)
#
# `make build-hsm` builds the program for CA keys in PKCS#11 tokens (docs/HSM.md): a
# PKCS#11 library is C, so it needs a C compiler and the C library where it runs.
#
# `make test` is what CI runs (.ci/run). Two packages at a time is the machine the
# project promises to build and test on: two cores.

GO    ?= go
FUZZTIME ?= 20000x
FLAGS := -p 2
BUILD := CGO_ENABLED=0 $(GO) build $(FLAGS) -trimpath

.PHONY: build build-hsm demo check style test unit fuzz e2e screens soak bench bench-parts profile clean
.NOTPARALLEL:
.DEFAULT_GOAL := build

build:
	$(BUILD) -o bin/inkan ./cmd/inkan

build-hsm:
	CGO_ENABLED=1 $(GO) build $(FLAGS) -trimpath -o bin/inkan-hsm ./cmd/inkan

# Never touches an earlier demo: takes the first free name.
demo: build
	@dir=demo-data; n=1; \
	while [ -e "$$dir" ]; do n=$$((n + 1)); dir=demo-data-$$n; done; \
	exec bin/inkan demo --dir "$$dir" $(DEMO)

style:
	@bad=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) vet $(FLAGS) ./...
	$(GO) tool -modfile=tools.mod staticcheck ./...

check: style
	$(GO) test $(FLAGS) -short -timeout 100s ./...

test:
	scripts/setup-tests.sh
	$(MAKE) FUZZTIME=4000x style unit fuzz e2e

unit:
	$(GO) test $(FLAGS) -timeout 20m $$($(GO) list ./... | grep -v '/e2e')

fuzz:
	GO="$(GO)" FUZZTIME="$(FUZZTIME)" scripts/fuzz.sh

# Never from the cache: what it tests is a program, which go test cannot see change.
e2e:
	$(GO) test $(FLAGS) -count=1 -timeout 30m ./e2e/...

screens:
	scripts/setup-tests.sh
	INKAN_SCREENS=$(CURDIR)/screens $(GO) test -count=1 -timeout 20m -run '^TestScreens$$' ./e2e
	@echo "pictures are in screens/"

KILL_FOR ?= 10m

# KILL_SEED repeats a run's luck, KILL_LOGS names a directory for the log of a failure.
soak:
	KILL_FOR=$(KILL_FOR) $(GO) test -v -count=1 -timeout 24h -run '^TestRandomKills$$' ./e2e/kill

# PARTS: api, status, download, growth, crl, portal; FOR: how long each load lasts; SIZE: of the
# large database. docs/PERFORMANCE.md explains the table.
PARTS ?= all
FOR   ?= 10s
SIZE  ?= 1000000
bench: build
	@INKAN_BIN=$(CURDIR)/bin/inkan INKAN_TEST_FSYNC=1 INKAN_BENCH=$(PARTS) INKAN_BENCH_FOR=$(FOR) INKAN_BENCH_SIZE=$(SIZE) \
	$(GO) test -count=1 -timeout 180m -run '^TestBench$$' -v ./e2e | grep --line-buffered -E '^\||FAIL|_test.go'

# Where the processor's time goes while certificates are issued: one file a serve.
profile:
	mkdir -p bin/profile
	$(BUILD) -tags profile -o bin/inkan-profile ./cmd/inkan
	@INKAN_PROFILE=$(CURDIR)/bin/profile INKAN_BIN=$(CURDIR)/bin/inkan-profile INKAN_TEST_FSYNC=1 INKAN_BENCH=api INKAN_BENCH_FOR=$(FOR) \
	$(GO) test -count=1 -timeout 30m -run '^TestBench$$' -v ./e2e | grep --line-buffered -E '^\||FAIL|_test.go'
	@ls bin/profile

bench-parts:
	$(GO) test $(FLAGS) -run '^$$' -bench . -benchmem ./internal/...

clean:
	rm -rf bin screens
