# Everything a person or a CI machine does here is a target below. Targets that
# need programs or privileges install or ask for them first, and say so.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Where Go's own installer puts it, which sudo forgets.
export PATH := $(PATH):/usr/local/go/bin

MODULE  := github.com/sealmesh/sealmesh
VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# What to test, and with which further flags: make test PKG=./internal/lane FLAGS=-v
PKG   ?= ./...
FLAGS ?=
# How long each fuzz target runs.
FUZZTIME ?= 30s
# The programs of this module, as ./bin names them.
BINARIES := $(patsubst cmd/%/,%,$(wildcard cmd/*/))

##@ See it

.PHONY: demo
demo: ## Seal two real programs on this machine and watch the wire (root)
	@scripts/deps demo
	@$(MAKE) build
	@./bin/sealmesh demo

.PHONY: lab
lab: ## The same, and leave the lab running to look around in (root)
	@scripts/deps demo
	@$(MAKE) build
	@./bin/sealmesh demo --keep

##@ Work on it

.PHONY: build
build: ## Build every program into ./bin
	@scripts/deps build
	@mkdir -p bin
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...
	@printf 'built %s: %s\n' '$(VERSION)' '$(BINARIES)'

.PHONY: test
test: ## Run every test: unit, race, lab and script; one summary at the end
	@scripts/deps --if-root test
	@go run ./scripts/testsum -- -race -shuffle=on -count=1 -timeout=15m $(FLAGS) $(PKG)

.PHONY: lint
lint: ## Check formatting, vet, the linters and the generated code
	@scripts/deps --if-root lint
	@scripts/lint

.PHONY: fuzz
fuzz: ## Fuzz every parser of outside bytes for FUZZTIME each (30s)
	@scripts/deps build
	@scripts/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## Measure direct, sealmesh, haproxy and nginx in one run (root)
	@scripts/deps bench
	@$(MAKE) build
	@go run ./test/bench $(FLAGS)

.PHONY: matrix
matrix: ## Judge captures of real programs, whole and damaged; print the matrix
	@scripts/deps build
	@go run ./test/captures matrix

.PHONY: captures
captures: ## Record those captures anew, or SCENES of them (root)
	@scripts/deps captures
	@$(MAKE) build
	@go run ./test/captures record $(SCENES)

.PHONY: bench-verify
bench-verify: ## Measure verify beside tshark and tcpdump in one run (root)
	@scripts/deps bench
	@$(MAKE) build
	@go run ./test/benchverify $(FLAGS)

.PHONY: golden
golden: ## Write the golden files anew and show what changed
	@scripts/deps build
	@scripts/golden

.PHONY: generate
generate: ## Write the code of the .proto files anew
	@scripts/deps generate
	@scripts/generate

.PHONY: all
all: lint test build ## Lint, test and build

.PHONY: clean
clean: ## Remove what was built and cached here
	@rm -rf bin dist .cache

.PHONY: help
help: ## Show this page
	@awk -v color="$$([[ -t 1 ]] && echo 1)" -f scripts/help.awk $(MAKEFILE_LIST)
