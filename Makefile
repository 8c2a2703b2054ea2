# The same commands for people and for CI. All of them run as an ordinary user and call sudo
# themselves where root is needed; as root they need no sudo.

.NOTPARALLEL:
.PHONY: help setup build demo lab check test test-privileged fmt fmt-check clippy deny clean
.DEFAULT_GOAL := help

CARGO ?= cargo
# Both tiers, so that they share one build. The feature `fault` lets tests make each step fail; the
# tared of `build`, which system-tests starts, is made without it.
TESTS := --locked --workspace --all-features

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the Debian packages that the other targets need and that are missing
	tools/setup.sh

build: ## Build tared and tarectl
	$(CARGO) build --locked -p tare-service -p tarectl

demo: setup build ## Run a container end to end on a private bus, and show every call
	tools/demo.sh

lab: setup build ## A shell in a throw-away Debian 13 under systemd, with tared installed
	tools/setup.sh mmdebstrap systemd-container
	tools/lab.sh shell

check: setup fmt-check clippy test test-privileged ## All that a change has to pass

test: ## Tests that run anywhere, as an ordinary user
	$(CARGO) test $(TESTS) -- --skip privileged_

test-privileged: setup build ## Tests named privileged_*: as root, in namespaces of their own
	tools/as-root.sh $(CARGO) test $(TESTS) --tests -- privileged_

fmt: ## Format the code
	$(CARGO) fmt --all

fmt-check:
	$(CARGO) fmt --all --check

clippy: ## Lints, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

deny: ## Licences, sources and duplicates of dependencies, if cargo-deny is there
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check licenses bans sources; \
	else echo "cargo-deny is not installed; nothing checked"; fi

clean: ## Remove what was built
	$(CARGO) clean
